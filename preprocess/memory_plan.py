"""How many workers the memory is enough for: decided before work begins, from what each scan takes at most.

A scan that is too large for the machine is left out with a finding when its turn comes, so that nothing is unpacked. A
task is begun only while all that run fit together, so a few large scans do not hold up the others.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from preprocess.errors import ScanError
from preprocess.plan import Claim
from preprocess.recipe import VolumeRecipe
from preprocess.scan_memory import START_BYTES, WORKER_BYTES, gigabytes, memory_of
from preprocess.sources.reach import read_start
from preprocess.storage import Location

_LOCAL_READERS, _REMOTE_READERS = 8, 32
"""As many files are looked at at once; a bucket answers many after the time of one."""
_SLICE = 4096


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What work on some tasks takes, and what is there.

    Attributes:
        needs: bytes that each task takes beyond an idle worker, by number: those of its largest scan that fits.
        scan_bytes: most that a scan may take; beyond it the scan is left out.
        largest: name of the scan that takes most of those that fit, empty without any.
        largest_bytes: what it takes beyond an idle worker.
        too_large: names of the scans that do not fit, with what they take.
        workers: processes that were wanted; 0 works in this one.
        at_once: processes that are begun.
        free_bytes: memory that is there.
    """

    needs: Mapping[int, int]
    scan_bytes: int
    largest: str
    largest_bytes: int
    too_large: tuple[tuple[str, int], ...]
    workers: int
    at_once: int
    free_bytes: int

    @property
    def worker_bytes(self) -> int:
        """What a worker takes at most; beyond this process as it is now where it works itself."""
        return self.largest_bytes + (WORKER_BYTES if self.workers else 0)

    @property
    def is_short(self) -> bool:
        """Whether not as many of the largest scans fit as workers were wanted."""
        return self.workers > 1 and self.workers * self.worker_bytes > self.free_bytes

    def line(self) -> str:
        """What is told of it before work begins; empty where there is no work."""
        if not self.needs:
            return ""
        each = f"up to {gigabytes(self.worker_bytes)} {'a worker' if self.workers else 'of memory'} ({self.largest})"
        if not self.largest:
            each = "no scan that can be read"
        text = f"memory: {each}, {gigabytes(self.free_bytes)} free"
        if self.workers:
            text += f"; {self.workers} workers take up to {gigabytes(self.workers * self.worker_bytes)}"
        if self.is_short:
            begun = f"{self.at_once} are begun" if self.at_once < self.workers else "the largest wait for each other"
            text += f", so {begun}; for more at once free memory, or use a machine with more"
        if self.too_large:
            name, num_bytes = max(self.too_large, key=lambda one: one[1])
            text += f"; {len(self.too_large)} too large and left out, the largest {name} ({gigabytes(num_bytes)})"
        return text

    def to_dict(self) -> dict[str, object]:
        """For JSON, all in bytes."""
        return {
            "worker_bytes": self.worker_bytes,
            "largest_scan": self.largest,
            "workers": self.workers,
            "at_once": self.at_once,
            "free_bytes": self.free_bytes,
            "too_large": [{"scan": name, "bytes": num_bytes} for name, num_bytes in self.too_large],
        }


def plan_memory(
    tasks: Mapping[int, Sequence[Claim]], needs: Mapping[int, Sequence[int]], *, workers: int, free_bytes: int
) -> MemoryPlan:
    """Decide how many workers are begun.

    Args:
        tasks: claims of each task, by number.
        needs: bytes that each claim takes, from `claim_needs`.
        workers: processes that are wanted; 0 works in this one.
        free_bytes: memory that is there.
    """
    scan_bytes = max(0, free_bytes - (WORKER_BYTES if workers else 0))
    fitting: dict[int, int] = {}
    too_large: list[tuple[str, int]] = []
    largest, largest_bytes = "", 0
    for number, claims in tasks.items():
        fitting[number] = 0
        for claim, needed in zip(claims, needs[number], strict=True):
            if needed > scan_bytes:
                too_large.append((claim.scan.name, needed))
                continue
            fitting[number] = max(fitting[number], needed)
            if needed > largest_bytes or not largest:
                largest, largest_bytes = claim.scan.name, needed
    begun, taken = 0, 0
    for needed in sorted(fitting.values())[:workers]:
        taken += needed + WORKER_BYTES
        if taken > free_bytes and begun:
            break
        begun += 1
    return MemoryPlan(fitting, scan_bytes, largest, largest_bytes, tuple(too_large), workers, begun, free_bytes)


def claim_needs(
    tasks: Mapping[int, Sequence[Claim]], source: Location, recipe: VolumeRecipe
) -> dict[int, tuple[int, ...]]:
    """Bytes that each claim of some tasks takes, from the start of each file.

    Args:
        tasks: claims of each task, by number.
        source: folder or bucket that was listed.
        recipe: kinds and sizes.

    Raises:
        StorageError: the source's own bucket refuses.
    """

    def ask(claim: Claim) -> int:
        try:
            start = read_start(source, claim.scan, START_BYTES)
        except ScanError:
            return claim.num_bytes  # named when its turn comes
        return memory_of(start, max(claim.num_bytes, len(start)), claim.scan, recipe)

    with ThreadPoolExecutor(_LOCAL_READERS if source.is_local else _REMOTE_READERS) as pool:
        numbers = iter(tasks)
        found: dict[int, tuple[int, ...]] = {}
        # Some at a time: a million waiting calls would take more memory than the scans.
        while some := list(islice(numbers, _SLICE)):
            asked = pool.map(ask, [claim for number in some for claim in tasks[number]])
            found |= {number: tuple(islice(asked, len(tasks[number]))) for number in some}
    if recipe.registration == "subject":  # the files of a person are held together
        held = {number: sum(claim.num_bytes for claim in claims) for number, claims in tasks.items()}
        found = {number: tuple(need + held[number] for need in needs) for number, needs in found.items()}
    return found


def begin_next(waiting: Iterable[int], running: Iterable[int], plan: MemoryPlan) -> int | None:
    """The task to begin now: the first that fits beside those that run; None where none does.

    Args:
        waiting: numbers of tasks, in order.
        running: numbers of those that run.
        plan: what each takes.
    """
    running = list(running)
    room = plan.free_bytes - plan.at_once * WORKER_BYTES - sum(plan.needs[number] for number in running)
    for number in waiting:
        if not running or plan.needs[number] <= room:
            return number
    return None
