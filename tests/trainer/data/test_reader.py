"""The reader: from memory, disk or bucket, always right; damage is found, and closing tells everyone."""

import gc
import random
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from preprocess.errors import StorageError, StoreError
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.async_files import behind_loop, settle
from tests.support.cohorts import MODALITY, TinyScan, volume_of, write_store
from tests.support.slow_bucket.client import SlowBucket
from trainer.data.cache import DiskCache
from trainer.data.reader import RetryPolicy, VolumeReader
from trainer.data.reading import GivenUpError, Reading

SCANS = [TinyScan(f"sub-{number}", "ses-01", 0.0, float(number)) for number in range(24)]
VOLUME_BYTES = 16**3
Living = Callable[[], list[str]]
QUICK = RetryPolicy(patience_s=20.0, first_pause_s=0.001, longest_pause_s=0.01)


def read(reader: VolumeReader, rows: list[int]) -> tuple[Reading, np.ndarray]:
    memory = np.zeros((len(rows), *reader.layout.shape), reader.layout.dtype)
    reading = reader.read_many(rows, list(memory))
    assert reading.wait(20.0)
    return reading, memory


def assert_right(reader: VolumeReader, rows: list[int]) -> None:
    reading, memory = read(reader, rows)
    assert reading.faults == {}
    np.testing.assert_array_equal(memory, np.stack([volume_of(SCANS[row], "uint8") for row in rows]))


def test_a_second_epoch_from_the_disk_asks_the_bucket_for_nothing(
    distant: Store, slow: SlowBucket, tmp_path: Path
) -> None:
    for epoch in range(2):
        reader = VolumeReader(distant, MODALITY, cache=DiskCache(tmp_path, 2**20))
        assert_right(reader, list(range(24)))
        assert_right(reader, list(range(24)))
        assert reader.counts.cache_hits == 24 * (epoch + 1)
        reader.close()
    assert slow.stats().by_kind == {"media": 24}


def test_a_second_epoch_from_memory_asks_the_bucket_for_nothing(distant: Store, slow: SlowBucket) -> None:
    reader = VolumeReader(distant, MODALITY, resident_bytes=24 * VOLUME_BYTES)
    for _ in range(3):
        assert_right(reader, list(range(24)))
    assert (reader.counts.resident_hits, slow.stats().by_kind) == (48, {"media": 24})
    reader.close()


@pytest.mark.parametrize("room", [0, 1, 5])
def test_no_more_stays_in_memory_than_there_is_room_for(distant: Store, slow: SlowBucket, room: int) -> None:
    reader = VolumeReader(distant, MODALITY, resident_bytes=room * VOLUME_BYTES + 1)
    assert_right(reader, list(range(24)))
    assert_right(reader, list(range(24)))
    assert (reader.counts.resident_hits, slow.stats().num_requests) == (room, 48 - room)
    reader.close()


def test_what_stays_in_memory_is_not_the_consumers_memory(distant: Store) -> None:
    reader = VolumeReader(distant, MODALITY, resident_bytes=2**20)
    for _ in range(3):
        _, memory = read(reader, [4])
        memory[:] = 0
    assert_right(reader, [4])
    reader.close()


