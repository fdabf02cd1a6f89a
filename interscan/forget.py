"""The verb forget: deletes one person from a store and from caches beside it."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from preprocess.console import EXIT_DONE, JsonFlag, emit


def forget(
    store: str,
    *,
    subject: str,
    cohort: str = "",
    cache: Annotated[tuple[Path, ...], Parameter(negative="")] = (),
    json: JsonFlag = False,
) -> int:
    """Delete one person from a store on request: objects, index entries, source account, and cached copies.

    Runs that trained, validated or tested on the person are refused from then on, and so is `embed` with artefacts that
    were exported from the store as it was; `preprocess` does not take the person in again. What is not reached: the raw
    scans, older versions of objects in the bucket, backups, and artefacts elsewhere: docs/deploy.md lists them.

    Args:
        store: the store's path or URL.
        subject: id of the person as the index has it, for example sub-03.
        cohort: name of the person's data set, where the store's subjects have one.
        cache: folder that `train --cache` filled; may be repeated.
        json: print the result as one JSON object on stdout.
    """
    from preprocess.forget import forget_person
    from preprocess.storage import Location
    from trainer.data.cache import DiskCache

    location = Location(store)
    deleted = forget_person(location, subject, cohort=cohort)
    for folder in cache:
        kept = DiskCache(folder, limit_bytes=1)
        for digest in deleted.content_sha256:
            kept.drop(digest)
    result = {"store": location.uri, "rows": deleted.num_rows, "objects": deleted.num_objects, "caches": len(cache)}
    text = (
        f"{deleted.num_rows} rows of {subject} are gone from {location.uri}, {deleted.num_objects} objects with them; "
        "runs and artefacts that knew the person are refused: train anew. Raw scans, versions and backups are yours to "
        "delete"
    )
    emit(result, text, as_json=json)
    return EXIT_DONE
