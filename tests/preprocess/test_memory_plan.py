"""No more work is begun at once than the memory is for, and what fits on no account is left out, named."""

from pathlib import Path

import pytest

from preprocess.memory_plan import MemoryPlan, begin_next, claim_needs, plan_memory
from preprocess.plan import Claim
from preprocess.scan_memory import WORKER_BYTES, memory_of
from preprocess.sources import list_scans
from preprocess.storage import Location
from preprocess.types import Scan
from tests.support.images import RECIPE, head_file, write_bids

MB = 10**6


def planned(needs_mb: list[list[int]], *, workers: int, free_mb: float) -> MemoryPlan:
    """A plan of tasks of scans that take so many MB each."""
    tasks = {
        number: [Claim(0, Scan(f"sub-{number}{place}", "", "T1w", "x"), "x", 1) for place in range(len(task))]
        for number, task in enumerate(needs_mb)
    }
    needs = {number: [MB * one for one in task] for number, task in enumerate(needs_mb)}
    return plan_memory(tasks, needs, workers=workers, free_bytes=int(free_mb * MB))


IDLE_MB = WORKER_BYTES / MB


def test_enough_memory_begins_all_workers_and_says_nothing_of_shortage() -> None:
    plan = planned([[100, 300], [200]], workers=2, free_mb=2 * IDLE_MB + 600)
    assert (plan.at_once, plan.is_short, plan.too_large) == (2, False, ())
    assert plan.worker_bytes == WORKER_BYTES + 300 * MB
    assert plan.needs == {0: 300 * MB, 1: 200 * MB}
    assert plan.line() == "memory: up to 0.7 GB a worker (sub-01_T1w), 1.4 GB free; 2 workers take up to 1.4 GB"


def test_too_little_memory_begins_as_many_as_fit() -> None:
    plan = planned([[300]] * 8, workers=8, free_mb=3 * (IDLE_MB + 300) + 10)
    assert (plan.at_once, plan.is_short) == (3, True)
    assert plan.line().endswith(
        "8 workers take up to 5.8 GB, so 3 are begun; for more at once free memory, or use a machine with more"
    )


def test_one_large_scan_does_not_hold_up_the_others() -> None:
    plan = planned([[1000], [50], [50], [50]], workers=3, free_mb=3 * IDLE_MB + 1040)
    assert (plan.at_once, plan.is_short) == (3, True)
    assert "the largest wait for each other" in plan.line()
    # Beside a small one the large one does not fit; alone it does, and then nothing fits beside it.
    assert begin_next([0, 2, 3], [1], plan) == 2
    assert begin_next([0], [1], plan) is None
    assert begin_next([0], [], plan) == 0
    assert begin_next([2, 3], [0], plan) is None


def test_a_scan_beyond_the_machine_is_named_and_bounds_nobody_else() -> None:
    plan = planned([[100, 9000], [100]], workers=2, free_mb=2 * IDLE_MB + 300)
    assert plan.too_large == (("sub-01_T1w", 9000 * MB),)
    assert plan.worker_bytes == WORKER_BYTES + 100 * MB
    assert (plan.at_once, plan.is_short) == (2, False)
    assert plan.line().endswith("; 1 too large and left out, the largest sub-01_T1w (9.0 GB)")
    assert plan.to_dict()["too_large"] == [{"scan": "sub-01_T1w", "bytes": 9000 * MB}]


@pytest.mark.parametrize("free_mb", [0, 100])
def test_one_worker_is_begun_whatever_there_is(free_mb: int) -> None:
    assert planned([[500]], workers=4, free_mb=free_mb).at_once == 1


def test_work_in_this_process_counts_no_idle_worker() -> None:
    plan = planned([[100]], workers=0, free_mb=200)
    assert (plan.scan_bytes, plan.worker_bytes, plan.is_short) == (200 * MB, 100 * MB, False)
    assert plan.line() == "memory: up to 0.1 GB of memory (sub-00_T1w), 0.2 GB free"
    assert planned([], workers=0, free_mb=200).line() == ""


def test_needs_are_those_of_the_files_and_a_file_that_is_gone_needs_its_size(tmp_path: Path) -> None:
    raw = write_bids(tmp_path / "raw", {"01": {"01": head_file(), "02": head_file(seed=1)}})
    listing = list_scans(str(raw), ("T1w",))
    claims = [Claim(row, scan, name, size) for row, (scan, name, size) in enumerate(listing.scans)]
    Path(claims[1].scan.uri).unlink()
    found = claim_needs({7: claims[:1], 9: claims[1:]}, Location(str(raw)), RECIPE)
    data = head_file()
    assert found == {7: (memory_of(data, len(data), claims[0].scan, RECIPE),), 9: (claims[1].num_bytes,)}
