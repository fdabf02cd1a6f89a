"""A whole run: every scan accounted for, the same bytes however it was cut off or shared, and nothing done twice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from preprocess import engine, tasks
from preprocess.engine import preprocess
from preprocess.errors import StoreError, UsageError
from preprocess.readers import read_nifti
from preprocess.recipe import Quality
from preprocess.sources import list_scans
from preprocess.storage import Location
from preprocess.store import Store, verify_rows
from preprocess.transforms import to_volume
from tests.support.images import RECIPE, gz, head, head_file, nifti, patched, tree, write_bids

BAD = {
    "cut": (head_file()[:-100], "truncated"),
    "page": (b"<!DOCTYPE html>" + b" " * 400, "not_nifti"),
    "coarse": (gz(nifti(head()[::2, ::2, ::2], np.diag([8.0, 8, 8, 1]))), "too_coarse"),
    "scale": (gz(patched(nifti(head()), scl_slope=np.nan)), "bad_scale"),
    "black": (gz(nifti(np.zeros((48, 48, 48), np.int16))), "empty"),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine good visits and five bad ones, of five subjects: two tasks."""
    subjects = {
        f"0{n}": {"01": head_file(1 - n / 50, seed=n), "02": head_file(0.97 - n / 50, seed=9)} for n in range(4)
    }
    subjects["01"]["03"] = head_file(0.9)
    subjects["09"] = {name: data for name, (data, _) in BAD.items()}
    days = {"01": 0, "02": 180, "03": 400, **{name: 10.0 * n for n, name in enumerate(BAD)}}
    return write_bids(tmp_path_factory.mktemp("raw"), subjects, days)


