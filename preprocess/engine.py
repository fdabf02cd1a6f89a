"""Runs a plan: reads files, transforms them, writes rows; on a pool of processes, resumable at any point.

A task's record is written after its rows, so a run that was killed repeats at most the tasks in flight, and repeats
them to the same bytes. Processes are spawned: gcsfs and torch do not survive a fork.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

from preprocess.accounts import describe, drop_replaced, write_account
from preprocess.cluster import Cluster
from preprocess.console import LOG
from preprocess.deidentify import require_same_key
from preprocess.equal_content import with_findings
from preprocess.errors import ScanError, StoreError, UsageError
from preprocess.forget import leave_forgotten
from preprocess.forms import find_forms
from preprocess.index import IndexRecord, listed
from preprocess.lease import LEASE_NAME, SHARD, STORE, Lease, held
from preprocess.machine import available_bytes, num_cores
from preprocess.memory_plan import MemoryPlan, claim_needs, plan_memory
from preprocess.people import Source, alike_ids, gone_from, refuse_another_name, refuse_other_people
from preprocess.plan import AS_STORED, Claim, Plan, make_plan
from preprocess.preparation.imaging import require_imaging
from preprocess.recheck import digest_of, digest_reader, has_mask_of, judge, reread
from preprocess.recipe import VolumeRecipe
from preprocess.schema import SHARDS_FOLDER, WORK_FOLDER, StoreManifest
from preprocess.sources import Listing, list_scans
from preprocess.sources.reach import read_scan
from preprocess.storage import Location
from preprocess.store import Store, read_manifest
from preprocess.task_pool import run_here, run_on_cluster
from preprocess.tasks import Work, record_name
from preprocess.types import Scan
from preprocess.writer import commit, prepare_arrays, roll_forward


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
    store = Location(store_uri)
    listing = list_scans(source_uri, recipe.modalities, kinds=recipe.kinds)
    for line in leave_forgotten(listing, store):
        LOG.warning("%s", line)
    _, manifest = update(listing, store, recipe, workers=workers, progress=progress)
    return manifest


def update(
    listing: Listing,
    store: Location,
    recipe: VolumeRecipe,
    *,
    workers: int | None = None,
    cluster: Cluster | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Plan, StoreManifest]:
    """Bring a store up to date with a listing, while no other process writes to it.

    Args:
        listing: the source's scans.
        store: where the store is or shall be.
        recipe: how a scan becomes a row.
        workers: processes; 0 works in this one, None takes one per core.
        cluster: machines that do the work instead of processes of this one.
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

        require_no_shard(leased)
        roll_forward(leased)
        plan = plan_run(listing, leased, recipe)
        return plan, run_plan(plan, listing, leased, recipe, workers=workers, cluster=cluster, progress=report)


def require_no_shard(store: Location) -> None:
    """Refuse to plan rows while a shard writes some of its own.

    Raises:
        StoreError: names the process that does.
    """
    for name in store.names(SHARDS_FOLDER):
        if name.endswith(f"/{LEASE_NAME}"):
            Lease(store.child(name.removesuffix(f"/{LEASE_NAME}")), SHARD).require_free()


def plan_run(listing: Listing, store: Location, recipe: VolumeRecipe) -> Plan:
    """Decide what a run would do; writes nothing, and reads only files of stored scans and of array modalities.

    Raises:
        UsageError: SimpleITK is needed and not installed, the source holds no scan of the recipe's modalities, its
            subjects are not those that the store has under their ids, or one of the two has pseudonyms and the other
            none, or those of another key.
        StoreError: the store is of another recipe, or a visit that changed at its source is not whole there.
    """
    require_imaging(recipe)
    if not listing.scans:
        requested = ", ".join(recipe.modalities)
        others = ", ".join(sorted(listing.other_modalities)) or "none"
        raise UsageError(f"{listing.root.uri}: no {requested} scan found (other kinds there: {others}); see --modality")
    scans = listing.scans
    everything: Sequence[IndexRecord] = ()
    stored: Sequence[IndexRecord] = ()
    seen = AS_STORED
    read = partial(read_scan, listing.root)
    manifest = read_manifest(store)
    if manifest is not None:
        require_same_key(manifest.key_check, listing.key_check, where=store.uri)
        opened = Store.open(store)
        if opened.manifest.fingerprint != recipe.fingerprint():
            raise StoreError(
                f"{store.uri}: store fingerprint {opened.manifest.fingerprint}: "
                f"{recipe.unlike(opened.manifest.fingerprint)}"
            )
        everything = opened.records
        # What was superseded keeps its row, and says nothing of the source as it is.
        stored = [record for record in everything if record.superseded_by is None]
        seen = reread(scans, stored, read, partial(judge, store=store, recipe=recipe))
    by_person = recipe.registration == "subject"
    plan = make_plan(scans, everything, recipe.fingerprint(), reread=seen, is_by_person=by_person)
    source = Source(
        uri=listing.root.uri,
        cohort=listing.cohort,
        is_claimed=listing.cohort_given,
        names=listing.names | {name for _, name, _ in scans},
    )
    digest = digest_reader(listing.root, scans)
    refuse_another_name(source, scans, stored, digest)
    refuse_other_people(source, scans, stored, seen.changed, digest)
    gone, note = gone_from(source, scans, stored)
    mine = [record for record in stored if record.cohort == listing.cohort]
    notes = (*alike_ids([*(scan for scan, _, _ in scans), *mine]), *([note] if note else ()))
    for remark in (*notes, *_superseded(plan, is_by_person=by_person)):
        LOG.warning("%s", remark)
    to_read = [claim.scan for task in plan.tasks for claim in task]
    return replace(plan, forms=find_forms(to_read, store, recipe, read), gone=gone, notes=notes)


