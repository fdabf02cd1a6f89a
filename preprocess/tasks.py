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
from preprocess.kinds import prepare_scan
from preprocess.machine import total_bytes
from preprocess.plan import Claim
from preprocess.pseudonyms import sayable
from preprocess.recheck import digest_of
from preprocess.recipe import VolumeRecipe
from preprocess.scan_memory import WORKER_BYTES, gigabytes, memory_of, require_memory
from preprocess.sources.reach import read_mask_file, read_scan
from preprocess.storage import Location, Options
from preprocess.store import content_digest
from preprocess.types import Finding, Scan
from preprocess.volumes import Prepared, ScanFile, prepare_volumes
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
        scan_bytes: memory that one scan may take; None for all that the machine of the worker has, on a cluster.
    """

    store_uri: str
    options: Options
    source_uri: str
    source_options: Options
    recipe: VolumeRecipe
    records_folder: str
    scan_bytes: int | None = None


def run_task(work: Work, claims: Iterable[Claim], number: int) -> int:
    """Write the rows of one task, then its record; returns the task's number."""
    write_records(work, store_scans(work, claims), number)
    return number


def together(recipe: VolumeRecipe, claims: Iterable[Claim]) -> list[tuple[Claim, ...]]:
    """Claims that one process has to do at once: a person's of one modality where they are registered, else each alone.

    Args:
        recipe: how a scan becomes a row.
        claims: those of a task.
    """
    if recipe.registration != "subject":
        return [(claim,) for claim in claims]
    groups: dict[tuple[str, str, str], list[Claim]] = {}
    for claim in claims:
        groups.setdefault((claim.scan.cohort, claim.scan.subject_id, claim.scan.modality), []).append(claim)
    return [tuple(group) for group in groups.values()]


def store_scans(work: Work, claims: Iterable[Claim]) -> list[IndexRecord]:
    """Write the rows of some claims; what the index will hold of them."""
    source = Location(work.source_uri, work.source_options)
    # Opened when the first row is there: a modality without any readable file may have no array.
    rows_of = cache(partial(open_rows, Location(work.store_uri, work.options)))
    records = [
        _store(claim, data, prepared, work, rows_of)
        for group in together(work.recipe, claims)
        for claim, (data, prepared) in zip(group, _prepared(group, source, work), strict=True)
    ]
    return in_order(records)


def in_order(records: Iterable[IndexRecord]) -> list[IndexRecord]:
    """By row and modality, as the claims of a task are, with which a run that goes on compares them."""
    return sorted(records, key=lambda record: (record.row, record.modality))


def write_records(work: Work, records: Iterable[IndexRecord], number: int) -> None:
    """Leave the record of a task, last: a run that goes on takes it as proof that all rows of the task are written."""
    text = json.dumps([record.to_dict() for record in records]).encode()
    Location(work.store_uri, work.options).write(record_name(work.records_folder, number), text)


def ended_worker(claim: Claim, times: int) -> IndexRecord:
    """What the index holds of a scan that ended the process which read it.

    Nothing is said of the file's bytes, so that the next run reads it again in a worker, and never in the process that
    plans.

    Args:
        claim: the scan and its row.
        times: how often it did.
    """
    message = (
        f"{claim.scan.name}: reading it ended its worker {times} times, out of memory or in a reader that crashed; "
        "run again where there is more memory, or export the scan again"
    )
    return _record(claim, b"", Prepared(None, (Finding("ends_worker", message),)))


def _prepared(group: Sequence[Claim], source: Location, work: Work) -> list[tuple[bytes, Prepared]]:
    """The file of each claim, and what became of it; whatever is wrong with a scan itself is a finding."""
    read = [_read(claim, source, work) for claim in group]
    files = [one for one in read if isinstance(one, ScanFile)]
    try:
        if work.recipe.registration == "subject" and work.recipe.kind_of(group[0].scan.modality) == "volume":
            done = iter(prepare_volumes(files, work.recipe))
        else:
            done = iter([_prepare(file, group[0].scan, work.recipe) for file in files])
    except (MemoryError, RuntimeError) as error:
        done = iter([Prepared(None, (_no_memory(file.name, error, work),)) for file in files])
    return [(one.data, next(done)) if isinstance(one, ScanFile) else one for one in read]


def _read(claim: Claim, source: Location, work: Work) -> ScanFile | tuple[bytes, Prepared]:
    """A scan's file, or what there was of it and why it cannot be used."""
    scan, recipe, data = claim.scan, work.recipe, b""
    try:
        require_memory(claim.num_bytes, _scan_bytes(work), name=scan.name)
        data = read_scan(source, scan)
        require_memory(memory_of(data, len(data), scan, recipe), _scan_bytes(work), name=scan.name)
        require_type(data, scan.uri, recipe.kind_of(scan.modality), modality=scan.modality, name=scan.name)
        return ScanFile(data, scan.name, read_mask_file(scan))
    except ScanError as error:
        return data, Prepared(None, (error.finding,))
    except (MemoryError, RuntimeError) as error:
        return data, Prepared(None, (_no_memory(scan.name, error, work),))


def _prepare(file: ScanFile, scan: Scan, recipe: VolumeRecipe) -> Prepared:
    try:
        return prepare_scan(file.data, scan, recipe, mask=file.mask)
    except ScanError as error:
        return Prepared(None, (error.finding,))


def _store(claim: Claim, data: bytes, prepared: Prepared, work: Work, rows_of: Callable[[str], Rows]) -> IndexRecord:
    """Write one scan's row, where there is one, and make its record."""
    scan = claim.scan
    try:
        if prepared.values is not None:
            array = rows_of(scan.modality)
            if work.recipe.kind_of(scan.modality) == "array":
                ArrayForm.of_rows(array).check(prepared, name=scan.name)
            write_row(array, work.store_uri, claim.row, prepared.values)
    except ScanError as error:
        prepared = Prepared(None, (error.finding,))
    except (MemoryError, RuntimeError) as error:
        prepared = Prepared(None, (_no_memory(scan.name, error, work),))
    return _record(claim, data, prepared)


def _scan_bytes(work: Work) -> int:
    return total_bytes() - WORKER_BYTES if work.scan_bytes is None else work.scan_bytes


def _no_memory(name: str, error: MemoryError | RuntimeError, work: Work) -> Finding:
    """The finding of a scan that was refused memory; raises what is another error."""
    if isinstance(error, RuntimeError) and "allocate memory" not in str(error):  # as PyTorch says MemoryError
        raise error
    there = gigabytes(_scan_bytes(work))
    message = f"{name}: the system refused the memory that reading it takes ({there} were planned)"
    remedy = "run again on a machine with more, with a higher ulimit -v, or resample or crop the scan"
    return Finding("too_much_memory", f"{message}; {remedy}")


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