@pytest.mark.parametrize("spoil", [lambda data: data[:-9], lambda data: b"", lambda data: data[:50] + b"?" + data[51:]])
def test_a_spoiled_file_of_the_cache_is_fetched_again_and_mended(
    distant: Store, slow: SlowBucket, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    reader = VolumeReader(distant, MODALITY, cache=DiskCache(tmp_path, 2**20))
    assert_right(reader, [3])
    (path,) = tmp_path.rglob("*.row")
    whole = path.read_bytes()
    path.write_bytes(spoil(whole))
    assert_right(reader, [3])
    assert path.read_bytes() == whole
    assert_right(reader, [3])
    assert (slow.stats().num_requests, reader.counts.cache_hits) == (2, 1)
    reader.close()


def test_a_cache_that_cannot_be_written_does_no_harm(distant: Store, slow: SlowBucket, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    reader = VolumeReader(distant, MODALITY, cache=DiskCache(tmp_path / "file" / "below", 2**20))
    for _ in range(2):
        assert_right(reader, list(range(24)))
    assert slow.stats().num_requests == 48
    reader.close()


def test_damage_on_the_way_is_mended_by_one_more_fetch(tmp_path: Path) -> None:
    store = write_store(tmp_path, SCANS)
    true = {row: Location(store.location.uri).read(store.layout(MODALITY).key(row)) for row in range(24)}

    def flip_first(path: str, attempt: int) -> bytes | None:
        data = true[int(path.split("/c/")[1].split("/")[0])]
        return data[:40] + bytes([data[40] ^ 4]) + data[41:] if attempt == 1 else None

    slow, fs = behind_loop(store, script=flip_first)
    reader = VolumeReader(slow, MODALITY, in_flight=3)
    assert_right(reader, list(range(24)))
    assert set(fs.requested.values()) == {2}
    assert (reader.counts.requests, reader.counts.failures, reader.counts.held_bytes) == (48, 24, 0)
    reader.close()


def test_two_hundred_damaged_objects_are_all_found_and_named_after_one_more_fetch(tmp_path: Path) -> None:
    store = write_store(tmp_path, SCANS)
    layout = store.layout(MODALITY)
    draw = random.Random(5)
    true = {row: Location(store.location.uri).read(layout.key(row)) for row in range(24)}
    damaged: dict[int, bytes | None] = {}

    def script(path: str, attempt: int) -> bytes | None:
        row = int(path.split("/c/")[1].split("/")[0])
        if row in damaged and damaged[row] is None:
            raise FileNotFoundError(path)
        return damaged.get(row)

    slow, fs = behind_loop(store, script=script)
    reader = VolumeReader(slow, MODALITY)
    num_cases = 0
    while num_cases < 200:
        damaged.clear()
        fs.requested.clear()
        for row in draw.sample(range(24), 8):
            how = draw.choice(["missing", "cut", "flipped"])
            data = bytearray(true[row])
            if how == "cut":
                del data[draw.randrange(len(data)) :]
            else:
                data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            damaged[row] = None if how == "missing" else bytes(data)
        reading, memory = read(reader, list(range(24)))
        assert set(reading.faults) == set(damaged)
        for row, data in damaged.items():
            assert isinstance(reading.faults[row], StoreError)
            assert f"row {row} of {MODALITY}" in str(reading.faults[row])
            assert fs.requested[slow.location.key(layout.key(row))] == (1 if data is None else 2)
        for row in set(range(24)) - set(damaged):
            np.testing.assert_array_equal(memory[row], volume_of(SCANS[row], "uint8"))
        num_cases += len(damaged)
    reader.close()


def test_an_error_that_nobody_expected_is_told_and_the_reader_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(path: str, attempt: int) -> bytes | None:
        if "/c/2/" in path:
            raise ZeroDivisionError("in the request")
        return None

    slow, _ = behind_loop(write_store(tmp_path, SCANS), script=script)
    reader = VolumeReader(slow, MODALITY)
    true_keep = VolumeReader._keep

    def keep(self: VolumeReader, expected: object) -> None:
        if getattr(expected, "row", None) in {4, 5, 6, 7}:  # more often than there are threads
            raise MemoryError("in the thread")
        true_keep(self, expected)  # type: ignore[arg-type]

    monkeypatch.setattr(VolumeReader, "_keep", keep)
    reading, _ = read(reader, list(range(10)))
    assert {index: type(fault) for index, fault in reading.faults.items()} == {
        2: ZeroDivisionError,
        **dict.fromkeys((4, 5, 6, 7), MemoryError),
    }
    assert_right(reader, [8, 9])
    reader.close()


def test_a_row_that_is_missing_is_final(tmp_path: Path) -> None:
    store = write_store(tmp_path, SCANS)
    Location(store.location.uri).delete(store.layout(MODALITY).key(5))
    slow, fs = behind_loop(store)
    reader = VolumeReader(slow, MODALITY, retry=QUICK)
    reading, _ = read(reader, [5])
    assert isinstance(reading.faults[0], StoreError)
    assert fs.num_requested == 1
    reader.close()


def test_closing_tells_everyone_and_what_is_asked_afterwards_is_given_up(tmp_path: Path, own_threads: Living) -> None:
    slow, fs = behind_loop(write_store(tmp_path, SCANS), delay_s=lambda _: 3600.0)
    reader = VolumeReader(slow, MODALITY, in_flight=5)
    memory = np.zeros((24, *reader.layout.shape), np.uint8)
    readings = [reader.read_many(list(range(24)), list(memory)) for _ in range(3)]
    settle()
    reader.close()
    reader.close()
    readings.append(reader.read_many([1], [memory[0]]))
    for reading in readings:
        assert reading.wait(0.0)
        assert reading.num_pending == 0
        assert reading.faults
        assert all(isinstance(fault, GivenUpError) for fault in reading.faults.values())
    assert (fs.num_active, own_threads()) == (0, [])


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.004])
def test_closing_in_the_middle_leaves_nobody_waiting(tmp_path: Path, after_s: float) -> None:
    slow, _ = behind_loop(write_store(tmp_path / "store", SCANS), delay_s=lambda number: 0.001 * (number % 3))
    for cache in (None, DiskCache(tmp_path / "cache", 2**20)):
        reader = VolumeReader(slow, MODALITY, in_flight=5, cache=cache)
        memory = np.zeros((24, *reader.layout.shape), np.uint8)
        reading = reader.read_many(list(range(24)), list(memory))
        reading.wait(after_s)
        reader.close()
        assert reading.wait(0.0)
        assert reading.num_pending == 0
        assert reading.counts.volumes + len(reading.faults) == 24


