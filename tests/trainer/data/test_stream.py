"""The stream gives what the store holds, in the plan's order, with one request a volume, bounded, and cleans up."""

import asyncio
import multiprocessing
import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec.asyn
import numpy as np
import pytest
import torch
from fsspec.asyn import AsyncFileSystem

from preprocess.errors import StorageError, StoreError
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import MODALITY, Dtype, TinyScan, volume_of, write_store
from trainer.data.stream import VolumeStream

SCANS = [TinyScan(f"sub-{number}", "ses-01", 0.0, float(number)) for number in range(14)]


class SlowFileSystem(AsyncFileSystem):
    """Serves another file system's objects on fsspec's event loop, the later the earlier they are asked for."""

    cachable = False

    def __init__(self, source: Location, *, delay_s: Callable[[int], float] = lambda _: 0.001) -> None:
        super().__init__()
        self.source = source
        self.delay_s = delay_s
        self.num_asked = self.num_active = self.most_active = self.num_cancelled = 0

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: object) -> bytes:
        self.num_asked += 1
        self.num_active += 1
        self.most_active = max(self.most_active, self.num_active)
        try:
            await asyncio.sleep(self.delay_s(self.num_asked))
            return bytes(self.source.fs.cat_file(path))
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        finally:
            self.num_active -= 1


def slow_store(store: Store, **options: Callable[[int], float]) -> tuple[Store, SlowFileSystem]:
    """The same store behind an asynchronous file system."""
    location = Location(store.location.uri)
    slow = Store(location, store.manifest, store.index)
    slow.layout(MODALITY)
    location.fs = SlowFileSystem(store.location, **options)
    return slow, location.fs