def _superseded(plan: Plan, *, is_by_person: bool) -> list[str]:
    """A line about the scans whose files changed; none without any."""
    if not plan.superseded:
        return []
    names = listed([record.name for record in plan.superseded])
    what = "1 stored scan is" if len(plan.superseded) == 1 else f"{len(plan.superseded)} stored scans are"
    whose = "person, whose visits are registered together," if is_by_person else "visit"
    return [
        f"{what} of a {whose} that changed at the source: {names}; stored anew in new rows, the old rows are marked"
    ]


def run_plan(
    plan: Plan,
    listing: Listing,
    store: Location,
    recipe: VolumeRecipe,
    *,
    workers: int | None = None,
    cluster: Cluster | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> StoreManifest:
    """Do what the plan says and commit the store.

    Args:
        plan: from `plan_run`.
        listing: the source's scans.
        store: where the store is.
        recipe: how a scan becomes a row.
        workers: processes; 0 works in this one, None takes one per core. memory:// always works in this one.
        cluster: machines that do the work instead of processes of this one.
        progress: called with scans done and scans in all.

    Returns:
        The manifest that was written, or the present one when there was nothing to do.

    Raises:
        UsageError: fewer than 0 workers.
        StorageError: a bucket refuses, or a worker process was killed.
    """
    manifest = read_manifest(store)
    is_reported = manifest is not None and manifest.reconciliation.get(listing.cohort) == describe(listing.account)[0]
    if manifest is not None and is_reported and not plan.tasks and _is_stored(plan.kept, store, manifest):
        store.delete(WORK_FOLDER)  # what a run leaves that was cut off while it tidied up
        return manifest
    numbers = range(len(plan.tasks))
    write_tasks(plan, numbers, listing, store, recipe, workers=workers, cluster=cluster, progress=progress)
    return commit_plan(plan, listing, store, recipe)


def write_tasks(
    plan: Plan,
    numbers: Sequence[int],
    listing: Listing,
    store: Location,
    recipe: VolumeRecipe,
    *,
    workers: int | None = None,
    cluster: Cluster | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the rows and records of some tasks of a plan; those that an earlier run finished are left alone.

    Args:
        plan: from `plan_run`.
        numbers: indices of the tasks in `plan.tasks`.
        listing: the source's scans.
        store: where the store is.
        recipe: how a scan becomes a row.
        workers: processes; 0 works in this one, None takes one per core. memory:// always works in this one.
        cluster: machines that do the work instead of processes of this one.
        progress: called with scans done and scans in all.

    Raises:
        UsageError: fewer than 0 workers.
        StorageError: a bucket refuses, or a worker process was killed.
    """
    if workers is not None and workers < 0:
        raise UsageError(f"--workers {workers}: give 0 (work in this process) or more")
    modalities = sorted(
        {claim.scan.modality for task in plan.tasks for claim in task} | {r.modality for r in plan.kept}
    )
    prepare_arrays(store, recipe, modalities, plan.num_rows, forms=plan.forms)
    records_folder = _records_folder(plan)
    work = Work(store.uri, store.options, listing.root.uri, listing.root.options, recipe, records_folder)
    if cluster is not None:
        cluster.require_reach(listing.root, written=store)
    done = _finished(store, plan, numbers, partial(read_scan, listing.root))
    waiting = [number for number in numbers if number not in done]
    total = sum(len(plan.tasks[number]) for number in numbers)
    finished = total - sum(len(plan.tasks[number]) for number in waiting)
    tasks = {number: plan.tasks[number] for number in waiting}
    if cluster is None:
        if workers is None and len(numbers) > 1 >= len(waiting):
            workers = 1  # the one that is left may be the one that ended an earlier run
        memory = memory_of_tasks(tasks, listing, store, recipe, workers=workers)
        if memory.is_short or memory.too_large:
            LOG.warning("%s", memory.line())
        written_by = run_here(replace(work, scan_bytes=memory.scan_bytes), tasks, memory)
    else:
        written_by = run_on_cluster(work, tasks, cluster)
    with closing(written_by) as written:
        for number in written:
            finished += len(plan.tasks[number])
            if progress is not None:
                progress(finished, total)


def commit_plan(plan: Plan, listing: Listing, store: Location, recipe: VolumeRecipe) -> StoreManifest:
    """Make a store of the rows that all tasks of a plan have written.

    Raises:
        StorageError: a bucket refuses.
        StoreError: the record of a task is missing.
    """
    before = read_manifest(store)
    records = [*plan.kept, *_gather(store, _records_folder(plan), len(plan.tasks))]
    accounts = write_account(store, before, listing.cohort, listing.account)
    committed = commit(store, recipe, records, accounts, key_check=listing.key_check)
    drop_replaced(store, before, accounts)
    return committed


def memory_of_tasks(
    tasks: Mapping[int, Sequence[Claim]],
    listing: Listing,
    store: Location,
    recipe: VolumeRecipe,
    *,
    workers: int | None = None,
) -> MemoryPlan:
    """How much memory tasks of a plan take, and how many workers are begun for them; reads the start of each file.

    Args:
        tasks: claims of each task, by number.
        listing: the source's scans.
        store: where the store is or shall be.
        recipe: how a scan becomes a row.
        workers: as `run_plan` takes them.

    Raises:
        UsageError: fewer than 0 workers.
        StorageError: the source's bucket refuses.
    """
    if workers is not None and workers < 0:
        raise UsageError(f"--workers {workers}: give 0 (work in this process) or more")
    needs = claim_needs(tasks, listing.root, recipe)
    num_workers = _num_workers(workers, store, listing.root, len(tasks))
    return plan_memory(tasks, needs, workers=num_workers, free_bytes=available_bytes())


def unwritten(plan: Plan, store: Location) -> list[int]:
    """Numbers of the tasks of a plan that have left no record yet."""
    left = set(store.names(_records_folder(plan)))
    return [number for number in range(len(plan.tasks)) if record_name(_records_folder(plan), number) not in left]


def _records_folder(plan: Plan) -> str:
    return f"{WORK_FOLDER}/{plan.digest}"


def _is_stored(records: Sequence[IndexRecord], store: Location, manifest: StoreManifest) -> bool:
    return with_findings(records, manifest.arrays) == Store.open(store).records


def _finished(store: Location, plan: Plan, numbers: Sequence[int], read: Callable[[Scan], bytes]) -> set[int]:
    """Tasks whose record an earlier run left, but for those of which a file has changed since."""
    left = set(store.names(_records_folder(plan)))
    finished = set()
    for number in numbers:
        name = record_name(_records_folder(plan), number)
        if name in left and _still_holds(store.read(name), plan.tasks[number], read):
            finished.add(number)
    return finished


def _still_holds(text: bytes, claims: Sequence[Claim], read: Callable[[Scan], bytes]) -> bool:
    try:
        records = [IndexRecord.from_dict(values) for values in json.loads(text)]
    except (ValueError, TypeError, KeyError):
        return False  # of another version, or damaged: the task is done again
    if any(one.source_bytes == 0 < claim.num_bytes for one, claim in zip(records, claims, strict=False)):
        return False  # too large to be read, or the end of its worker: neither is read here
    return [(one.row, one.source_sha256) for one in records] == [
        (claim.row, digest_of(_read_or_nothing(claim.scan, read))) for claim in claims
    ] and all(has_mask_of(one, claim.scan) for one, claim in zip(records, claims, strict=True))


def _read_or_nothing(scan: Scan, read: Callable[[Scan], bytes]) -> bytes:
    try:
        return read(scan)
    except ScanError:
        return b""


def _num_workers(workers: int | None, store: Location, source: Location, num_tasks: int) -> int:
    if not (store.is_shared and source.is_shared):
        return 0
    if workers is not None:
        return min(workers, num_tasks)
    # A process costs seconds to start: not worth it for one task.
    return 0 if num_tasks <= 1 else min(num_cores(), num_tasks)


def _gather(store: Location, records_folder: str, num_tasks: int) -> list[IndexRecord]:
    return [
        IndexRecord.from_dict(values)
        for number in range(num_tasks)
        for values in json.loads(store.read(record_name(records_folder, number)))
    ]
