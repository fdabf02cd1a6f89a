"""Gets single volumes of a store into memory: from RAM, from the disk cache, or from the bucket with one request.

Requests run on the file system's own event loop; decoding, which checks the CRC-32C, runs on a few threads, and never
on the loop, whose time is what limits requests per second. Failed requests are repeated with jittered, growing pauses;
an object that fails its check is fetched once more and then named.
"""

import asyncio
import atexit
import contextlib
import threading
import weakref
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

import fsspec.asyn
import numpy as np

from preprocess.errors import InterscanError
from preprocess.machine import num_cores
from preprocess.store import Store, content_digest
from trainer.data.cache import DiskCache
from trainer.data.device_rows import DeviceCohort
from trainer.data.fetching import Fetcher, RetryPolicy
from trainer.data.objects import Objects, choose_objects
from trainer.data.reading import GivenUpError, PendingVolume, ReadCounts, Reading

__all__ = ["ReadCounts", "RetryPolicy", "VolumeReader"]

PLAIN_THREADS = 4
"""For file systems without an event loop, where threads wait for the disk as well."""

Work = tuple[Callable[..., None], PendingVolume, bytes | list[PendingVolume] | None]
"""A function for a thread to call, with its arguments: the volume, and its bytes or further volumes."""


def decode_threads(cores: int) -> int:
    """Threads that decode: zstd takes 0.4 to 1 ms of a core for a 96^3 uint8 volume, and the loop wants a core too."""
    return max(2, min(8, cores - 1))


