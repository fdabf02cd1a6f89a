"""The verbs preprocess and verify."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from preprocess.console import EXIT_DONE, EXIT_LEFT_OUT, LOG, Assignments, JsonFlag, emit, progress
from preprocess.errors import InterscanError, UsageError
from preprocess.types import SourceKind

if TYPE_CHECKING:
    from preprocess.recipe import VolumeRecipe
    from preprocess.shards import Shard
    from preprocess.sources import Listing
    from preprocess.storage import Location

_MOST_LINES = 50
"""Scans left out that are named one by one in the text; JSON has all."""


def preprocess(
    source: str,
    store: str,
    *,
    recipe: Path | None = None,
    modality: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    cohort: str | None = None,
    series_rules: Path | None = None,
    masks: str | None = None,
    missing: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    not_missing: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    source_kind: SourceKind = "auto",
    tables: str | None = None,
    window_days: float | None = None,
    settings: Assignments = (),
    deidentify: Annotated[bool, Parameter(negative="")] = False,
    key_file: Path | None = None,
    linking_table: str | None = None,
    workers: int | None = None,
    cluster: str | None = None,
    shard: str | None = None,
    commit: Annotated[bool, Parameter(negative="")] = False,
    accept_left_out: Annotated[bool, Parameter(negative="")] = False,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    json: JsonFlag = False,
) -> int:
    """Turn raw scans into a store; run it again to go on after an interruption or to add new scans.

    Nothing at the source is lost in silence: files passed over, table rows without a scan, scans without a row, and
    columns and cells that are not used are counted in the summary, shown with examples on stderr, and listed by --json
    and in the store. docs/findings.md has the meaning and the remedy of each code.

    Args:
        source: BIDS folder, plain folder (SUBJECT.nii.gz, SUBJECT/SESSION.nii.gz or SUBJECT/VISIT/FILE.nii.gz; the
            modality that a file's name says is believed), folder of DICOM series, or CSV/TSV table with the columns
            path and subject_id and, where known, session_id, day or acq_time, run, modality, site, scanner and scores;
            path or URL. Links are followed. A folder that does not say which part of a name is the person is refused.
        store: where the store shall be: path, gs://, s3:// or memory://.
        recipe: TOML file with grid, spacing_mm, field_of_view, intensity_percentiles, dtype and [quality]; [kinds] says
            which modalities are clips, images or arrays, and [clip] and [image] how large they become.
        modality: BIDS suffix to keep, T1w when not given; may be repeated.
        cohort: name within which subjects are unique; the data set's own Name when not given.
        source_kind: dicom lists a folder as DICOM series, whatever else lies there; oasis3 and adni read a study's
            folders and tables (docs/oasis3.md, docs/adni.md); auto looks at the source, and takes BIDS, a plain folder,
            a table, or DICOM series where DICOM files that may be slices lie there and no NIfTI file.
        series_rules: TOML file with the rules that choose the DICOM series of a session; docs/dicom.md explains them.
        masks: folder of brain masks, one for each scan, called like it (docs/preparation.md); for a recipe with
            brain_mask = "given".
        missing: a score that means missing in a column, for example mmse=-4; may be repeated. Codes such as -4, -99 and
            999 are recognised by the column's other values when nothing is given, and each is reported.
        not_missing: a score that is one although it looks like a code, for example zscore=-4; may be repeated.
        tables: folder of the study's clinical tables, or one table; those that lie among the scans when not given.
        window_days: days by which a clinical visit may lie before or after a scan to give it its scores; 365 for oasis3
            and 90 for adni when not given.
        settings: one recipe value, for example spacing_mm=3 or kinds.LUS=clip; may be repeated.
        deidentify: store pseudonyms for people, sessions, sites and files, made with a key, and drop what else may name
            somebody; docs/deidentification.md says what that is and what it is not. Needs --key-file or
            INTERSCAN_DEIDENTIFY_KEY.
        key_file: file with the key, readable by its owner alone; the same key gives the same pseudonyms.
        linking_table: file to write that says which pseudonym is whose; local, outside the store.
        workers: processes; one per core when not given, 0 for none. Fewer are begun where the memory is not enough for
            scans as large as these; --dry-run says how much each takes.
        cluster: let a Ray cluster do the work: `auto` on one of its machines, HOST:PORT of its head, or ray://HOST:10001.
            Needs the extra `cluster` and interscan on every machine; docs/cluster.md.
        shard: do one share of the work, I/N counted from 0, for example 0/32 on the first of 32 machines; `auto` takes
            the number from Google Batch, Cloud Run jobs, a Slurm array or a Kubernetes indexed job.
        commit: after the last shard, make the store of what all have written; says which tasks are missing.
        accept_left_out: exit with 0 also when some scans are left out, for batch systems, to which 1 is a failure.
        dry_run: print the plan and write nothing.
        json: print the result as one JSON object on stdout.
    """
    import os

    from preprocess.deidentify import Deidentified, hidden_names, write_linking_table
    from preprocess.pseudonyms import Pseudonyms, read_key
    from preprocess.recipe import VolumeRecipe, override, parse, read_toml
    from preprocess.shards import read_shard
    from preprocess.sources import list_scans
    from preprocess.sources.masks import with_masks
    from preprocess.sources.sentinels import read_choice
    from preprocess.storage import Location

    if sum((shard is not None, commit, dry_run)) > 1:
        raise UsageError("--shard, --commit and --dry-run exclude each other; give one of them")
    if cluster is not None and (shard is not None or commit or dry_run or workers is not None):
        raise UsageError("--cluster shares the work out itself; leave --shard, --commit, --dry-run and --workers out")
    if not deidentify and (key_file is not None or linking_table is not None):
        option = "--key-file" if key_file is not None else "--linking-table"
        raise UsageError(f"{option} is for --deidentify; give that too")
    pseudonyms = Pseudonyms(read_key(key_file, os.environ)) if deidentify else None
    share = None if shard is None else read_shard(shard, os.environ)
    data = read_toml(recipe) if recipe is not None else {}
    if modality:
        data["modalities"] = list(modality)
    volumes = parse(VolumeRecipe, override(data, settings), where=str(recipe) if recipe else "preprocess")
    if (masks is not None) != (volumes.brain_mask == "given"):
        missing_part = "--set brain_mask=given" if masks is not None else "--masks with their folder"
        raise UsageError(f"brain masks: give {missing_part} too; one goes not without the other")
    location = Location(store)
    choice = read_choice(missing, not_missing)
    try:
        listing = list_scans(
            source,
            volumes.modalities,
            kinds=volumes.kinds,
            cohort=cohort,
            choice=choice,
            source_kind=source_kind,
            tables=tables,
            window_days=window_days,
            series_rules=series_rules,
        )
        if masks is not None:
            for line in with_masks(listing, Location(masks)):
                LOG.warning("%s", line)
    except InterscanError as error:
        if pseudonyms is None:
            raise
        raise hidden_names(error, source) from error
    do = partial(
        _bring,
        location=location,
        recipe=volumes,
        share=share,
        workers=workers,
        cluster=cluster,
        is_commit=commit,
        is_dry=dry_run,
    )
    if pseudonyms is None:
        return do(listing, accept_left_out=accept_left_out, json=json)
    hidden = Deidentified(listing, pseudonyms)
    for line in hidden.notes:
        LOG.warning("%s", line)
    if linking_table is not None:
        write_linking_table(hidden, linking_table, location)
    try:
        return do(hidden.listing, accept_left_out=accept_left_out, json=json)
    except InterscanError as error:
        raise hidden.hide(error) from error


def _bring(
    listing: "Listing",
    *,
    location: "Location",
    recipe: "VolumeRecipe",
    share: "Shard | None",
    workers: int | None,
    cluster: str | None,
    is_commit: bool,
    is_dry: bool,
    accept_left_out: bool,
    json: bool,
) -> int:
    """Bring a store up to date with a listing, and say what was done."""
    import preprocess.engine as engine
    from preprocess.cluster import connected
    from preprocess.equal_content import EQUAL_CONTENT, equal_lines, equal_scans
    from preprocess.forget import leave_forgotten
    from preprocess.shards import commit_shards, run_shard
    from preprocess.sources.people_account import people_json, people_lines
    from preprocess.store import Store

    account = listing.account
    for line in (*leave_forgotten(listing, location), *account.lines()):
        LOG.warning("%s", line)
    lost = [remark.message for remark in account.left_out]
    if is_dry:
        plan = engine.plan_run(listing, location, recipe)
        claims = [claim for task in plan.tasks for claim in task]
        memory = engine.memory_of_tasks(dict(enumerate(plan.tasks)), listing, location, recipe, workers=workers)
        result = {
            "dry_run": True,
            "found": len(listing.scans) + account.num_lost,
            "to_do": len(claims),
            "left_out": account.num_lost,
            "findings": lost,
            "kept_from_before": len(plan.kept),
            "gone_from_source": [record.full_name for record in plan.gone],
            "superseded": [record.full_name for record in plan.superseded],
            "rows": plan.num_rows,
            "fingerprint": recipe.fingerprint(),
            "cohort": listing.cohort,
            "memory": memory.to_dict(),
            "scans": [{"row": claim.row, "scan": claim.scan.name, "source": claim.source_name} for claim in claims],
            "reconciliation": account.to_dict(),
        }
        result |= {"people": people_json(listing.people)} if listing.people else {}
        counts = (
            f"{len(claims)} to do + {len(listing.scans) - len(claims)} stored before + {account.num_lost} left out = "
            f"{len(listing.scans) + account.num_lost} found"
        )
        lines = [
            *_lines("left out", lost),
            *people_lines(listing.people),
            *(f"row {claim.row}: {claim.scan.name}  {claim.source_name}" for claim in claims),
            *([memory.line()] if memory.needs else []),
            "; ".join(part for part in (counts, account.summary(), f"{plan.num_rows} rows; nothing written") if part),
        ]
        emit(result, "\n".join(lines), as_json=json)
        return EXIT_LEFT_OUT if lost else EXIT_DONE
    if share is not None:
        with progress("preprocess") as advance:
            plan = run_shard(listing, location, recipe, share, workers=workers, progress=advance)
        num_scans = sum(len(plan.tasks[number]) for number in share.tasks(plan))
        result = {"store": location.uri, "shard": share.index, "shards": share.count, "written": num_scans}
        text = (
            f"shard {share.index} of {share.count}: {num_scans} scans written; --commit makes the store of all shards"
        )
        emit({**result, "fingerprint": recipe.fingerprint()}, text, as_json=json)
        return EXIT_DONE
    if is_commit:
        plan, manifest = commit_shards(listing, location, recipe)
    else:
        with connected(cluster, where=location.uri) as machines, progress("preprocess") as advance:
            plan, manifest = engine.update(
                listing, location, recipe, workers=workers, cluster=machines, progress=advance
            )
    records = Store.open(location).records
    equal = equal_scans(records, manifest.arrays)
    left_out = [record for record in records if not record.present and record.superseded_by is None]
    superseded = [record for record in records if record.superseded_by is not None]
    reasons = [finding.message for record in left_out for finding in record.findings if finding.leaves_out] + lost
    # What two scans share has lines of its own.
    kept = [finding for record in records if record.present for finding in record.findings]
    remarks = [finding.message for finding in kept if finding.code != EQUAL_CONTENT]
    num_left_out = manifest.num_left_out + account.num_lost
    result = {
        "store": location.uri,
        "found": manifest.num_found + account.num_lost,
        "kept": manifest.num_kept,
        "left_out": num_left_out,
        "findings": reasons,
        "remarks": remarks,
        "gone_from_source": [record.full_name for record in plan.gone],
        "superseded": [[record.row, record.superseded_by, record.full_name] for record in superseded],
        "equal_content": [[record.full_name for record in group] for group in equal],
        "rows": manifest.num_rows,
        "fingerprint": manifest.fingerprint,
        "cohort": listing.cohort,
        "reconciliation": account.to_dict(),
    }
    result |= {"people": people_json(listing.people)} if listing.people else {}
    counts = f"{manifest.num_kept} kept + {num_left_out} left out = {manifest.num_found + account.num_lost} found"
    ending = f"store {location.uri}, fingerprint {manifest.fingerprint}"
    if superseded:
        ending = f"{len(superseded)} rows superseded by newer ones; {ending}"
    summary = "; ".join(part for part in (counts, account.summary(), ending) if part)
    lines = [
        *_lines("left out", reasons),
        *_lines("kept, but", remarks),
        *equal_lines(equal),
        *people_lines(listing.people),
        summary,
    ]
    emit(result, "\n".join(lines), as_json=json)
    return EXIT_LEFT_OUT if (left_out or lost) and not accept_left_out else EXIT_DONE


def _lines(title: str, messages: Sequence[str]) -> list[str]:
    """One line a message, as many as a person reads."""
    more = len(messages) - _MOST_LINES
    lines = [f"{title}: {message}" for message in messages[:_MOST_LINES]]
    return [*lines, f"{title}: {more} more; --json lists all"] if more > 0 else lines


def verify(store: str, *, cluster: str | None = None, json: JsonFlag = False) -> int:
    """Re-read every row of a store and name each damaged or missing one; exit code 3 when there is any.

    Args:
        store: the store's path or URL.
        cluster: let a Ray cluster read: `auto`, HOST:PORT or ray://HOST:10001; docs/cluster.md.
        json: print the result as one JSON object on stdout.
    """
    from dataclasses import asdict

    from preprocess.cluster import connected
    from preprocess.equal_content import equal_scans, summary
    from preprocess.errors import StoreError
    from preprocess.store import Store, verify_rows

    opened = Store.open(store)
    num_rows = opened.manifest.num_kept
    faults = []
    with connected(cluster, where=store) as machines, progress("verify") as advance:
        for done, fault in enumerate(verify_rows(opened, machines), start=1):
            advance(done, num_rows)
            if fault is not None:
                faults.append(fault)
    faults.sort(key=lambda fault: (fault.row, fault.modality))
    whole = num_rows - len(faults)
    equal = equal_scans(opened.records, opened.manifest.arrays)
    lines = [f"{fault.name}: {fault.reason}" for fault in faults]
    lines += [summary(equal)] if equal else []
    lines.append(f"{whole} of {num_rows} volumes whole, {len(faults)} damaged or missing")
    result = {
        "store": opened.location.uri,
        "rows": num_rows,
        "whole": whole,
        "faults": [asdict(fault) for fault in faults],
        "equal_content": [[record.full_name for record in group] for group in equal],
    }
    emit(result, "\n".join(lines), as_json=json)
    return StoreError.exit_code if faults else EXIT_DONE