@pytest.fixture(scope="module")
def truth(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a run that nothing disturbed."""
    root = tmp_path_factory.mktemp("truth") / "store"
    preprocess(str(source), str(root), RECIPE, workers=0)
    return root


def test_kept_and_left_out_are_all_that_was_found_each_with_its_reason(truth: Path) -> None:
    store = Store.open(truth)
    counts = store.manifest
    assert (counts.num_found, counts.num_kept, counts.num_left_out, counts.num_rows) == (14, 9, 5, 14)
    reasons = {record.session_id: record.findings[0].code for record in store.records if not record.present}
    assert reasons == {f"ses-{name}": code for name, (_, code) in BAD.items()}
    assert all(record.findings[0].leaves_out for record in store.records if not record.present)
    assert list(verify_rows(store)) == [None] * 9
    assert sum("/c/" in name for name in store.location.names()) == 9


def test_a_row_is_what_the_service_makes_of_the_same_file(source: Path, truth: Path) -> None:
    store = Store.open(truth)
    record = store.records[2]
    data = (source / record.source_uri).read_bytes()
    volume = to_volume(read_nifti(data, name="x"), RECIPE, name="x")
    np.testing.assert_array_equal(store.read(2, "T1w"), volume.voxels_CDHW)
    np.testing.assert_array_equal(np.reshape(record.affine, (4, 4)), volume.affine)
    assert record.source_bytes == len(data)
    assert record.spacing_mm == pytest.approx((4, 4, 4))


def test_nothing_in_a_store_names_this_machine(source: Path, truth: Path) -> None:
    assert not [name for name, data in tree(truth).items() if str(source).encode() in data]


@pytest.mark.parametrize("kind", ["local", pytest.param("gs", marks=[pytest.mark.bucket, pytest.mark.slow])])
def test_two_processes_write_the_bytes_of_one(
    kind: str, source: Path, truth: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    uri = f"{request.getfixturevalue('bucket')}/store" if kind == "gs" else str(tmp_path / "store")
    done = []
    preprocess(str(source), uri, RECIPE, workers=2, progress=lambda finished, total: done.append((finished, total)))
    store = Location(uri)
    assert {name: store.read(name) for name in store.names()} == tree(truth)
    assert done[-1] == (14, 14)


def test_memory_holds_the_same_store(source: Path, truth: Path, tmp_path: Path) -> None:
    uri = f"memory://{tmp_path.name}/store"
    preprocess(str(source), uri, RECIPE)  # whatever was requested: another process would not see this memory
    store = Location(uri)
    assert {name: store.read(name) for name in store.names()} == tree(truth)


@pytest.mark.bucket
def test_a_bucket_holds_the_same_store_and_no_leftovers(source: Path, truth: Path, bucket: str) -> None:
    preprocess(str(source), f"{bucket}/store", RECIPE, workers=0)
    store = Location(f"{bucket}/store")
    assert {name: store.read(name) for name in store.names()} == tree(truth)
    assert list(verify_rows(Store.open(store))) == [None] * 9


@pytest.mark.bucket
def test_a_cohort_in_a_bucket_gives_the_same_store(source: Path, truth: Path, tmp_path: Path, bucket: str) -> None:
    raw = Location(f"{bucket}/raw")
    for name, data in tree(source).items():
        raw.write(name, data)
    preprocess(f"{bucket}/raw", str(tmp_path / "store"), RECIPE, workers=0)
    assert tree(tmp_path / "store") == tree(truth)


_DYING_RUN = """
import os, signal, sys
from preprocess import engine, tasks
from preprocess.storage import Location
from tests.support.images import RECIPE

source, store, left = sys.argv[1], sys.argv[2], [int(sys.argv[3])]

def counted(function):
    def call(*arguments, **options):
        result = function(*arguments, **options)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

tasks.write_row = counted(tasks.write_row)
Location.write = counted(Location.write)
engine.preprocess(source, store, RECIPE, workers=0)
"""


# Writes of a run: rows 8, record, row 1, record, account, staged store.json, index, store.json.
@pytest.mark.parametrize("writes", [3, 14, *(pytest.param(n, marks=pytest.mark.slow) for n in (9, 11, 12, 15))])
def test_a_killed_run_goes_on_to_the_same_bytes(writes: int, source: Path, truth: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    command = [sys.executable, "-c", _DYING_RUN, str(source), str(store), str(writes)]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120)
    assert killed.returncode == -9, killed.stderr
    assert (store / "store.json").exists() == (writes == 15)
    assert tree(store) != tree(truth)
    preprocess(str(source), str(store), RECIPE, workers=0)
    assert tree(store) == tree(truth)


def test_finished_tasks_are_not_done_again(
    source: Path, truth: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CutError(Exception):
        """Stands for a kill."""

    def cut(number: int, total: int) -> None:
        raise CutError

    with pytest.raises(CutError):
        preprocess(str(source), str(tmp_path), RECIPE, workers=0, progress=cut)
    written = []
    write_row = tasks.write_row
    monkeypatch.setattr(tasks, "write_row", lambda *args: (written.append(args[2]), write_row(*args)))
    preprocess(str(source), str(tmp_path), RECIPE, workers=0)
    assert written == [8]  # eight of the nine rows were in the first task
    assert tree(tmp_path) == tree(truth)


def test_a_table_corrected_between_a_cut_off_run_and_its_rerun_is_followed(tmp_path: Path) -> None:
    """The days swap, so the rows swap: records of the first run must not be mixed with those of the second."""
    heads = {f"{n:02d}": head_file(1 - n / 100, seed=n) for n in range(10)}
    days = {name: 10.0 * n for n, name in enumerate(heads)}
    raw = write_bids(tmp_path / "raw", {"01": heads}, days)

    def cut(finished: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0, progress=cut)
    write_bids(raw, {"01": heads}, {name: 90 - day for name, day in days.items()})
    preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0)
    preprocess(str(raw), str(tmp_path / "t"), RECIPE, workers=0)
    assert tree(tmp_path / "s") == tree(tmp_path / "t")
    assert [record.session_id for record in Store.open(tmp_path / "s").records][:2] == ["ses-09", "ses-08"]
    assert set(verify_rows(Store.open(tmp_path / "s"))) == {None}


def test_a_scan_replaced_at_equal_size_between_a_cut_off_run_and_its_rerun_is_read_again(tmp_path: Path) -> None:
    heads = {f"{n:02d}": nifti(head(1 - n / 100, seed=n)) for n in range(10)}
    raw = write_bids(tmp_path / "raw", {"01": heads}, {name: 10.0 * n for n, name in enumerate(heads)})

    def cut(finished: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0, progress=cut)
    write_bids(raw, {"01": {"03": nifti(head(0.8, seed=77))}})
    (record,) = (tmp_path / "s" / ".work").rglob("000000.json")
    assert json.loads(record.read_text())[3]["session_id"] == "ses-03"  # a finished task's
    preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0)
    preprocess(str(raw), str(tmp_path / "t"), RECIPE, workers=0)
    assert tree(tmp_path / "s") == tree(tmp_path / "t")


def _times(root: Path) -> dict[str, int]:
    return {name: (root / name).stat().st_mtime_ns for name in tree(root)}


def test_a_second_run_writes_nothing(source: Path, truth: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _times(truth)
    monkeypatch.setattr(Location, "write", lambda *args: pytest.fail("a write"))
    manifest = preprocess(str(source), str(truth), RECIPE, workers=0)
    assert manifest == Store.open(truth).manifest
    assert _times(truth) == before


def test_what_a_cut_off_tidying_leaves_is_removed_by_the_next_run(source: Path, truth: Path) -> None:
    before = tree(truth)
    Location(truth).write(".work/0123/000000.json", b"[]")
    preprocess(str(source), str(truth), RECIPE, workers=0)
    assert tree(truth) == before


def test_planning_writes_nothing(source: Path, tmp_path: Path) -> None:
    plan = engine.plan_run(list_scans(str(source), ("T1w",)), Location(tmp_path / "store"), RECIPE)
    assert sum(len(task) for task in plan.tasks) == 14
    assert not (tmp_path / "store").exists()


def test_a_grown_cohort_keeps_its_old_objects(tmp_path: Path) -> None:
    raw = write_bids(tmp_path / "raw", {"05": {"01": head_file()}}, {"01": 0})
    preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0)
    first = tree(tmp_path / "s")
    write_bids(
        raw, {"01": {"01": head_file(0.95)}, "05": {"01": head_file(), "02": head_file(0.9)}}, {"01": 0, "02": 9}
    )
    manifest = preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0)
    held = [(record.row, record.subject_id, record.session_id) for record in Store.open(tmp_path / "s").records]
    assert held == [(0, "sub-05", "ses-01"), (1, "sub-01", "ses-01"), (2, "sub-05", "ses-02")]
    assert manifest.num_kept == 3
    assert {name: data for name, data in tree(tmp_path / "s").items() if "/c/0/" in name} == {
        name: data for name, data in first.items() if "/c/0/" in name
    }
    assert list(verify_rows(Store.open(tmp_path / "s"))) == [None] * 3


def test_a_corrected_table_changes_the_index_and_no_object(tmp_path: Path) -> None:
    raw = write_bids(tmp_path / "raw", {"01": {"01": head_file(), "02": head_file(0.9)}}, {"01": 0, "02": 9})
    preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0)
    before = {name: time for name, time in _times(tmp_path / "s").items() if "/c/" in name}
    (raw / "participants.tsv").write_text("participant_id\tmmse\nsub-01\t24\n")
    preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0)
    store = Store.open(tmp_path / "s")
    assert [record.outcomes for record in store.records] == [{"mmse": 24.0}] * 2
    assert store.manifest.outcomes == ("mmse",)
    assert {name: time for name, time in _times(tmp_path / "s").items() if "/c/" in name} == before


def test_a_scan_that_is_mended_is_tried_again_and_a_changed_one_gets_a_new_row(tmp_path: Path) -> None:
    raw = write_bids(tmp_path / "raw", {"01": {"01": head_file()[:-9], "02": head_file(0.9)}}, {"01": 0, "02": 9})
    assert preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0).num_left_out == 1
    write_bids(raw, {"01": {"01": head_file()}})
    assert preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0).num_left_out == 0
    assert list(verify_rows(Store.open(tmp_path / "s"))) == [None] * 2
    write_bids(raw, {"01": {"01": head_file(0.7, seed=3)}})
    assert preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0).num_rows == 3
    assert list(verify_rows(Store.open(tmp_path / "s"))) == [None] * 2


def test_the_remedy_of_a_limit_works(tmp_path: Path) -> None:
    """`raise quality.max_spacing_mm`, says the finding; done so, the same store takes the scan."""
    raw = write_bids(tmp_path / "raw", {"01": {"01": BAD["coarse"][0], "02": head_file()}}, {"01": 0, "02": 9})
    assert preprocess(str(raw), str(tmp_path / "s"), RECIPE, workers=0).num_left_out == 1
    wider = RECIPE.model_copy(update={"quality": Quality(max_spacing_mm=9)})
    assert preprocess(str(raw), str(tmp_path / "s"), wider, workers=0).num_left_out == 0
    assert list(verify_rows(Store.open(tmp_path / "s"))) == [None] * 2


def test_a_listed_file_that_is_missing_is_left_out_until_it_comes(tmp_path: Path) -> None:
    table = tmp_path / "scans.csv"
    table.write_text("path,subject_id,day\na.nii.gz,anna,0\nb.nii.gz,ben,0\n")
    (tmp_path / "a.nii.gz").write_bytes(head_file())
    store = tmp_path / "s"
    preprocess(str(table), str(store), RECIPE, workers=0)
    finding = Store.open(store).records[1].findings[0]
    assert (finding.code, finding.message) == (
        "missing",
        "ben_day-0_T1w: b.nii.gz is listed but not there; copy the file",
    )
    (tmp_path / "b.nii.gz").write_bytes(head_file(0.9))
    assert preprocess(str(table), str(store), RECIPE, workers=0).num_left_out == 0


def test_another_recipe_is_refused_with_both_fingerprints(source: Path, truth: Path) -> None:
    other = RECIPE.model_copy(update={"spacing_mm": 7.0})
    with pytest.raises(StoreError) as caught:
        preprocess(str(source), str(truth), other, workers=0)
    assert RECIPE.fingerprint() in str(caught.value)
    assert other.fingerprint() in str(caught.value)


def test_wrong_arguments_are_refused_before_anything_is_written(source: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--workers -1"):
        preprocess(str(source), str(tmp_path / "s"), RECIPE, workers=-1)
    with pytest.raises(UsageError, match=r"no FLAIR scan found \(other kinds there: T1w\)"):
        preprocess(str(source), str(tmp_path / "s"), RECIPE.model_copy(update={"modalities": ("FLAIR",)}), workers=0)
    assert not (tmp_path / "s").exists()


def test_a_record_of_a_task_is_json_of_index_records(source: Path, tmp_path: Path) -> None:
    """Read by the run that goes on: `from_dict` of what stands there is what the index will hold."""
    listing = list_scans(str(source), ("T1w",))
    store = Location(tmp_path / "s")
    plan = engine.plan_run(listing, store, RECIPE)
    engine.prepare_arrays(store, RECIPE, ["T1w"], plan.num_rows)
    work = engine.Work(store.uri, {}, listing.root.uri, {}, RECIPE, ".work/x")
    assert tasks.run_task(work, plan.tasks[1], 7) == 7
    records = [engine.IndexRecord.from_dict(values) for values in json.loads(store.read(".work/x/000007.json"))]
    assert [record.row for record in records] == [claim.row for claim in plan.tasks[1]]


def test_a_name_that_is_no_utf_8_is_read_and_stored_readably(tmp_path: Path) -> None:
    folder = tmp_path / "raw" / os.fsdecode(b"M\xfcller")
    folder.mkdir(parents=True)
    (folder / os.fsdecode(b"\xfc1.nii.gz")).write_bytes(head_file())
    assert preprocess(str(tmp_path / "raw"), str(tmp_path / "s"), RECIPE, workers=0).num_kept == 1
    store = Store.open(tmp_path / "s")
    (record,) = store.records
    assert (record.subject_id, record.session_id) == (r"M\xfcller", r"\xfc1")
    assert record.source_uri == r"M\xfcller/\xfc1.nii.gz"
    assert store.manifest.reconciliation[""].counts == {"remarks": {"name_not_text": 1}}
