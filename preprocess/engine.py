"""Runs a plan: reads files, transforms them, writes rows; on a pool of processes, resumable at any point.

A task's record is written after its rows, so a run that was killed repeats at most the tasks in flight, and repeats
them to the same bytes. Processes are spawned: gcsfs and torch do not survive a fork.
"""

import json
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import as_completed
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache, partial

import torch

from preprocess.accounts import describe, drop_replaced, write_account
from preprocess.console import LOG
from preprocess.equal_content import with_findings
from preprocess.errors import ScanError, StoreError, UsageError
from preprocess.forms import ArrayForm, find_forms
from preprocess.index import IndexRecord
from preprocess.kinds import Prepared, prepare_scan
from preprocess.lease import STORE, held
from preprocess.machine import num_cores
from preprocess.people import Source, alike_ids, gone_from, refuse_another_name, refuse_other_people
from preprocess.plan import AS_STORED, Claim, Plan, make_plan
from preprocess.recheck import digest_of, judge, reread, source_digest
from preprocess.recipe import VolumeRecipe
from preprocess.schema import WORK_FOLDER, StoreManifest
from preprocess.sources import Listing, list_scans
from preprocess.sources.reach import read_scan
from preprocess.storage import Location, Options
from preprocess.store import Store, content_digest, read_manifest
from preprocess.surroundings import readable
from preprocess.types import Scan
from preprocess.workers import WorkerPool
from preprocess.writer import Rows, commit, open_rows, prepare_arrays, roll_forward, write_row


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


