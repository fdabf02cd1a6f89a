"""Batches on the device are those of the plain stream, and a row is requested from the store once."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from preprocess.errors import StoreError
from preprocess.store import Store
from tests.support.cohorts import MODALITY, default_scans, write_store
from trainer.data.device_rows import DeviceCohort, DeviceRows
from trainer.data.reader import VolumeReader
from trainer.data.resident import DeviceStream, open_stream
from trainer.data.stream import StreamOptions, VolumeStream

NUM_ROWS = 12
PAIRS = [np.array([[0, 1], [3, 4]]), np.array([[6, 7], [9, 10]]), np.array([[2, 5]])]
OTHERS = [np.array([[10, 8], [1, 0]]), np.array([[11, 4]])]
"""Another epoch: 8 and 11 are new."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_store(tmp_path / "store", default_scans(num_subjects=4, odd=False, rescans=False))


def reader_of(store: Store, *, budget: int, num_rows: int = NUM_ROWS) -> VolumeReader:
    layout = store.layout(MODALITY)
    rows = {MODALITY: DeviceRows(layout, num_rows)}
    cohort = DeviceCohort(torch.device("cpu"), rows, budget_bytes=budget, least_batch=2)
    return VolumeReader(store, MODALITY, on_device=cohort)


@pytest.fixture
def keeping(store: Store) -> Iterator[VolumeReader]:
    reader = reader_of(store, budget=10**9)
    yield reader
    reader.close()


def epoch(store: Store, reader: VolumeReader, batches: list[np.ndarray], *, is_training: bool = True) -> dict[str, int]:
    """Read an epoch, hold every batch against the store, and return what was requested and found."""
    with open_stream(
        store, MODALITY, batches, StreamOptions(reuse=True), reader=reader, is_training=is_training
    ) as stream:
        for rows, batch in zip(batches, stream, strict=True):
            expected = [[store.read(row, MODALITY) for row in sample] for sample in rows.tolist()]
            np.testing.assert_array_equal(batch.numpy(), np.stack(expected))
            assert stream.kept is None
    counts = stream.counts
    assert counts.volumes == sum(rows.size for rows in batches)
    return {"requests": counts.reads.requests, "hits": counts.device_hits}


def test_a_row_is_asked_of_the_store_once_and_every_batch_is_right(store: Store, keeping: VolumeReader) -> None:
    assert epoch(store, keeping, PAIRS) == {"requests": 10, "hits": 0}
    assert epoch(store, keeping, PAIRS) == {"requests": 0, "hits": 10}
    assert epoch(store, keeping, OTHERS) == {"requests": 2, "hits": 4}
    assert epoch(store, keeping, OTHERS) == {"requests": 0, "hits": 6}


def test_what_is_kept_serves_embedding_too_and_embedding_decides_nothing(store: Store, keeping: VolumeReader) -> None:
    scans = [np.arange(8).reshape(8, 1), np.arange(8, 12).reshape(4, 1)]
    assert epoch(store, keeping, scans, is_training=False) == {"requests": 12, "hits": 0}
    assert keeping.on_device is not None
    assert not keeping.on_device.is_settled
    epoch(store, keeping, PAIRS)
    assert epoch(store, keeping, scans, is_training=False) == {"requests": 2, "hits": 10}
    with torch.inference_mode():
        assert epoch(store, keeping, scans, is_training=False) == {"requests": 0, "hits": 12}
    assert epoch(store, keeping, PAIRS) == {"requests": 0, "hits": 10}


def test_a_batch_that_was_read_before_the_decision_outlives_its_memory(store: Store, keeping: VolumeReader) -> None:
    singles = [np.array([row]) for row in range(NUM_ROWS)]
    batches = [one.reshape(1, 1) for one in singles]
    assert epoch(store, keeping, batches)["requests"] == NUM_ROWS
    assert epoch(store, keeping, batches) == {"requests": 0, "hits": NUM_ROWS}


def test_without_room_every_epoch_is_read(store: Store) -> None:
    reader = reader_of(store, budget=NUM_ROWS * store.layout(MODALITY).num_bytes - 1)
    for _ in range(3):
        assert epoch(store, reader, PAIRS) == {"requests": 10, "hits": 0}
    with open_stream(store, MODALITY, PAIRS, reader=reader, is_training=True) as stream:
        assert isinstance(stream, VolumeStream)
    reader.close()


def test_more_rows_than_were_announced_are_read_as_ever(store: Store) -> None:
    reader = reader_of(store, budget=10**9, num_rows=10)
    epoch(store, reader, PAIRS)
    for _ in range(2):
        assert epoch(store, reader, OTHERS) == {"requests": 6, "hits": 0}
    assert epoch(store, reader, PAIRS) == {"requests": 0, "hits": 10}
    reader.close()


def test_an_epoch_of_empty_batches_and_one_without_batches_hand_over_nothing(
    store: Store, keeping: VolumeReader
) -> None:
    nothing = [np.zeros(0, dtype=np.int64)]
    for batches in ([], PAIRS, nothing):
        with open_stream(store, MODALITY, batches, reader=keeping, is_training=True) as stream:
            sizes = [len(batch) for batch in stream]
        assert sizes == [len(rows) for rows in batches]


def test_a_stream_that_is_left_early_leaves_what_came_on_the_device(store: Store, keeping: VolumeReader) -> None:
    with open_stream(store, MODALITY, PAIRS, StreamOptions(reuse=True), reader=keeping, is_training=True) as stream:
        assert isinstance(stream, DeviceStream)
        for number, _ in enumerate(stream):
            if number == 1:
                break
    # Left in the second step, which is therefore not over: nothing was decided, nothing is lost.
    assert epoch(store, keeping, PAIRS) == {"requests": 10, "hits": 0}
    assert epoch(store, keeping, PAIRS) == {"requests": 0, "hits": 10}


def test_a_row_that_is_missing_in_the_store_is_named_as_ever(store: Store, keeping: VolumeReader) -> None:
    epoch(store, keeping, PAIRS)
    store.location.delete(store.layout(MODALITY).key(8))
    with pytest.raises(StoreError, match=r"row 8|ses-"):
        epoch(store, keeping, OTHERS)
