"""A cohort preprocessed by many machines: each does its share of one plan, and a last call makes the store of it.

All machines list the same source and make the same plan, so no machine has to coordinate them: shard I of N
does the tasks whose number leaves I when divided by N. Tasks write disjoint objects and leave records, in any order and
as often as a machine is taken away. The commit gathers the records; the bytes are those of one run on one machine.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from preprocess import engine
from preprocess.errors import StoreError, UsageError
from preprocess.lease import SHARD, STORE, Lease, held
from preprocess.plan import Plan
from preprocess.recipe import VolumeRecipe
from preprocess.schema import SHARDS_FOLDER, StoreManifest
from preprocess.sources import Listing
from preprocess.storage import Location
from preprocess.writer import roll_forward

_PLATFORMS = {
    "Google Batch": ("BATCH_TASK_INDEX", "BATCH_TASK_COUNT"),
    "Cloud Run jobs": ("CLOUD_RUN_TASK_INDEX", "CLOUD_RUN_TASK_COUNT"),
    "Slurm arrays from 0": ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    "Kubernetes indexed jobs": ("JOB_COMPLETION_INDEX", "INTERSCAN_SHARDS"),
}
"""Where each platform says which task this is and how many there are; Kubernetes does not say the second."""
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Shard:
    """One share of a plan: `index` of `count`, counted from 0."""

    index: int
    count: int

    def tasks(self, plan: Plan) -> list[int]:
        """Numbers of its tasks."""
        return list(range(self.index, len(plan.tasks), self.count))


def read_shard(text: str, environ: Mapping[str, str]) -> Shard:
    """`I/N`, counted from 0, or `auto` for what the platform says.

    Raises:
        UsageError: neither, or a share that is not there.
    """
    given = text
    if text == "auto":
        for index, count in _PLATFORMS.values():
            if index in environ and count in environ:
                text = f"{environ[index]}/{environ[count]}"
                break
        else:
            known = "; ".join(f"{name}: {index}, {count}" for name, (index, count) in _PLATFORMS.items())
            raise UsageError(f"--shard auto: no task number in the environment ({known}); give --shard I/N")
    index_text, slash, count_text = text.partition("/")
    if not (slash and index_text.isdecimal() and count_text.isdecimal()):
        raise UsageError(f"--shard {given}: write I/N, counted from 0, for example --shard 0/32")
    shard = Shard(int(index_text), int(count_text))
    if shard.index >= shard.count:
        raise UsageError(f"--shard {text}: there are {shard.count} shards, counted from 0 to {shard.count - 1}")
    return shard


def run_shard(
    listing: Listing,
    store: Location,
    recipe: VolumeRecipe,
    shard: Shard,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Plan:
    """Write one share of the rows; the store is made of them by `commit_shards`.

    Args:
        listing: the source's scans, the same for all shards.
        store: where the store shall be.
        recipe: how a scan becomes a row.
        shard: which share.
        workers: processes; 0 works in this one, None takes one per core.
        progress: called with scans done and scans of this share.

    Raises:
        StoreError: a whole run writes the store, or another process the same shard.
        InterscanError: as `engine.plan_run` and `engine.write_tasks`.
    """
    with held(store.child(f"{SHARDS_FOLDER}/{shard.index}-of-{shard.count}"), SHARD) as leased:
        Lease(store, STORE).require_free()

        def report(done: int, total: int) -> None:
            leased.require()
            if progress is not None:
                progress(done, total)

        plan = engine.plan_run(listing, store, recipe)
        engine.write_tasks(plan, shard.tasks(plan), listing, store, recipe, workers=workers, progress=report)
        return plan


def commit_shards(listing: Listing, store: Location, recipe: VolumeRecipe) -> tuple[Plan, StoreManifest]:
    """Make the store of what all shards have written; again, it changes nothing.

    Args:
        listing: the source's scans, as the shards listed them.
        store: where the shards wrote.
        recipe: as theirs.

    Raises:
        StoreError: tasks are missing, a shard still writes, or a whole run does.
        InterscanError: as `engine.plan_run`.
    """
    with held(store, STORE) as leased:
        engine.require_no_shard(leased)
        roll_forward(leased)
        plan = engine.plan_run(listing, leased, recipe)
        missing = engine.unwritten(plan, leased)
        if missing:
            shown = ", ".join(str(number) for number in missing[:_SHOWN])
            more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
            raise StoreError(
                f"{store.uri}: {len(missing)} of {len(plan.tasks)} tasks are not written (task {shown}{more}; shard I "
                "of N does those that leave I when divided by N); run their shards again, with this source and recipe"
            )
        if not plan.tasks:  # committed before, or with new facts about old scans only
            return plan, engine.run_plan(plan, listing, leased, recipe, workers=0)
        # The records say what was read; to read every file once more would cost as much as a shard.
        return plan, engine.commit_plan(plan, listing, leased, recipe)
