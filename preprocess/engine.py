"""Runs a plan: reads files, transforms them, writes rows; on a pool of processes, resumable at any point.

A task's record is written after its rows, so a run that was killed repeats at most the tasks in flight, and repeats
them to the same bytes. Processes are spawned: gcsfs and torch do not survive a fork.
"""

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache, partial

import torch

from preprocess.accounts import describe, drop_replaced, write_account
from preprocess.errors import ScanError, StorageError, StoreError, UsageError
from preprocess.forms import ArrayForm, find_forms
from preprocess.index import IndexRecord
from preprocess.kinds import Prepared, prepare_scan
from preprocess.machine import num_cores
from preprocess.plan import Claim, Plan, make_plan
from preprocess.recipe import VolumeRecipe
from preprocess.schema import WORK_FOLDER, StoreManifest
from preprocess.sources import Listing, list_scans
from preprocess.sources.reach import read_scan
from preprocess.storage import Location, Options
from preprocess.store import Store, content_digest, read_manifest
from preprocess.types import Scan
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
    """Bring a store up to date with a source: list, plan, run; what is already stored stays.

    Args:
        source_uri: BIDS folder, plain folder of files of one modality, or CSV/TSV table; path or URL.
        store_uri: where the store is or shall be.
        recipe: how a scan becomes a row.
        workers: processes; 0 works in this one, None takes one per core.
        progress: called with scans done and scans in all.

    Raises:
        InterscanError: as `plan_run` and `run_plan`.
    """
    store = Location(store_uri)
    roll_forward(store)
    listing = list_scans(source_uri, recipe.modalities, kinds=recipe.kinds)
    plan = plan_run(listing, store, recipe)
    return run_plan(plan, listing, store, recipe, workers=workers, progress=progress)


def plan_run(listing: Listing, store: Location, recipe: VolumeRecipe) -> Plan:
    """Decide what a run would do; writes nothing, and reads files only for the form of array modalities.

    Raises:
        UsageError: the source holds no scan of the recipe's modalities.
        StoreError: the store is of another recipe, or a stored scan has changed at its source.
    """
    if not listing.scans:
        wanted = ", ".join(recipe.modalities)
        seen = ", ".join(sorted(listing.other_modalities)) or "none"
        raise UsageError(f"{listing.root.uri}: no {wanted} scan found (other kinds there: {seen}); see --modality")
    stored: Sequence[IndexRecord] = ()
    retry_left_out = False
    if read_manifest(store) is not None:
        opened = Store.open(store)
        if opened.manifest.fingerprint != recipe.fingerprint():
            raise StoreError(
                f"{store.uri}: store fingerprint {opened.manifest.fingerprint} is not this recipe's "
                f"{recipe.fingerprint()}; use the recipe in its store.json, or another place for the store"
            )
        stored = opened.records
        retry_left_out = opened.manifest.recipe.quality != recipe.quality
    plan = make_plan(listing.scans, stored, recipe.fingerprint(), retry_left_out=retry_left_out)
    scans = [claim.scan for task in plan.tasks for claim in task]
    return replace(plan, forms=find_forms(scans, store, recipe, partial(_read_source, listing.root)))


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
    if manifest is not None and is_told and not plan.tasks and list(plan.kept) == Store.open(store).records:
        store.delete(WORK_FOLDER)  # what a run leaves that was cut off while it tidied up
        return manifest
    modalities = sorted(
        {claim.scan.modality for task in plan.tasks for claim in task} | {r.modality for r in plan.kept}
    )
    prepare_arrays(store, recipe, modalities, plan.num_rows, forms=plan.forms)
    records_folder = f"{WORK_FOLDER}/{plan.digest}"
    work = Work(store.uri, store.options, listing.root.uri, listing.root.options, recipe, records_folder)
    done = set(store.names(records_folder))
    waiting = [number for number in range(len(plan.tasks)) if _record_name(records_folder, number) not in done]
    total = sum(len(task) for task in plan.tasks)
    finished = total - sum(len(plan.tasks[number]) for number in waiting)
    for number in _run_tasks(work, plan, waiting, _num_workers(workers, store, listing.root, len(waiting))):
        finished += len(plan.tasks[number])
        if progress is not None:
            progress(finished, total)
    records = [*plan.kept, *_gather(store, records_folder, len(plan.tasks))]
    accounts = write_account(store, manifest, listing.cohort, listing.account)
    committed = commit(store, recipe, records, accounts)
    drop_replaced(store, manifest, accounts)
    return committed


def _num_workers(workers: int | None, store: Location, source: Location, num_tasks: int) -> int:
    if not (store.is_shared and source.is_shared):
        return 0
    wanted = num_cores() if workers is None else workers
    # A process costs seconds to start: not worth it for one task.
    return 0 if num_tasks <= 1 else min(wanted, num_tasks)


def _run_tasks(work: Work, plan: Plan, waiting: Sequence[int], workers: int) -> Iterator[int]:
    if workers == 0:
        for number in waiting:
            yield run_task(work, plan.tasks[number], number)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker) as pool:
        futures = [pool.submit(run_task, work, plan.tasks[number], number) for number in waiting]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            message = "a worker process was killed (out of memory?); run the same command again with fewer --workers"
            raise StorageError(f"{work.store_uri}: {message}") from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    torch.set_num_threads(1)


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
        source_sha256=hashlib.sha256(data).hexdigest() if data else "",
        source_bytes=len(data),
        content_sha256=content_digest(prepared.values) if prepared.values is not None else "",
        findings=prepared.findings,
        outcomes=dict(scan.outcomes),
    )


def _record_name(records_folder: str, number: int) -> str:
    return f"{records_folder}/{number:06d}.json"


def _gather(store: Location, records_folder: str, num_tasks: int) -> list[IndexRecord]:
    return [
        IndexRecord.from_dict(values)
        for number in range(num_tasks)
        for values in json.loads(store.read(_record_name(records_folder, number)))
    ]