def test_an_abandoned_reader_lets_its_threads_go(tmp_path: Path, own_threads: Living) -> None:
    slow, _ = behind_loop(write_store(tmp_path, SCANS))
    reader = VolumeReader(slow, MODALITY)
    assert_right(reader, [1, 2])
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("interscan-read")]
    gone = weakref.ref(reader)
    settle()
    del reader
    gc.collect()
    for thread in threads:
        thread.join(10.0)
    assert gone() is None
    assert own_threads() == []


def test_counts_that_are_begun_anew_leave_the_old_ones_alone(distant: Store) -> None:
    reader = VolumeReader(distant, MODALITY)
    first = reader.begin_counting()
    assert_right(reader, [1, 2, 3])
    second = reader.begin_counting()
    assert_right(reader, [1])
    assert (first.volumes, second.volumes, second.requests) == (3, 1, 1)
    reader.close()


def test_two_readers_do_not_share_their_bound(distant: Store, slow: SlowBucket) -> None:
    slow.set_speed(latency_s=0.05)
    readers = [VolumeReader(distant, MODALITY, in_flight=3) for _ in range(2)]
    memory = np.zeros((2, 24, *readers[0].layout.shape), np.uint8)
    readings = [reader.read_many(list(range(24)), list(slots)) for reader, slots in zip(readers, memory, strict=True)]
    assert all(reading.wait(20.0) for reading in readings)
    assert 4 <= slow.stats().most_concurrent <= 6
    for reader in readers:
        reader.close()


def test_a_bucket_that_stays_away_is_an_error_after_the_patience(distant: Store, slow: SlowBucket) -> None:
    reader = VolumeReader(distant, MODALITY, retry=RetryPolicy(patience_s=0.2, first_pause_s=0.01))
    slow.go_away(60.0)
    reading, _ = read(reader, [1, 2])
    assert [type(fault) for fault in reading.faults.values()] == [StorageError] * 2
    reader.close()
