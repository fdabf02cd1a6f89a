"""Tasks run as the memory allows; a scan that is too large, or ends its worker, is one finding, and the run goes on."""

import json
import os
import subprocess
import sys
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocess import task_pool
from preprocess import tasks as tasks_of_plans
from preprocess.engine import preprocess
from preprocess.errors import StorageError
from preprocess.memory_plan import plan_memory
from preprocess.plan import Claim
from preprocess.recipe import VolumeRecipe
from preprocess.scan_memory import WORKER_BYTES
from preprocess.store import Store
from preprocess.types import Scan
from tests.preprocess.test_scan_memory import promising
from tests.support.images import RECIPE, head_file, tree, write_bids

ROOT = Path(__file__).resolve().parents[2]
TINY = ("--set", "grid=[24,24,24]", "--set", "spacing_mm=8", "--json")
ON_A_SMALL_MACHINE = """
import json, resource, sys
import preprocess.engine
from interscan.cli import run
preprocess.engine.available_bytes = lambda: int(sys.argv[1])
if __name__ == "__main__":
    code = run(sys.argv[2:])
    below = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    # Of this program alone: ru_maxrss counts what its parent, which ran many tests, had before it became this one.
    (here,) = (int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(json.dumps({"code": code, "here": here, "below": below}))
"""


def run_small(tmp_path: Path, free_bytes: float, *arguments: object) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The verb's own JSON, exit code and peaks of memory, and stderr, where so much memory is free."""
    program = tmp_path / "small.py"
    program.write_text(ON_A_SMALL_MACHINE)
    command = [sys.executable, program, int(free_bytes), "preprocess", *arguments, *TINY]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    return json.loads("\n".join(lines[:-1])), json.loads(lines[-1]), done.stderr


def test_a_header_that_promises_two_gigabytes_is_left_out_and_its_neighbours_are_kept(tmp_path: Path) -> None:
    huge = promising((512, 1024, 512), np.float64, num_bytes=2_300_000)
    raw = write_bids(tmp_path / "raw", {"01": {"01": head_file(), "02": huge, "03": head_file(seed=1)}})
    result, ended, stderr = run_small(tmp_path, 1e9, raw, tmp_path / "s", "--workers", "0")
    assert (ended["code"], result["kept"], result["left_out"]) == (1, 2, 1)
    assert "1 too large and left out, the largest sub-01_ses-02_T1w" in stderr
    # Its voxels alone would be 1.1 GB as float32.
    assert ended["here"] < 900e6
    records = Store.open(tmp_path / "s").records
    assert [[finding.code for finding in record.findings] for record in records] == [[], ["too_much_memory"], []]
    # Judged anew in the next run, and not read there either.
    again, ended, _ = run_small(tmp_path, 1e9, raw, tmp_path / "s", "--workers", "0")
    assert ended["here"] < 900e6
    assert again["left_out"] == 1


@pytest.mark.slow
def test_fewer_workers_are_begun_where_memory_is_short_and_none_takes_more_than_was_said(tmp_path: Path) -> None:
    raw = write_bids(tmp_path / "raw", {f"{n:02d}": {"01": head_file(seed=n)} for n in range(18)})
    plan, _, _ = run_small(tmp_path, 16e9, raw, tmp_path / "s", "--workers", "3", "--dry-run")
    said = plan["memory"]["worker_bytes"]
    assert (plan["memory"]["workers"], plan["memory"]["at_once"]) == (3, 3)
    result, ended, stderr = run_small(tmp_path, 2.5 * said, raw, tmp_path / "s", "--workers", "3")
    assert (ended["code"], result["kept"]) == (0, 18)
    assert "so 2 are begun" in stderr
    assert WORKER_BYTES / 3 < ended["below"] < said
    preprocess(str(raw), str(tmp_path / "truth"), RECIPE, workers=0)
    assert tree(tmp_path / "s") == tree(tmp_path / "truth")


WITH_DEADLY_SCANS = """
import os, signal, sys
from pathlib import Path
import preprocess.tasks
from interscan.cli import run
whole = preprocess.tasks.prepare_scan
log, deadly, dies_at_once = Path(sys.argv[1]), sys.argv[2].split(","), sys.argv[3] == "at once"

def deadly_scan(data, scan, recipe, **more):
    with log.open("a") as file:
        file.write(f"{os.getpid()} {scan.subject_id}\\n")
    if scan.subject_id in deadly:
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(data, scan, recipe, **more)

preprocess.tasks.prepare_scan = deadly_scan  # in workers too, which run this file
if __name__ == "__main__":
    sys.exit(run(sys.argv[4:]))
elif dies_at_once:
    os.kill(os.getpid(), signal.SIGKILL)
"""


def run_deadly(
    tmp_path: Path, deadly: str, *arguments: object, dies: str = "late"
) -> tuple[int, dict[str, list[str]], str]:
    """Exit code, the subjects that each worker read in order, and stderr."""
    program, log = tmp_path / "deadly.py", tmp_path / "log"
    program.write_text(WITH_DEADLY_SCANS)
    log.write_text("")
    command = [sys.executable, program, log, deadly, dies, "preprocess", *arguments, *TINY]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
    read: dict[str, list[str]] = {}
    for line in log.read_text().splitlines():
        read.setdefault(line.split()[0], []).append(line.split()[1])
    return done.returncode, read, done.stderr


