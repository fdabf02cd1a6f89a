"""One task of a plan: reads, transforms and writes a few scans, then leaves a record of them.

The record comes last, so that a task that was cut off is done again, to the same bytes.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial

from preprocess.errors import ScanError
from preprocess.file_types import require_type
from preprocess.forms import ArrayForm
from preprocess.index import IndexRecord
from preprocess.kinds import Prepared, prepare_scan
from preprocess.plan import Claim
from preprocess.pseudonyms import sayable
from preprocess.recheck import digest_of
from preprocess.recipe import VolumeRecipe
from preprocess.sources.reach import read_mask_file, read_scan
from preprocess.storage import Location, Options
from preprocess.store import content_digest
from preprocess.types import Scan
from preprocess.volumes import ScanFile, prepare_volumes
from preprocess.writer import Rows, open_rows, write_row


@dataclass(frozen=True, slots=True)
class Work:
    """What every task needs, picklable.

    Attributes:
        store_uri: where rows go.
        options: arguments of the store's file system.
        source_uri: folder that scan URIs lie under.
        source_options: arguments of the source's file system.
        recipe: how a scan becomes a row.
        records_folder: where the records of finished tasks go, relative to the store.
    """

    store_uri: str
    options: Options
    source_uri: str
    source_options: Options
    recipe: VolumeRecipe
    records_folder: str


def run_task(work: Work, claims: Iterable[Claim], number: int) -> int:
    """Write the rows of one task, then its record; returns the task's number."""
    store = Location(work.store_uri, work.options)
    source = Location(work.source_uri, work.source_options)
    # Opened when the first row is there: a modality without any readable file may have no array.
    rows_of = cache(partial(open_rows, store))
    records = _store_scans(list(claims), source, work.recipe, rows_of, work.store_uri)
    # The record last: a run that goes on takes it as proof that all rows of the task are written.
    text = json.dumps([record.to_dict() for record in records]).encode()
    store.write(record_name(work.records_folder, number), text)
    return number


def _store_scans(
    claims: Sequence[Claim], source: Location, recipe: VolumeRecipe, rows_of: Callable[[str], Rows], store_uri: str
) -> list[IndexRecord]:
    """Read, check, transform and write scans; whatever is wrong with a scan itself becomes a finding."""
    if recipe.registration != "subject":
        return [_store(claim, *_prepare(claim, source, recipe), recipe, rows_of, store_uri) for claim in claims]
    records = []
    for group in _groups(claims):
        if recipe.kind_of(group[0].scan.modality) != "volume":
            records += [_store(claim, *_prepare(claim, source, recipe), recipe, rows_of, store_uri) for claim in group]
            continue
        files = [_read(claim.scan, source, recipe) for claim in group]
        together = iter(prepare_volumes([one for one in files if isinstance(one, ScanFile)], recipe))
        for claim, file in zip(group, files, strict=True):
            data, prepared = (file.data, next(together)) if isinstance(file, ScanFile) else file
            records.append(_store(claim, data, prepared, recipe, rows_of, store_uri))
    # In the order of the claims, which a run that goes on compares them with.
    return sorted(records, key=lambda record: (record.row, record.modality))


def _groups(claims: Sequence[Claim]) -> list[list[Claim]]:
    """Scans of one person and modality together, in the order of their rows."""
    groups: dict[tuple[str, str, str], list[Claim]] = {}
    for claim in claims:
        groups.setdefault((claim.scan.cohort, claim.scan.subject_id, claim.scan.modality), []).append(claim)
    return list(groups.values())


def _read(scan: Scan, source: Location, recipe: VolumeRecipe) -> ScanFile | tuple[bytes, Prepared]:
    """A scan's file, or what there was of it and why it cannot be used."""
    data = b""
    try:
        data = read_scan(source, scan)
        require_type(data, scan.uri, recipe.kind_of(scan.modality), modality=scan.modality, name=scan.name)
        return ScanFile(data, scan.name, read_mask_file(scan))
    except ScanError as error:
        return data, Prepared(None, (error.finding,))


def _prepare(claim: Claim, source: Location, recipe: VolumeRecipe) -> tuple[bytes, Prepared]:
    data = b""
    try:
        data = read_scan(source, claim.scan)
        return data, prepare_scan(data, claim.scan, recipe, mask=read_mask_file(claim.scan))
    except ScanError as error:
        return data, Prepared(None, (error.finding,))


def _store(
    claim: Claim,
    data: bytes,
    prepared: Prepared,
    recipe: VolumeRecipe,
    rows_of: Callable[[str], Rows],
    store_uri: str,
) -> IndexRecord:
    """Write one scan's row, where there is one, and make its record."""
    scan = claim.scan
    try:
        if prepared.values is not None:
            array = rows_of(scan.modality)
            if recipe.kind_of(scan.modality) == "array":
                ArrayForm.of_rows(array).check(prepared, name=scan.name)
            write_row(array, store_uri, claim.row, prepared.values)
    except ScanError as error:
        prepared = Prepared(None, (error.finding,))
    return _record(claim, data, prepared)


def _record(claim: Claim, data: bytes, prepared: Prepared) -> IndexRecord:
    scan = claim.scan
    return IndexRecord(
        row=claim.row,
        modality=scan.modality,
        subject_id=scan.subject_id,
        session_id=scan.session_id,
        run=scan.run,
        day=scan.day,
        present=prepared.values is not None,
        site=scan.site,
        scanner=scan.scanner,
        spacing_mm=prepared.spacing_mm,
        affine=prepared.affine,
        source_uri=claim.source_name,
        source_sha256=digest_of(data),
        source_bytes=len(data),
        content_sha256=content_digest(prepared.values) if prepared.values is not None else "",
        findings=tuple(sayable(finding, scan) for finding in prepared.findings),
        outcomes=dict(scan.outcomes),
        cohort=scan.cohort,
        tissue=prepared.tissue,
        preparation=prepared.preparation,
    )


def record_name(records_folder: str, number: int) -> str:
    """Where the record of a finished task lies, relative to the store."""
    return f"{records_folder}/{number:06d}.json"