class VolumeReader:
    """Reads volumes of one modality; kept for a whole run, so that what it holds serves every epoch.

        reader = VolumeReader(store, "T1w", resident_bytes=10**9)
        with VolumeStream(store, "T1w", batches, reader=reader) as stream: ...
        reader.close()

    Args:
        store: where the volumes are.
        modality: which array.
        in_flight: most requests at once.
        retry: how long a request is tried.
        cache: objects on a local disk; None for none.
        resident_bytes: decoded volumes kept in memory, up to this many bytes.
        on_device: what the run keeps on the training device, for `trainer.data.resident`; nothing when None.
    """

    def __init__(
        self,
        store: Store,
        modality: str,
        *,
        in_flight: int = 64,
        retry: RetryPolicy | None = None,
        cache: DiskCache | None = None,
        resident_bytes: int = 0,
        on_device: DeviceCohort | None = None,
    ) -> None:
        self.layout = store.layout(modality)
        self.counts = ReadCounts()
        self.on_device = on_device
        self._store = store
        self._cache = cache
        self._fs = store.location.fs
        self._root = store.location.key("")
        self._keys = store.content_digests(modality) if cache else {}
        self._resident: dict[int, np.ndarray] = {}
        self._resident_room = resident_bytes
        self._lock = threading.Lock()
        self._is_closed = False
        self._readings: weakref.WeakSet[Reading] = weakref.WeakSet()
        self._loop = (self._fs.loop or fsspec.asyn.get_loop()) if self._fs.async_impl else None
        objects = choose_objects(self._fs, in_flight)
        self._fetcher = Fetcher(
            objects,
            path_of=self._path,
            explain=self._explain,
            arrived=self._arrived,
            in_flight=in_flight,
            retry=retry or RetryPolicy(),
        )
        # A queue and threads of our own: a future for each object costs the loop as much as a tenth of its request.
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=_work_off, args=(self._work,), name=f"interscan-read-{number}", daemon=True)
            for number in range(decode_threads(num_cores()) if self._fs.async_impl else PLAIN_THREADS)
        ]
        for thread in self._threads:
            thread.start()
        self._at_exit = partial(_close_if_alive, weakref.ref(self))
        atexit.register(self._at_exit)
        self._let_go = weakref.finalize(
            self, _let_go, self._work, len(self._threads), objects, self._loop, self._at_exit
        )
        self._let_go.atexit = False

    def close(self) -> None:
        """Give up what is under way; stop the threads; let go of connections and of what is held."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            readings = list(self._readings)
        self._let_go.detach()
        atexit.unregister(self._at_exit)
        for reading in readings:
            reading.give_up()
        if self._loop is not None and not self._loop.is_closed():
            fsspec.asyn.sync(self._loop, self._fetcher.close)
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()
        self._resident.clear()

    def stop_keeping(self) -> None:
        """Keep no further volume in memory; what is kept stays, as it may be about to be copied."""
        with self._lock:
            self._resident_room = 0

    def begin_counting(self) -> ReadCounts:
        """Start new counts, which later reads add to; the old ones are added to by reads that began before."""
        self.counts = ReadCounts()
        return self.counts

    def read_many(self, rows: list[int], slots: list[np.ndarray], *, fails_at_once: bool = False) -> Reading:
        """Request volumes; returns at once.

        Args:
            rows: which.
            slots: C-contiguous memory of the row's shape and dtype, one for each.
            fails_at_once: whether the first error ends the wait for the others.

        Returns:
            What to wait for. Volumes of a closed reader are given up.
        """
        reading = Reading(len(rows), self.counts, fails_at_once=fails_at_once)
        with self._lock:
            if self._is_closed:
                reading.give_up()
                return reading
            self._readings.add(reading)
        distant = []
        for index, (row, slot) in enumerate(zip(rows, slots, strict=True)):
            volume = PendingVolume(reading, index, row, slot)
            if row in self._resident:
                self._work.put((self._copy, volume, None))
            elif self._cache is not None or self._loop is None:
                self._work.put((self._read_near, volume, None))
            else:
                distant.append(volume)
        if distant:
            # One hand-over to the loop for a whole batch: each costs as much as a tenth of a request. It lets other
            # threads run first, so it is left to one of them: the caller may have an accelerator that waits.
            self._work.put((self._request, distant[0], distant))
        return reading

    def give_up(self, reading: Reading) -> None:
        """Give up what has not come yet."""
        reading.give_up()
        self._on_loop(self._fetcher.cancel, reading)

    def _on_loop(self, function: Callable[..., object], *arguments: Any) -> None:
        if self._loop is not None:
            # An error means that the loop is closed, and so is this reader: all volumes have completed then.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(function, *arguments)

    def _request(self, _: PendingVolume, distant: list[PendingVolume]) -> None:
        self._on_loop(self._fetcher.request, distant)

    def _arrived(self, volume: PendingVolume, data: bytes) -> None:
        """Hand an object to the threads; the loop does not wait for them."""
        self._work.put((self._decode_fetched, volume, data))

    def _copy(self, volume: PendingVolume, _: bytes | None) -> None:
        np.copyto(volume.slot, self._resident[volume.row])
        volume.reading.counts.add(resident_hits=1)
        volume.complete(None)

    def _read_near(self, volume: PendingVolume, _: bytes | None) -> None:
        """From the disk cache, or from a file system that has no event loop; the bucket otherwise."""
        counts = volume.reading.counts
        if self._cache is not None and self._decode_cached(volume, self._cache):
            counts.add(cache_hits=1)
            volume.complete(None)
            return
        if self._loop is not None:
            self._on_loop(self._fetcher.request, [volume])
            return
        counts.add(requests=1)
        try:
            data: bytes = self._fs.cat_file(self._path(volume.row))
            counts.add(bytes_fetched=len(data))
            self._decode(volume, data)
        except Exception as error:  # noqa: BLE001 - reported to whoever waits
            volume.complete(self._explain(volume.row, error))
            return
        volume.complete(None)

    def _decode_cached(self, volume: PendingVolume, cache: DiskCache) -> bool:
        key = self._keys.get(volume.row, "")
        data = cache.get(key) if key else None
        if data is None:
            return False
        try:
            self.layout.decode_into(data, volume.slot)
        except ValueError:
            cache.drop(key)
            return False
        if not self.layout.has_checksum and content_digest(volume.slot) != key:
            cache.drop(key)
            return False
        self._keep(volume)
        return True

    def _decode_fetched(self, volume: PendingVolume, data: bytes | None) -> None:
        assert data is not None
        counts = volume.reading.counts
        try:
            if not volume.reading.is_over:
                self._decode(volume, data)
        except ValueError as error:
            if volume.was_damaged:
                volume.complete(self._explain(volume.row, error))
                return
            # Damaged on its way or in the bucket: a second fetch shows which.
            volume.was_damaged = True
            counts.add(failures=1)
            self._on_loop(self._fetcher.request_first, volume)
            return
        finally:
            counts.add(held_bytes=-len(data))
        volume.complete(GivenUpError("given up") if volume.reading.is_over else None)

    def _decode(self, volume: PendingVolume, data: bytes) -> None:
        """Decode into the slot and keep what is to be kept.

        Raises:
            ValueError: the object is damaged.
        """
        self.layout.decode_into(data, volume.slot)
        if self._cache is not None and self._keys.get(volume.row):
            self._cache.put(self._keys[volume.row], data)
        self._keep(volume)

    def _keep(self, volume: PendingVolume) -> None:
        if self._resident_room < volume.slot.nbytes:
            return
        with self._lock:
            if volume.row in self._resident or self._resident_room < volume.slot.nbytes:
                return
            self._resident_room -= volume.slot.nbytes
        self._resident[volume.row] = volume.slot.copy()

    def _explain(self, row: int, error: Exception) -> Exception:
        """The error that names the row; one that nobody expected stays what it is."""
        try:
            with self._store.naming(row, self.layout.modality):
                raise error  # noqa: TRY301 - `naming` is a context
        except InterscanError as named:
            return named
        except Exception as unexpected:  # noqa: BLE001 - handed on
            return unexpected

    def _path(self, row: int) -> str:
        return f"{self._root}/{self.layout.key(row)}"


def _work_off(queue: "SimpleQueue[Work | None]") -> None:
    """What a thread does; it holds the reader only while there is work, so that an abandoned one can be collected."""
    while (work := queue.get()) is not None:
        function, volume, data = work
        try:
            if data is None and volume.reading.is_over:
                volume.complete(GivenUpError("given up"))
            else:
                function(volume, data)
        except BaseException as error:  # noqa: BLE001 - reported to whoever waits; the thread lives on
            volume.complete(error)
        del work, function, volume, data


def _close_if_alive(reference: "weakref.ref[VolumeReader]") -> None:
    reader = reference()
    if reader is not None:
        reader.close()


def _let_go(
    work: "SimpleQueue[Work | None]",
    num_threads: int,
    objects: Objects,
    loop: asyncio.AbstractEventLoop | None,
    at_exit: Callable[[], None],
) -> None:
    """What `close` does, for a reader that was abandoned; may run on any thread, so it waits for nothing."""
    atexit.unregister(at_exit)
    for _ in range(num_threads):
        work.put(None)
    if loop is not None and not loop.is_closed():
        asyncio.run_coroutine_threadsafe(objects.close(), loop)