def test_a_scan_that_ends_its_workers_is_a_finding_and_its_neighbours_are_kept(tmp_path: Path) -> None:
    raw = write_bids(tmp_path / "raw", {f"{n:02d}": {"01": head_file(seed=n)} for n in range(18)})
    code, read, stderr = run_deadly(tmp_path, "sub-11", raw, tmp_path / "s", "--workers", "2")
    assert code == 1, stderr
    records = Store.open(tmp_path / "s").records
    assert {record.subject_id: record.findings[0].code for record in records if not record.present} == {
        "sub-11": "ends_worker"
    }
    assert [record.row for record in records if record.present] == [row for row in range(18) if row != 11]
    # Three workers ended with it: the first beside others, two alone.
    assert sum(subjects[-1] == "sub-11" for subjects in read.values()) == 3
    assert "sub-11_ses-01_T1w: ended its worker 3 times; left out, the run goes on" in stderr
    preprocess(str(raw), str(tmp_path / "truth"), RECIPE, workers=0)
    rows = {name: data for name, data in tree(tmp_path / "truth").items() if "/c/" in name and "/c/11/" not in name}
    assert rows.items() <= tree(tmp_path / "s").items()
    # A later run reads it again, and where it is harmless the store is that of a run that nothing disturbed.
    assert run_deadly(tmp_path, "nobody", raw, tmp_path / "s", "--workers", "2")[0] == 0
    assert tree(tmp_path / "s") == tree(tmp_path / "truth")


def test_workers_that_die_whatever_they_read_end_the_run_and_blame_no_scan(tmp_path: Path) -> None:
    raw = write_bids(tmp_path / "raw", {f"{n:02d}": {"01": head_file(seed=n)} for n in range(9)})
    code, read, stderr = run_deadly(tmp_path, "", raw, tmp_path / "s", "--workers", "2", dies="at once")
    assert (code, read) == (3, {})
    assert "a worker process was killed (out of memory?)" in stderr
    assert not (tmp_path / "s" / "store.json").exists()


class Pool:
    """A worker pool in this process: a task with a deadly scan breaks it, and all that were handed over with it."""

    begun = 0

    def __init__(self, workers: int, *, where: str) -> None:
        Pool.begun += 1
        self.is_broken = False

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function, work, claims, *more):
        future: Future[Any] = Future()
        self.is_broken |= any(claim.scan.subject_id in work for claim in claims)
        if self.is_broken:
            future.set_exception(BrokenProcessPool())
        else:
            future.set_result(more[0] if more else [claim.scan.subject_id for claim in claims])
        return future


class Deadly(set):
    """Stands for `Work`: subjects whose scans end their workers."""

    store_uri = "gs://bucket/store"
    recipe = RECIPE


def in_pools(
    deadly: set[str], num_tasks: int, monkeypatch: pytest.MonkeyPatch, *, recipe: VolumeRecipe = RECIPE
) -> tuple[list[int], dict[int, list[str]]]:
    """Tasks in the order they were done, and the records that were written one by one."""
    written: dict[int, list[str]] = {}
    monkeypatch.setattr(task_pool, "WorkerPool", Pool)
    monkeypatch.setattr(task_pool, "SIGNAL_PAUSE_S", 0.0)
    monkeypatch.setattr(task_pool, "write_records", lambda _, records, number: written.update({number: records}))
    monkeypatch.setattr(task_pool, "in_order", list)
    monkeypatch.setattr(Deadly, "recipe", recipe)
    monkeypatch.setattr(task_pool, "ended_worker", lambda claim, times: f"{claim.scan.subject_id} {times}")
    Pool.begun = 0
    claims = [Claim(n, Scan(f"s{n:02d}", "", "T1w", "x"), "x", 1) for n in range(4 * num_tasks)]
    tasks = {number: claims[4 * number : 4 * number + 4] for number in range(num_tasks)}
    memory = plan_memory(tasks, {n: [1] * 4 for n in tasks}, workers=2, free_bytes=2**40)
    return list(task_pool.run_here(Deadly(deadly), tasks, memory)), written


def test_every_deadly_scan_is_found_and_every_other_one_done(monkeypatch: pytest.MonkeyPatch) -> None:
    done, written = in_pools({"s05", "s06", "s17"}, 6, monkeypatch)
    assert sorted(done) == list(range(6))
    assert written[1] == ["s04", "s05 3", "s06 3", "s07"]
    assert written[4] == ["s16", "s17 3", "s18", "s19"]
    # Beside the deadly ones nobody but the task that ran at the same time was read one at a time.
    assert len(written) <= 4
    assert all(
        found == [f"s{4 * number + k:02d}" for k in range(4)]
        for number, found in written.items()
        if number not in (1, 4)
    )


def test_scans_that_all_end_their_workers_end_the_run_after_sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match=r"^gs://bucket/store: 16 scans one after the other ended their workers"):
        in_pools({f"s{n:02d}" for n in range(40)}, 10, monkeypatch)


def test_fifteen_in_a_row_and_a_good_one_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    done, written = in_pools({f"s{n:02d}" for n in range(40) if n % 8}, 10, monkeypatch)
    assert sorted(done) == list(range(10))
    assert sum(record.endswith(" 3") for records in written.values() for record in records) == 35


def test_a_persons_scans_that_are_registered_to_each_other_are_done_and_blamed_as_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    together = RECIPE.model_copy(update={"registration": "subject"})
    monkeypatch.setattr(
        task_pool, "together", lambda recipe, claims: whole(recipe, [same_person(one) for one in claims])
    )
    done, written = in_pools({"s04"}, 3, monkeypatch, recipe=together)
    assert sorted(done) == [0, 1, 2]
    assert written[1] == ["s04 3"] * 4


def whole(recipe: VolumeRecipe, claims: list[Claim]) -> list[tuple[Claim, ...]]:
    return tasks_of_plans.together(recipe, claims)


def same_person(claim: Claim) -> Claim:
    """The claim of the first scan of its task's person."""
    return replace(claim, scan=replace(claim.scan, subject_id=f"s{claim.row // 4 * 4:02d}", session_id=str(claim.row)))
