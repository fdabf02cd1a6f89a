"""Rows on the device are the rows that were put there, bit for bit, and the decision about them is made once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from preprocess.chunks import RowLayout
from tests.support.cohorts import MODALITY, default_scans, write_store
from trainer.data.device_memory import DeviceMemory
from trainer.data.device_rows import DeviceCohort, DeviceRows

CPU = torch.device("cpu")
SHAPE = (1, 2, 3)


def layout(dtype: str = "uint8", name: str = "T1w") -> RowLayout:
    return RowLayout(name, 100, SHAPE, np.dtype(dtype), has_checksum=True)


def voxels_of(rows: np.ndarray, dtype: str = "uint8") -> torch.Tensor:
    """Values that tell row and voxel, as a reader would hand them over."""
    values = rows.reshape(*rows.shape, 1, 1, 1) * 7 + np.arange(6).reshape(SHAPE)
    return torch.from_numpy(np.ascontiguousarray(values.astype(dtype)))


def kept(num_rows: int, dtype: str = "uint8") -> DeviceRows:
    rows = DeviceRows(layout(dtype), num_rows)
    rows.allocate(CPU)
    return rows


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
def test_what_is_gathered_is_what_was_put_in_every_stored_type(dtype: str) -> None:
    rows = kept(10, dtype)
    rows.put(np.array([[3, 1], [9, 4]]), voxels_of(np.array([[3, 1], [9, 4]]), dtype))
    gathered = np.array([[4, 3], [1, 9], [3, 3]])
    found, expected = rows.gather(gathered), voxels_of(gathered, dtype)
    assert found.dtype is expected.dtype
    assert torch.equal(found.view(torch.uint8), expected.view(torch.uint8))


@given(batches=st.lists(st.lists(st.integers(0, 11), min_size=1, max_size=6), min_size=1, max_size=8))
def test_rows_that_come_again_in_any_order_are_kept_once(batches: list[list[int]]) -> None:
    rows = kept(12)
    plan = [np.array(batch) for batch in batches]
    missing = rows.missing(plan)
    assert sorted(np.concatenate(missing).tolist()) == sorted({row for batch in batches for row in batch})
    for batch, new in zip(plan, missing, strict=True):
        rows.put(new, voxels_of(new))
        assert torch.equal(rows.gather(batch), voxels_of(batch))
        rows.put(batch, torch.zeros_like(voxels_of(batch)))  # here already: stays
        assert torch.equal(rows.gather(batch), voxels_of(batch))
    assert [one.size for one in rows.missing(plan)] == [0] * len(plan)


def test_rows_are_changed_by_nobody_who_was_given_them() -> None:
    rows = kept(4, "float32")
    rows.put(np.array([2]), voxels_of(np.array([2]), "float32"))
    rows.gather(np.array([2])).mul_(0)
    assert torch.equal(rows.gather(np.array([2])), voxels_of(np.array([2]), "float32"))


def test_there_is_room_for_as_many_rows_as_were_announced() -> None:
    rows = kept(4)
    rows.put(np.array([1, 2]), voxels_of(np.array([1, 2])))
    assert rows.has_room_for([np.array([3]), np.array([5])])
    assert not rows.has_room_for([np.array([3]), np.array([5, 6])])


def cohort_of(*names: str, budget: int | None, num_rows: int = 4) -> DeviceCohort:
    rows = {name: DeviceRows(layout(name=name), num_rows) for name in names}
    return DeviceCohort(CPU, rows, budget_bytes=budget, least_batch=2)


@pytest.mark.parametrize(("budget", "stays"), [(47, False), (48, True)])
def test_all_modalities_stay_or_none(budget: int, stays: bool) -> None:
    cohort = cohort_of("a", "b", budget=budget)
    assert cohort.num_bytes == 2 * 4 * 6
    for name in ("a", "b"):
        cohort.rows[name].hold(np.array([1]), voxels_of(np.array([1])))
    for _ in range(2):
        for name in ("a", "b"):
            cohort.stepped(name, 2, 2)
    assert cohort.is_settled
    assert [rows.is_there for rows in cohort.rows.values()] == [stays, stays]
    if stays:
        assert torch.equal(cohort.rows["b"].gather(np.array([1])), voxels_of(np.array([1])))


def test_a_step_of_several_modalities_is_one_and_empty_batches_are_none() -> None:
    cohort = cohort_of("a", "b", budget=100)
    for num_scans in (0, 2, 2):
        assert not cohort.is_settled
        cohort.stepped("a", num_scans, 2)
        cohort.stepped("b", 2, 2)
    assert cohort.is_there


def test_the_peak_of_the_measured_steps_is_held_against_the_largest_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    # 1.5 * 8 bytes for the measured 2 scans are 24 for the 4 of the largest batch.
    for free, stays in ((47, False), (48, True)):
        monkeypatch.setattr(DeviceMemory, "of", lambda device, free=free: DeviceMemory(free, 0, 8))
        cohort = cohort_of("a", budget=None)
        cohort.stepped("a", 2, 4)
        cohort.stepped("a", 1, 4)
        assert cohort.is_there is stays


def test_a_device_without_so_much_in_one_piece_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    allocate = DeviceRows.allocate

    def refuse(self: DeviceRows, device: torch.device) -> None:
        if self is cohort.rows["b"]:
            raise torch.OutOfMemoryError("no piece of that size")
        allocate(self, device)

    monkeypatch.setattr(DeviceRows, "allocate", refuse)
    cohort = cohort_of("a", "b", budget=100)
    with caplog.at_level("INFO", logger="interscan"):
        for _ in range(2):
            cohort.stepped("a", 2, 2)
    assert cohort.is_settled
    assert not cohort.is_there
    assert "cpu: no room for" in caplog.text


def test_it_is_told_once_that_the_cohort_stays() -> None:
    cohort = cohort_of("a", budget=100)
    calls: list[Any] = []
    cohort.when_kept = lambda: calls.append(cohort.is_there)
    for _ in range(5):
        cohort.stepped("a", 2, 2)
    assert calls == [True]


def test_a_real_store_s_rows_are_those_that_the_store_reads(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", default_scans(num_subjects=3, odd=False), dtype="uint16")
    rows = DeviceRows(store.layout(MODALITY), 9)
    rows.allocate(CPU)
    stored = np.stack([store.read(row, MODALITY) for row in range(9)])
    rows.put(np.arange(9), torch.from_numpy(stored))
    np.testing.assert_array_equal(rows.gather(np.array([8, 0])).numpy(), stored[[8, 0]])