def preprocess(
    source_uri: str,
    store_uri: str,
    recipe: VolumeRecipe,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> StoreManifest:
    """Bring a store up to date with a source; what is already stored stays.

    Args:
        source_uri: BIDS folder, plain folder of files of one modality, or CSV/TSV table; path or URL.
        store_uri: where the store is or shall be.
        recipe: how a scan becomes a row.
        workers: processes; 0 works in this one, None takes one per core.
        progress: called with scans done and scans in all.

    Raises:
        InterscanError: as `update`.
    """
    listing = list_scans(source_uri, recipe.modalities, kinds=recipe.kinds)
    _, manifest = update(listing, Location(store_uri), recipe, workers=workers, progress=progress)
    return manifest


def update(
    listing: Listing,
    store: Location,
    recipe: VolumeRecipe,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Plan, StoreManifest]:
    """Bring a store up to date with a listing, while no other process writes to it.

    Args:
        listing: the source's scans.
        store: where the store is or shall be.
        recipe: how a scan becomes a row.
        workers: processes; 0 works in this one, None takes one per core.
        progress: called with scans done and scans in all.

    Returns:
        What was to be done, and the manifest of the store now.

    Raises:
        StoreError: another process writes to the store, or took it over before this one was done.
        InterscanError: as `plan_run` and `run_plan`.
    """
    # From before the plan, which gives out rows, to after the commit, which makes them true.
    with held(store, STORE) as leased:

        def report(done: int, total: int) -> None:
            leased.require()
            if progress is not None:
                progress(done, total)

        roll_forward(leased)
        plan = plan_run(listing, leased, recipe)
        return plan, run_plan(plan, listing, leased, recipe, workers=workers, progress=report)


def plan_run(listing: Listing, store: Location, recipe: VolumeRecipe) -> Plan:
    """Decide what a run would do; writes nothing, and reads only files of stored scans and of array modalities.

    Raises:
        UsageError: the source holds no scan of the recipe's modalities, or its subjects are not those that the store
            has under their ids.
        StoreError: the store is of another recipe, or a stored scan has changed at its source.
    """
    if not listing.scans:
        wanted = ", ".join(recipe.modalities)
        others = ", ".join(sorted(listing.other_modalities)) or "none"
        raise UsageError(f"{listing.root.uri}: no {wanted} scan found (other kinds there: {others}); see --modality")
    scans = listing.scans
    stored: Sequence[IndexRecord] = ()
    seen = AS_STORED
    read = partial(_read_source, listing.root)
    if read_manifest(store) is not None:
        opened = Store.open(store)
        if opened.manifest.fingerprint != recipe.fingerprint():
            raise StoreError(
                f"{store.uri}: store fingerprint {opened.manifest.fingerprint}: "
                f"{recipe.unlike(opened.manifest.fingerprint)}"
            )
        stored = opened.records
        seen = reread(scans, stored, read, partial(judge, store=store, recipe=recipe))
    plan = make_plan(scans, stored, recipe.fingerprint(), reread=seen)
    source = Source(
        uri=listing.root.uri,
        cohort=listing.cohort,
        is_claimed=listing.cohort_given,
        names=listing.names | {name for _, name, _ in scans},
    )
    digest = partial(source_digest, listing.root)
    refuse_another_name(source, scans, stored, digest)
    refuse_other_people(source, scans, stored, seen.changed, digest)
    gone, note = gone_from(source, scans, stored)
    mine = [record for record in stored if record.cohort == listing.cohort]
    notes = (*alike_ids([*(scan for scan, _, _ in scans), *mine]), *([note] if note else ()))
    for remark in notes:
        LOG.warning("%s", remark)
    to_read = [claim.scan for task in plan.tasks for claim in task]
    return replace(plan, forms=find_forms(to_read, store, recipe, read), gone=gone, notes=notes)


def run_plan(
    plan: Plan,
    listing: Listing,
    store: Location,
    recipe: VolumeRecipe,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> StoreManifest:
    """Do what the plan says and commit the store.

    Args:
        plan: from `plan_run`.
        listing: the source's scans.
        store: where the store is.
        recipe: how a scan becomes a row.
        workers: processes; 0 works in this one, None takes one per core. memory:// always works in this one.
        progress: called with scans done and scans in all.

    Returns:
        The manifest that was written, or the present one when there was nothing to do.

    Raises:
        UsageError: fewer than 0 workers.
        StorageError: a bucket refuses, or a worker process was killed.
    """
    if workers is not None and workers < 0:
        raise UsageError(f"--workers {workers}: give 0 (work in this process) or more")
    manifest = read_manifest(store)
    is_told = manifest is not None and manifest.reconciliation.get(listing.cohort) == describe(listing.account)[0]
    if manifest is not None and is_told and not plan.tasks and _is_stored(plan.kept, store, manifest):
        store.delete(WORK_FOLDER)  # what a run leaves that was cut off while it tidied up
        return manifest
    modalities = sorted(
        {claim.scan.modality for task in plan.tasks for claim in task} | {r.modality for r in plan.kept}
    )
    prepare_arrays(store, recipe, modalities, plan.num_rows, forms=plan.forms)
    records_folder = f"{WORK_FOLDER}/{plan.digest}"
    work = Work(store.uri, store.options, listing.root.uri, listing.root.options, recipe, records_folder)
    done = _finished(store, records_folder, plan, partial(_read_source, listing.root))
    waiting = [number for number in range(len(plan.tasks)) if number not in done]
    total = sum(len(task) for task in plan.tasks)
    finished = total - sum(len(plan.tasks[number]) for number in waiting)
    num_workers = _num_workers(workers, store, listing.root, len(waiting))
    with closing(_run_tasks(work, plan, waiting, num_workers)) as numbers:
        for number in numbers:
            finished += len(plan.tasks[number])
            if progress is not None:
                progress(finished, total)
    records = [*plan.kept, *_gather(store, records_folder, len(plan.tasks))]
    accounts = write_account(store, manifest, listing.cohort, listing.account)
    committed = commit(store, recipe, records, accounts)
    drop_replaced(store, manifest, accounts)
    return committed


def _is_stored(records: Sequence[IndexRecord], store: Location, manifest: StoreManifest) -> bool:
    return with_findings(records, manifest.arrays) == Store.open(store).records


def _finished(store: Location, records_folder: str, plan: Plan, read: Callable[[Scan], bytes]) -> set[int]:
    """Tasks whose record an earlier run left, but for those of which a file has changed since."""
    left = set(store.names(records_folder))
    finished = set()
    for number, claims in enumerate(plan.tasks):
        name = _record_name(records_folder, number)
        if name in left and _still_holds(store.read(name), claims, read):
            finished.add(number)
    return finished


def _still_holds(text: bytes, claims: Sequence[Claim], read: Callable[[Scan], bytes]) -> bool:
    try:
        records = [IndexRecord.from_dict(values) for values in json.loads(text)]
    except (ValueError, TypeError, KeyError):
        return False  # of another version, or damaged: the task is done again
    return [(one.row, one.source_sha256) for one in records] == [
        (claim.row, digest_of(_read_or_nothing(claim.scan, read))) for claim in claims
    ]


def _read_or_nothing(scan: Scan, read: Callable[[Scan], bytes]) -> bytes:
    try:
        return read(scan)
    except ScanError:
        return b""


def _num_workers(workers: int | None, store: Location, source: Location, num_tasks: int) -> int:
    if not (store.is_shared and source.is_shared):
        return 0
    wanted = num_cores() if workers is None else workers
    # A process costs seconds to start: not worth it for one task.
    return 0 if num_tasks <= 1 else min(wanted, num_tasks)


def _run_tasks(work: Work, plan: Plan, waiting: Sequence[int], workers: int) -> Generator[int, None, None]:
    if workers == 0:
        for number in waiting:
            yield run_task(work, plan.tasks[number], number)
        return
    with WorkerPool(workers, where=work.store_uri) as pool:
        futures = [pool.submit(_run_task_alone, work, plan.tasks[number], number) for number in waiting]
        for future in as_completed(futures):
            yield future.result()


def _run_task_alone(work: Work, claims: Iterable[Claim], number: int) -> int:
    """A task in a worker, which shares the cores with the others."""
    torch.set_num_threads(1)
    return run_task(work, claims, number)


def run_task(work: Work, claims: Iterable[Claim], number: int) -> int:
    """Write the rows of one task, then its record; returns the task's number."""
    store = Location(work.store_uri, work.options)
    source = Location(work.source_uri, work.source_options)
    # Opened when the first row is there: a modality without any readable file may have no array.
    rows_of = cache(partial(open_rows, store))
    records = [_store_scan(claim, source, work.recipe, rows_of, work.store_uri) for claim in claims]
    text = json.dumps([record.to_dict() for record in records]).encode()
    store.write(_record_name(work.records_folder, number), text)
    return number


def _store_scan(
    claim: Claim, source: Location, recipe: VolumeRecipe, rows_of: Callable[[str], Rows], store_uri: str
) -> IndexRecord:
    """Read, check, transform and write one scan; whatever is wrong with the scan itself becomes a finding."""
    scan = claim.scan
    data = b""
    try:
        data = _read_source(source, scan)
        prepared = prepare_scan(data, scan, recipe)
        if prepared.values is not None:
            array = rows_of(scan.modality)
            if recipe.kind_of(scan.modality) == "array":
                ArrayForm.of_rows(array).check(prepared, name=scan.name)
            write_row(array, store_uri, claim.row, prepared.values)
    except ScanError as error:
        prepared = Prepared(None, (error.finding,))
    return _record(claim, data, prepared)


def _read_source(source: Location, scan: Scan) -> bytes:
    return read_scan(source, scan)


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
        findings=tuple(replace(finding, message=readable(finding.message)) for finding in prepared.findings),
        outcomes=dict(scan.outcomes),
        cohort=scan.cohort,
    )


def _record_name(records_folder: str, number: int) -> str:
    return f"{records_folder}/{number:06d}.json"


def _gather(store: Location, records_folder: str, num_tasks: int) -> list[IndexRecord]:
    return [
        IndexRecord.from_dict(values)
        for number in range(num_tasks)
        for values in json.loads(store.read(_record_name(records_folder, number)))
    ]
