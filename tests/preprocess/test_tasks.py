"""A task leaves a record of what it wrote, in the plan's order, whatever is wrong with a scan."""

import json
from pathlib import Path

import pytest

from preprocess import tasks
from preprocess.engine import plan_run
from preprocess.index import IndexRecord
from preprocess.sources import list_scans
from preprocess.storage import Location
from preprocess.tasks import Work, ended_worker, record_name, run_task, store_scans
from preprocess.types import Scan
from preprocess.writer import prepare_arrays
from tests.support.images import RECIPE, head_file, write_bids


def test_a_record_tells_each_scan_kept_or_left_out(tmp_path: Path) -> None:
    raw = write_bids(tmp_path / "raw", {"01": {"01": head_file(), "02": head_file()[:-80]}}, {"01": 0, "02": 9})
    listing = list_scans(str(raw), ("T1w",))
    store = Location(tmp_path / "s")
    plan = plan_run(listing, store, RECIPE)
    prepare_arrays(store, RECIPE, ["T1w"], plan.num_rows)

    number = run_task(Work(store.uri, {}, listing.root.uri, {}, RECIPE, ".work/x"), plan.tasks[0], 3)

    assert number == 3
    recorded = [IndexRecord.from_dict(one) for one in json.loads(store.read(record_name(".work/x", 3)))]
    assert [(one.row, one.present, bool(one.content_sha256)) for one in recorded] == [
        (0, True, True),
        (1, False, False),
    ]
    assert [finding.code for finding in recorded[1].findings] == ["truncated"]


@pytest.mark.parametrize(
    "error", [MemoryError("Unable to allocate 8 GiB"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 8")]
)
def test_memory_that_the_system_refuses_is_a_finding_of_that_scan(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = write_bids(tmp_path / "raw", {"01": {"01": head_file(), "02": head_file(seed=1)}})
    listing = list_scans(str(raw), ("T1w",))
    store = Location(tmp_path / "s")
    plan = plan_run(listing, store, RECIPE)
    prepare_arrays(store, RECIPE, ["T1w"], plan.num_rows)
    whole = tasks.prepare_scan

    def short_of_memory(data: bytes, scan, recipe, **more):
        if scan.session_id == "ses-01":
            raise error
        return whole(data, scan, recipe, **more)

    monkeypatch.setattr(tasks, "prepare_scan", short_of_memory)
    work = Work(store.uri, {}, listing.root.uri, {}, RECIPE, ".work/x")
    records = store_scans(work, plan.tasks[0])
    assert [[finding.code for finding in one.findings] for one in records] == [["too_much_memory"], []]
    monkeypatch.setattr(tasks, "prepare_scan", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        store_scans(work, plan.tasks[0])


def test_a_file_larger_than_what_is_free_is_not_even_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = write_bids(tmp_path / "raw", {"01": {"01": head_file()}})
    listing = list_scans(str(raw), ("T1w",))
    (claim,) = plan_run(listing, Location(tmp_path / "s"), RECIPE).tasks[0]
    monkeypatch.setattr(tasks, "read_scan", lambda *_: pytest.fail("read"))
    work = Work(str(tmp_path / "s"), {}, listing.root.uri, {}, RECIPE, ".work/x", scan_bytes=claim.num_bytes - 1)
    (record,) = store_scans(work, [claim])
    assert (record.source_bytes, [finding.code for finding in record.findings]) == (0, ["too_much_memory"])


def test_the_record_of_a_scan_that_ended_its_worker_says_nothing_of_its_bytes(tmp_path: Path) -> None:
    raw = write_bids(tmp_path / "raw", {"01": {"01": head_file()}})
    (claim,) = plan_run(list_scans(str(raw), ("T1w",)), Location(tmp_path / "s"), RECIPE).tasks[0]
    record = ended_worker(claim, 3)
    assert (record.present, record.source_bytes, record.source_sha256, record.row) == (False, 0, "", 0)
    (finding,) = record.findings
    assert (finding.code, finding.leaves_out) == ("ends_worker", True)
    assert finding.message.startswith("sub-01_ses-01_T1w: reading it ended its worker 3 times")


def test_memory_refused_while_a_file_is_read_is_a_finding_of_that_scan_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = write_bids(tmp_path / "raw", {"01": {"01": head_file(), "02": head_file(seed=1)}})
    listing = list_scans(str(raw), ("T1w",))
    store = Location(tmp_path / "s")
    plan = plan_run(listing, store, RECIPE)
    prepare_arrays(store, RECIPE, ["T1w"], plan.num_rows)
    whole = tasks.read_scan

    def short_of_memory(source: Location, scan: Scan) -> bytes:
        if scan.session_id == "ses-01":
            raise MemoryError
        return whole(source, scan)

    monkeypatch.setattr(tasks, "read_scan", short_of_memory)
    records = store_scans(Work(store.uri, {}, listing.root.uri, {}, RECIPE, ".work/x"), plan.tasks[0])
    assert [[finding.code for finding in one.findings] for one in records] == [["too_much_memory"], []]
