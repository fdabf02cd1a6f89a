"""The stream gives what the store holds, in the plan's order, with one request a volume, bounded, and cleans up."""

import multiprocessing
import os
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.errors import StorageError, StoreError, UsageError
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.async_files import behind_loop, settle
from tests.support.cohorts import MODALITY, Dtype, TinyScan, volume_of, write_store
from tests.support.slow_bucket.client import SlowBucket
from trainer.data.cache import DiskCache
from trainer.data.reader import RetryPolicy, VolumeReader
from trainer.data.stream import StreamOptions, VolumeStream

SCANS = [TinyScan(f"sub-{number}", "ses-01", 0.0, float(number)) for number in range(14)]
VOLUME_BYTES = 16**3
Living = Callable[[], list[str]]
QUICK = RetryPolicy(patience_s=20.0, first_pause_s=0.001, longest_pause_s=0.01)


@pytest.fixture(params=["local", "memory", "asynchronous"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "local":
        yield write_store(tmp_path, SCANS)
        return
    location = Location(f"memory://stream-{uuid.uuid4().hex}")
    written = write_store(location, SCANS)
    yield behind_loop(written)[0] if request.param == "asynchronous" else written
    location.delete("")


def batches_of(rows: list[list[int]]) -> list[np.ndarray]:
    return [np.array(batch, dtype=np.int64) for batch in rows]


def expected_of(rows: np.ndarray, dtype: Dtype = "uint8") -> np.ndarray:
    return np.stack([volume_of(SCANS[row], dtype) for row in rows.ravel()]).reshape(*rows.shape, 1, 16, 16, 16)


def test_batches_are_the_rows_of_the_plan_in_its_order(store: Store) -> None:
    batches = batches_of([[3, 1, 7], [0, 2, 5], [13, 12], [3, 3, 4]])
    with VolumeStream(store, MODALITY, batches, StreamOptions(in_flight=6)) as stream:
        received = [voxels.clone() for voxels in stream]
    assert len(received) == len(batches)
    for rows, voxels in zip(batches, received, strict=True):
        np.testing.assert_array_equal(voxels.numpy(), expected_of(rows))
        np.testing.assert_array_equal(voxels.numpy(), np.stack([store.read(row, MODALITY) for row in rows.tolist()]))


def test_pairs_keep_their_shape(store: Store) -> None:
    batch = np.array([[3, 1], [7, 2]])
    with VolumeStream(store, MODALITY, [batch]) as stream:
        (voxels,) = stream
    np.testing.assert_array_equal(voxels.numpy(), expected_of(batch))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_the_order_is_the_plans_for_any_concurrency_cache_memory_and_faults(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("any")
    sizes = data.draw(st.lists(st.integers(1, 5), max_size=8))
    batches = [np.array(data.draw(st.lists(st.integers(0, 13), min_size=n, max_size=n))) for n in sizes]
    failing = data.draw(st.sets(st.tuples(st.integers(0, 13), st.integers(1, 3))))
    late = data.draw(st.sets(st.integers(1, 20)))

    def script(path: str, attempt: int) -> bytes | None:
        row = int(path.split("/c/")[1].split("/")[0])
        if (row, attempt) in failing:
            raise OSError("reset")
        return None

    slow, _ = behind_loop(
        write_store(folder / "store", SCANS), delay_s=lambda number: 0.01 if number in late else 0.0, script=script
    )
    reader = VolumeReader(
        slow,
        MODALITY,
        in_flight=data.draw(st.integers(1, 40)),
        retry=QUICK,
        cache=data.draw(st.sampled_from([None, DiskCache(folder / "cache", 9000)])),
        resident_bytes=data.draw(st.sampled_from([0, 3 * VOLUME_BYTES, 2**20])),
    )
    try:
        for _ in range(2):
            options = StreamOptions(reuse=data.draw(st.booleans()), budget_bytes=40 * VOLUME_BYTES)
            with VolumeStream(slow, MODALITY, batches, options, reader=reader) as stream:
                received = [voxels.numpy().copy() for voxels in stream]
            assert len(received) == len(batches)
            for rows, voxels in zip(batches, received, strict=True):
                np.testing.assert_array_equal(voxels, expected_of(rows))
            assert stream.counts.reads.peak_bytes <= 1.1 * 40 * VOLUME_BYTES
    finally:
        reader.close()


def test_an_epoch_is_one_request_a_volume_and_the_bytes_that_are_stored(distant: Store, slow: SlowBucket) -> None:
    layout = distant.layout(MODALITY)
    stored_bytes = sum(len(distant.location.read(layout.key(row))) for row in range(24))
    slow.reset()
    reader = VolumeReader(distant, MODALITY, in_flight=8)
    for epoch in range(3):
        order = np.random.default_rng(epoch).permutation(24)
        with VolumeStream(distant, MODALITY, np.split(order, 6), reader=reader) as stream:
            assert sum(len(voxels) for voxels in stream) == 24
        assert stream.counts.reads.requests == stream.counts.volumes == 24
        assert stream.counts.bytes_fetched == stored_bytes
    reader.close()
    stats = slow.stats()
    assert stats.by_kind == {"media": 3 * 24}
    assert set(stats.media_by_object.values()) == {3}
    assert stats.media_bytes_sent == 3 * stored_bytes
    assert stats.bytes_sent / (3 * stored_bytes) <= 1.01 + stats.num_requests * 600 / (3 * stored_bytes)
    assert stats.most_concurrent <= 8


@pytest.mark.parametrize("in_flight", [1, 3, 50])
def test_never_more_are_in_flight_than_allowed_nor_requested_than_read_ahead(tmp_path: Path, in_flight: int) -> None:
    slow, fs = behind_loop(write_store(tmp_path, SCANS), delay_s=lambda _: 0.002)
    batches = batches_of([[number % 14, (number + 1) % 14] for number in range(30)])
    budget = 6 * 2 * 2 * VOLUME_BYTES  # the consumer's batch, and five ahead
    ahead = 2 * min(5, max(2, in_flight))
    with VolumeStream(slow, MODALITY, batches, StreamOptions(in_flight=in_flight, budget_bytes=budget)) as stream:
        received = iter(stream)
        handed_over = len(next(received))
        settle(0.05)
        assert fs.num_requested == ahead, "the first batch asks for what is read ahead and nothing else"
        for voxels in received:
            handed_over += len(voxels)
            assert fs.num_requested - handed_over < ahead + 2
    assert fs.num_requested == handed_over == 60
    assert fs.most_active <= in_flight


def test_the_order_is_the_plans_whatever_arrives_first(tmp_path: Path) -> None:
    slow, _ = behind_loop(write_store(tmp_path, SCANS), delay_s=lambda number: 0.05 - 0.004 * number)
    batches = batches_of([[9, 8, 7], [6, 5, 4], [3, 2, 1]])
    with VolumeStream(slow, MODALITY, batches) as stream:
        received = torch.cat(list(stream))
    np.testing.assert_array_equal(received.numpy(), expected_of(np.arange(9, 0, -1)))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
def test_every_stored_type_comes_as_it_is(tmp_path: Path, dtype: Dtype) -> None:
    store = write_store(tmp_path, SCANS[:3], dtype=dtype)
    with VolumeStream(store, MODALITY, batches_of([[2, 0]])) as stream:
        (voxels,) = stream
    assert voxels.dtype == getattr(torch, dtype)
    np.testing.assert_array_equal(voxels.numpy(), expected_of(np.array([2, 0]), dtype))


@pytest.mark.parametrize("reuse", [False, True])
def test_what_is_held_stays_within_the_budget_while_the_consumer_is_slow(tmp_path: Path, reuse: bool) -> None:
    slow, _ = behind_loop(write_store(tmp_path, SCANS))
    batches = batches_of([[number % 14, (number + 1) % 14, 0] for number in range(40)])
    budget = 4 * 3 * 2 * VOLUME_BYTES
    with VolumeStream(slow, MODALITY, batches, StreamOptions(in_flight=64, budget_bytes=budget, reuse=reuse)) as stream:
        for number, _ in enumerate(stream):
            settle(0.01 if number < 5 else 0.0)
    assert 4 * 3 * VOLUME_BYTES <= stream.counts.reads.peak_bytes <= 1.1 * budget


def test_a_budget_below_two_batches_is_refused_and_leaves_no_threads(tmp_path: Path, own_threads: Living) -> None:
    store = write_store(tmp_path, SCANS)
    with pytest.raises(UsageError, match=r"two batches of 3 volumes .* lower data.batch_size or raise --budget-gb"):
        VolumeStream(store, MODALITY, batches_of([[1, 2, 3]]), StreamOptions(budget_bytes=2 * 3 * 2 * VOLUME_BYTES - 1))
    assert own_threads() == []


def test_memory_that_is_handed_out_again_is_not_written_while_the_consumer_has_it(tmp_path: Path) -> None:
    slow, _ = behind_loop(write_store(tmp_path, SCANS))
    batches = batches_of([[number % 14, (3 * number) % 14] for number in range(40)])
    addresses = set()
    with VolumeStream(slow, MODALITY, batches, StreamOptions(reuse=True, budget_bytes=16 * VOLUME_BYTES)) as stream:
        for rows, voxels in zip(batches, stream, strict=True):
            settle(0.002)  # all that is requested arrives while the consumer holds its batch
            np.testing.assert_array_equal(voxels.numpy(), expected_of(rows))
            addresses.add(voxels.data_ptr())
    assert len(addresses) <= 4


def test_without_reuse_a_batch_is_the_consumers_for_ever(tmp_path: Path) -> None:
    batches = batches_of([[number % 14] for number in range(20)])
    with VolumeStream(write_store(tmp_path, SCANS), MODALITY, batches) as stream:
        kept = list(stream)
    np.testing.assert_array_equal(torch.cat(kept).numpy(), expected_of(np.concatenate(batches)))


def test_pinned_memory_is_refilled_only_after_its_copies_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    true_empty = torch.empty

    class Event:
        def record(self) -> None:
            said.append("recorded")

        def synchronize(self) -> None:
            said.append("waited")

    def empty(*arguments: Any, pin_memory: bool, **options: Any) -> torch.Tensor:
        said.append("pinned" if pin_memory else "plain")
        return true_empty(*arguments, **options)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch, "empty", empty)
    batches = batches_of([[0], [1], [2], [3], [4]])
    options = StreamOptions(reuse=True, pin_memory=True, budget_bytes=3 * 2 * VOLUME_BYTES)
    with VolumeStream(write_store(tmp_path, SCANS), MODALITY, batches, options) as stream:
        assert len(list(stream)) == 5
    assert said == [
        "pinned",
        "pinned",
        "recorded",
        "waited",
        "recorded",
        "waited",
        "recorded",
        "waited",
        *["recorded"] * 2,
    ]


def damage(store: Store, row: int, how: str) -> None:
    location, key = Location(store.location.uri), store.layout(MODALITY).key(row)
    data = bytearray(location.read(key))
    data[len(data) // 2] ^= 1
    if how == "missing":
        location.delete(key)
    else:
        location.write(key, bytes(data[:3]) if how == "cut" else bytes(data))


@pytest.mark.parametrize(
    ("how", "reason"), [("missing", "its object is missing"), ("flipped", "checksum"), ("cut", "3 bytes are too few")]
)
def test_a_missing_or_damaged_object_is_an_error_with_its_row(
    store: Store, how: str, reason: str, own_threads: Living
) -> None:
    damage(store, 6, how)
    received: list[torch.Tensor] = []
    with (
        pytest.raises(StoreError, match=rf"row 6 of T1w: .*{reason}"),
        VolumeStream(store, MODALITY, batches_of([[0, 1], [2, 3], [5, 6, 7], [8, 9]])) as stream,
    ):
        received.extend(stream)
    assert len(received) == 2
    assert own_threads() == []


def test_what_may_be_left_out_is_left_out_and_the_rest_is_right(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    for row, how in ((6, "missing"), (3, "flipped"), (4, "cut"), (5, "missing")):
        damage(store, row, how)
    batches = [np.array([[0, 1], [6, 2], [7, 8]]), np.array([[3, 4], [5, 9]]), np.array([[10, 11]])]
    with VolumeStream(store, MODALITY, batches, StreamOptions(max_left_out=3)) as stream:
        received = [(voxels.numpy().copy(), None if stream.kept is None else stream.kept.tolist()) for voxels in stream]
    assert [kept for _, kept in received] == [[0, 2], [], None], "the second batch is lost as a whole"
    np.testing.assert_array_equal(received[0][0], expected_of(batches[0][[0, 2]]))
    np.testing.assert_array_equal(received[2][0], expected_of(batches[2]))
    assert (stream.counts.left_out, stream.counts.volumes) == (3, 6)
    assert [f"row {row} of" in caplog.text for row in range(3, 7)] == [True] * 4


@pytest.mark.parametrize(("max_left_out", "num_batches"), [(0, 0), (1, 1), (2, 2)])
def test_no_more_is_left_out_than_may_be(tmp_path: Path, max_left_out: int, num_batches: int) -> None:
    store = write_store(tmp_path, SCANS)
    for row in (1, 3, 5):
        damage(store, row, "missing")
    received: list[int] = []
    with (
        pytest.raises(StoreError, match=f"row {1 + 2 * max_left_out} "),
        VolumeStream(store, MODALITY, np.split(np.arange(6), 3), StreamOptions(max_left_out=max_left_out)) as stream,
    ):
        received.extend(len(voxels) for voxels in stream)
    assert received == [1] * num_batches


def test_a_refusing_bucket_is_never_left_out_and_names_the_row(tmp_path: Path) -> None:
    def refuse(path: str, attempt: int) -> bytes:
        raise PermissionError(f"403 for {path}")

    slow, fs = behind_loop(write_store(tmp_path, SCANS), script=refuse)
    with (
        pytest.raises(StorageError, match=r"row [23] of T1w: access refused"),
        VolumeStream(slow, MODALITY, batches_of([[2, 3]]), StreamOptions(max_left_out=10)) as stream,
    ):
        next(iter(stream))
    assert max(fs.requested.values()) == 1


def test_threads_are_gone_when_the_stream_is_read_to_its_end(store: Store, own_threads: Living) -> None:
    with VolumeStream(store, MODALITY, batches_of([[0, 1], [2, 3]])) as stream:
        assert own_threads() != []
        assert sum(len(voxels) for voxels in stream) == 4
    assert own_threads() == []


def test_leaving_early_cancels_what_was_requested(tmp_path: Path, own_threads: Living) -> None:
    slow, fs = behind_loop(write_store(tmp_path, SCANS), delay_s=lambda number: 0.0 if number <= 2 else 3600.0)
    with VolumeStream(slow, MODALITY, batches_of([[0, 1], [2, 3], [4, 5]])) as stream:
        batches = iter(stream)
        assert len(next(batches)) == 2
        settle()
        assert fs.num_active == 4
    # The iterator is still referenced here, as it is by the traceback of whatever ended the block.
    assert (fs.num_active, fs.num_cancelled) == (0, 4)
    assert own_threads() == []
    assert list(batches) == []


def test_an_abandoned_iterator_gives_up_its_requests_and_the_reader_serves_the_next(tmp_path: Path) -> None:
    slow, fs = behind_loop(write_store(tmp_path, SCANS), delay_s=lambda number: 0.0 if number in {1, 7} else 3600.0)
    reader = VolumeReader(slow, MODALITY, in_flight=5)
    stream = VolumeStream(slow, MODALITY, batches_of([[0], [1], [2], [3], [4], [5]]), reader=reader)
    iterator = iter(stream)
    next(iterator)
    settle()
    assert fs.num_active == 5
    del iterator
    settle()
    assert (fs.num_active, fs.num_cancelled) == (0, 5)
    with VolumeStream(slow, MODALITY, batches_of([[13]]), reader=reader) as following:
        (voxels,) = following
    np.testing.assert_array_equal(voxels.numpy(), expected_of(np.array([13])))
    assert following.counts.reads.requests == 1
    reader.close()


def test_a_failed_read_cancels_the_others(tmp_path: Path) -> None:
    store = write_store(tmp_path, SCANS)
    damage(store, 0, "missing")
    slow, fs = behind_loop(store, delay_s=lambda number: 0.0 if number == 1 else 3600.0)
    with (
        pytest.raises(StoreError, match="row 0"),
        VolumeStream(slow, MODALITY, batches_of([[0, 1], [2, 3]])) as stream,
    ):
        next(iter(stream))
    assert fs.num_active == 0


def test_a_stream_closed_by_another_thread_ends_the_wait(tmp_path: Path) -> None:
    slow, _ = behind_loop(write_store(tmp_path, SCANS), delay_s=lambda _: 3600.0)
    received: list[torch.Tensor] = []
    with VolumeStream(slow, MODALITY, batches_of([[0, 1], [2, 3]])) as stream:
        waiting = threading.Thread(target=lambda: received.extend(stream))
        waiting.start()
        settle(0.05)
        assert waiting.is_alive()
    waiting.join(10.0)
    assert not waiting.is_alive()
    assert received == []


def test_nothing_is_forked_or_started(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> int:
        raise AssertionError("the stream started a process")

    before = set(multiprocessing.active_children())
    monkeypatch.setattr(os, "fork", forbidden)
    monkeypatch.setattr(subprocess, "Popen", forbidden)
    with VolumeStream(store, MODALITY, batches_of([[0, 1], [2, 3]])) as stream:
        assert sum(len(voxels) for voxels in stream) == 4
    assert set(multiprocessing.active_children()) <= before


def test_an_empty_plan_gives_no_batches(store: Store) -> None:
    with VolumeStream(store, MODALITY, []) as stream:
        assert list(stream) == []


@pytest.mark.slow
def test_memory_does_not_grow_over_twenty_thousand_volumes(tmp_path: Path) -> None:
    def resident_bytes() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    slow, _ = behind_loop(write_store(Location(f"memory://grow-{uuid.uuid4().hex}"), SCANS))
    batches = [np.arange(10)] * 2400
    with VolumeStream(slow, MODALITY, batches, StreamOptions(in_flight=32, reuse=True)) as stream:
        before = 0
        for number, _ in enumerate(stream):
            if number == 400:
                before = resident_bytes()
    assert stream.counts.volumes == 24_000
    assert resident_bytes() - before <= 5e6