@pytest.fixture(params=["local", "memory", "asynchronous"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "local":
        yield write_store(tmp_path, SCANS)
        return
    place = Location(f"memory://stream-{uuid.uuid4().hex}")
    written = write_store(place, SCANS)
    yield slow_store(written)[0] if request.param == "asynchronous" else written
    place.delete("")


def own_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("interscan-stream")]


def settle() -> None:
    """Let the event loop work through what was handed to it."""
    fsspec.asyn.sync(fsspec.asyn.get_loop(), asyncio.sleep, 0.01)


def batches_of(rows: list[list[int]]) -> list[np.ndarray]:
    return [np.array(batch, dtype=np.int64) for batch in rows]


def test_batches_are_the_rows_of_the_plan_in_its_order(store: Store) -> None:
    batches = batches_of([[3, 1, 7], [0, 2, 5], [13, 12], [3, 3, 4]])
    with VolumeStream(store, MODALITY, batches, in_flight=6) as stream:
        received = [voxels.clone() for voxels in stream]
    assert len(received) == len(batches)
    for rows, voxels in zip(batches, received, strict=True):
        wanted = np.stack([volume_of(SCANS[row], "uint8") for row in rows])
        np.testing.assert_array_equal(voxels.numpy(), wanted)
        np.testing.assert_array_equal(voxels.numpy(), np.stack([store.read(row, MODALITY) for row in rows.tolist()]))


def test_pairs_keep_their_shape(store: Store) -> None:
    batch = np.array([[3, 1], [7, 2]])
    with VolumeStream(store, MODALITY, [batch]) as stream:
        (voxels,) = stream
    assert voxels.shape == (2, 2, 1, 16, 16, 16)
    np.testing.assert_array_equal(voxels[1, 0].numpy(), volume_of(SCANS[7], "uint8"))


def test_a_volume_is_one_request(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    fs = store.location.fs
    store.layout(MODALITY)
    if fs.async_impl:
        original_async = fs._cat_file

        async def counted(path: str) -> bytes:
            asked.append(path)
            return await original_async(path)

        monkeypatch.setattr(fs, "_cat_file", counted)
    else:
        original = fs.cat_file

        def counted_here(path: str) -> bytes:
            asked.append(path)
            return original(path)

        monkeypatch.setattr(fs, "cat_file", counted_here)
    batches = batches_of([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]])
    with VolumeStream(store, MODALITY, batches) as stream:
        assert len(list(stream)) == 3
    assert len(asked) == stream.counts.volumes == 11
    assert len(set(asked)) == 11
    objects = Location(store.location.uri)
    assert stream.counts.bytes_fetched == sum(len(objects.read(store.layout(MODALITY).key(row))) for row in range(11))


@pytest.mark.parametrize(("in_flight", "most"), [(2, 4), (8, 8), (11, 8), (100, 12)])
def test_never_more_volumes_are_requested_than_in_flight_allows_but_always_one_batch(
    store: Store, in_flight: int, most: int
) -> None:
    slow, fs = slow_store(store) if not store.location.fs.async_impl else (store, store.location.fs)
    batches = batches_of([[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]])
    with VolumeStream(slow, MODALITY, batches, in_flight=in_flight) as stream:
        received = iter(stream)
        handed_over = len(next(received))
        settle()
        # What was requested ahead by now: all that may be, as the first batch was waited for.
        assert fs.num_asked == most
        for voxels in received:
            handed_over += len(voxels)
            assert fs.num_asked - handed_over <= max(in_flight, 4)
    assert fs.num_asked == handed_over == 12
    assert fs.most_active <= most


def test_the_order_is_the_plans_whatever_arrives_first(tmp_path: Path) -> None:
    slow, _ = slow_store(write_store(tmp_path, SCANS), delay_s=lambda number: 0.05 - 0.004 * number)
    batches = batches_of([[9, 8, 7], [6, 5, 4], [3, 2, 1]])
    with VolumeStream(slow, MODALITY, batches) as stream:
        received = torch.cat(list(stream))
    wanted = np.stack([volume_of(SCANS[row], "uint8") for row in range(9, 0, -1)])
    np.testing.assert_array_equal(received.numpy(), wanted)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
def test_every_stored_type_comes_as_it_is(tmp_path: Path, dtype: Dtype) -> None:
    store = write_store(tmp_path, SCANS[:3], dtype=dtype)
    with VolumeStream(store, MODALITY, batches_of([[2, 0]])) as stream:
        (voxels,) = stream
    assert voxels.dtype == getattr(torch, dtype)
    np.testing.assert_array_equal(voxels.numpy(), np.stack([volume_of(SCANS[row], dtype) for row in (2, 0)]))


def damage(store: Store, row: int, how: str) -> None:
    place = Location(store.location.uri)
    key = store.layout(MODALITY).key(row)
    if how == "missing":
        place.delete(key)
        return
    data = bytearray(place.read(key))
    if how == "flipped":
        data[len(data) // 2] ^= 1
    place.write(key, bytes(data[:3]) if how == "cut" else bytes(data))


@pytest.mark.parametrize(
    ("how", "reason"), [("missing", "its object is missing"), ("flipped", "checksum"), ("cut", "3 bytes are too few")]
)
def test_a_missing_or_damaged_object_is_an_error_that_names_the_row(store: Store, how: str, reason: str) -> None:
    damage(store, 6, how)
    received: list[torch.Tensor] = []
    with (
        pytest.raises(StoreError, match=rf"row 6 of T1w: .*{reason}"),
        VolumeStream(store, MODALITY, batches_of([[0, 1], [2, 3], [5, 6, 7], [8, 9]])) as stream,
    ):
        received.extend(stream)
    assert len(received) == 2
    assert own_threads() == []


def test_a_refusing_bucket_is_an_error_that_names_the_row(tmp_path: Path) -> None:
    slow, fs = slow_store(write_store(tmp_path, SCANS))

    async def refuse(path: str) -> bytes:
        raise PermissionError(f"403 for {path}")

    fs._cat_file = refuse
    with (
        pytest.raises(StorageError, match="row 2 of T1w: access refused"),
        VolumeStream(slow, MODALITY, batches_of([[2, 3]])) as stream,
    ):
        next(iter(stream))


def test_threads_are_gone_when_the_stream_is_read_to_its_end(store: Store) -> None:
    with VolumeStream(store, MODALITY, batches_of([[0, 1], [2, 3]])) as stream:
        assert sum(len(voxels) for voxels in stream) == 4
    assert own_threads() == []


def test_leaving_early_cancels_what_was_requested(tmp_path: Path) -> None:
    slow, fs = slow_store(write_store(tmp_path, SCANS), delay_s=lambda number: 0.0 if number <= 2 else 3600.0)
    with VolumeStream(slow, MODALITY, batches_of([[0, 1], [2, 3], [4, 5]])) as stream:
        batches = iter(stream)
        assert len(next(batches)) == 2
        assert fs.num_active == 4
    # The iterator is still referenced here, as it is by the traceback of whatever ended the block.
    settle()
    assert (fs.num_active, fs.num_cancelled) == (0, 4)
    assert own_threads() == []
    assert list(batches) == []


def test_a_failed_read_cancels_the_others(tmp_path: Path) -> None:
    store = write_store(tmp_path, SCANS)
    damage(store, 0, "missing")
    slow, fs = slow_store(store, delay_s=lambda number: 0.0 if number == 1 else 3600.0)
    with (
        pytest.raises(StoreError, match="row 0"),
        VolumeStream(slow, MODALITY, batches_of([[0, 1], [2, 3]])) as stream,
    ):
        next(iter(stream))
    settle()
    assert (fs.num_active, fs.num_cancelled) == (0, 3)


def test_nothing_is_forked_or_started(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> int:
        raise AssertionError("the stream started a process")

    monkeypatch.setattr(os, "fork", forbidden)
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    with VolumeStream(store, MODALITY, batches_of([[0, 1], [2, 3]])) as stream:
        assert sum(len(voxels) for voxels in stream) == 4
    assert multiprocessing.active_children() == []


def test_an_empty_plan_gives_no_batches(store: Store) -> None:
    with VolumeStream(store, MODALITY, []) as stream:
        assert list(stream) == []
