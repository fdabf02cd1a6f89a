"""Gets single volumes of a store into memory: from RAM, from the disk cache, or from the bucket with one request.

Requests run on the file system's own event loop, bounded in number; decoding, which checks the CRC-32C, runs on a few
threads, and never on the loop, whose time is what limits requests per second. Failed requests are repeated with
jittered, growing pauses; an object that fails its check is fetched once more and then named.
"""

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import fsspec.asyn
import numpy as np

from preprocess.errors import StorageError
from preprocess.store import Store
from trainer.data.cache import DiskCache
from trainer.data.objects import choose_objects

_DECODE_THREADS = 2
"""zstd takes 0.5 to 1 ms of one core for a 96^3 uint8 volume: two threads decode 1,400 to 4,000 volumes/s."""
_PLAIN_THREADS = 4
"""For file systems without an event loop, where threads wait for the disk as well."""

Done = Callable[[int, BaseException | None], None]
"""Called once for each requested volume, from any thread: its place in the request, and None or what went wrong."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a request is tried.

    Attributes:
        patience_s: a bucket that refuses for longer than this fails the run.
        first_pause_s: mean pause after the first failure; doubles with each further one.
        longest_pause_s: longest mean pause.
        attempt_s: one attempt that takes longer counts as failed.
        hedge_s: an attempt that takes longer than this is raced by a second request; 0 for never.
    """

    patience_s: float = 300.0
    first_pause_s: float = 0.1
    longest_pause_s: float = 10.0
    attempt_s: float = 60.0
    hedge_s: float = 0.0

    def pause_s(self, failures: int) -> float:
        """A random pause after the given number of failures, between half and one and a half of the mean."""
        mean = min(self.longest_pause_s, self.first_pause_s * 2.0 ** (failures - 1))
        return mean * random.uniform(0.5, 1.5)  # noqa: S311 - spreads clients, guards nothing


@dataclass(slots=True)
class ReadCounts:
    """What a reader has done so far.

    Attributes:
        volumes: volumes delivered.
        requests: objects asked of the bucket, repeats included.
        bytes_fetched: of objects that arrived.
        failures: requests that failed and were repeated.
        cache_hits: volumes from the disk cache.
        resident_hits: volumes from memory.
    """

    volumes: int = 0
    requests: int = 0
    bytes_fetched: int = 0
    failures: int = 0
    cache_hits: int = 0
    resident_hits: int = 0


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A volume under way: which, where to, and whom to tell."""

    row: int
    slot: np.ndarray
    done: Callable[[BaseException | None], None]


class VolumeReader:
    """Reads volumes of one modality; kept for a whole run, so that what it holds serves every epoch.

    Args:
        store: where the volumes are.
        modality: which array.
        in_flight: most requests at once.
        retry: how long a request is tried.
        cache: objects on a local disk; None for none.
        resident_bytes: decoded volumes kept in memory, up to this many bytes.
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
    ) -> None:
        self.layout = store.layout(modality)
        self.counts = ReadCounts()
        self._store = store
        self._retry = retry or RetryPolicy()
        self._cache = cache
        self._fs = store.location.fs
        self._objects = choose_objects(self._fs, in_flight)
        self._root = store.location.key("")
        self._slots = asyncio.Semaphore(in_flight)
        self._keys = {r.row: r.content_sha256 for r in store.records if r.modality == modality} if cache else {}
        self._resident: dict[int, np.ndarray] = {}
        self._resident_room = resident_bytes
        num_threads = _DECODE_THREADS if self._fs.async_impl else _PLAIN_THREADS
        self._threads = ThreadPoolExecutor(num_threads, thread_name_prefix="interscan-read")

    def close(self) -> None:
        """Stop the threads and let go of connections and of what is held."""
        self._objects.close()
        self._threads.shutdown(wait=True, cancel_futures=True)
        self._resident.clear()

    def begin_counting(self) -> ReadCounts:
        """Start new counts, which this and later reads add to; the old ones stay as they are."""
        self.counts = ReadCounts()
        return self.counts

    def read_many(self, rows: list[int], slots: list[np.ndarray], done: Done) -> Callable[[], object]:
        """Ask for volumes; returns at once.

        Args:
            rows: which.
            slots: C-contiguous memory of the row's shape and dtype, one for each.
            done: called for each volume.

        Returns:
            A function that gives up what has not begun.
        """
        distant = []
        for place, (row, slot) in enumerate(zip(rows, slots, strict=True)):
            wanted = _Wanted(row, slot, partial(done, place))
            if row in self._resident:
                self._threads.submit(self._copy, wanted)
            elif self._cache is not None or not self._fs.async_impl:
                self._threads.submit(self._read_near, wanted)
            else:
                distant.append(wanted)
        return self._fetch_all(distant) if distant else _nothing

    def _fetch_all(self, distant: list[_Wanted]) -> Callable[[], object]:
        async def fetch_all() -> None:
            await asyncio.gather(*(self._fetch(wanted) for wanted in distant))

        # One hand-over to the loop for a whole batch: each costs as much as a tenth of a request.
        return asyncio.run_coroutine_threadsafe(fetch_all(), fsspec.asyn.get_loop()).cancel

    def _copy(self, wanted: _Wanted) -> None:
        np.copyto(wanted.slot, self._resident[wanted.row])
        self.counts.resident_hits += 1
        self._deliver(wanted)

    def _read_near(self, wanted: _Wanted) -> None:
        """From the disk cache, or from a file system that has no event loop; the bucket otherwise."""
        try:
            if self._cache is not None and self._decode_cached(wanted, self._cache):
                self.counts.cache_hits += 1
                self._deliver(wanted)
                return
            if self._fs.async_impl:
                self._fetch_all([wanted])
                return
            self.counts.requests += 1
            with self._store.naming(wanted.row, self.layout.modality):
                data: bytes = self._fs.cat_file(self._path(wanted.row))
                self.counts.bytes_fetched += len(data)
                self._arrived(wanted, data)
        except Exception as error:  # noqa: BLE001 - raised again where the batch is waited for
            wanted.done(error)
            return
        self._deliver(wanted)

    def _decode_cached(self, wanted: _Wanted, cache: DiskCache) -> bool:
        key = self._keys.get(wanted.row, "")
        data = cache.get(key) if key else None
        if data is None:
            return False
        try:
            self.layout.decode_into(data, wanted.slot)
        except ValueError:
            cache.drop(key)
            return False
        self._keep(wanted)
        return True

    async def _fetch(self, wanted: _Wanted) -> None:
        """One volume from the bucket: fetched on the loop, then handed to a thread that the loop does not wait for."""
        try:
            async with self._slots:
                data = await self._fetch_patiently(wanted.row)
            self._threads.submit(self._decode_fetched, wanted, data)
        except Exception as error:  # noqa: BLE001 - raised again where the batch is waited for
            wanted.done(error)

    def _decode_fetched(self, wanted: _Wanted, data: bytes) -> None:
        try:
            self._arrived(wanted, data)
        except ValueError:
            # Damaged on its way or at its place: one more fetch tells.
            self.counts.failures += 1
            asyncio.run_coroutine_threadsafe(self._fetch_again(wanted), fsspec.asyn.get_loop())
            return
        self._deliver(wanted)

    async def _fetch_again(self, wanted: _Wanted) -> None:
        try:
            data = await self._fetch_patiently(wanted.row)
            with self._store.naming(wanted.row, self.layout.modality):
                await asyncio.get_running_loop().run_in_executor(self._threads, self._arrived, wanted, data)
        except Exception as error:  # noqa: BLE001 - raised again where the batch is waited for
            wanted.done(error)
            return
        self._deliver(wanted)

    async def _fetch_patiently(self, row: int) -> bytes:
        """The object, however often that takes within the patience.

        Raises:
            StoreError: there is no such object.
            StorageError: the bucket refuses, or has failed for too long.
        """
        until = time.monotonic() + self._retry.patience_s
        failures = 0
        while True:
            self.counts.requests += 1
            try:
                with self._store.naming(row, self.layout.modality):
                    data = await asyncio.wait_for(self._request(self._path(row)), self._retry.attempt_s)
            except StorageError as error:
                failures += 1
                pause_s = self._retry.pause_s(failures)
                if isinstance(error.__cause__, PermissionError) or time.monotonic() + pause_s > until:
                    raise
                self.counts.failures += 1
                await asyncio.sleep(pause_s)
                continue
            self.counts.bytes_fetched += len(data)
            return data

    async def _request(self, path: str) -> bytes:
        if self._retry.hedge_s <= 0:
            return await self._objects.get(path)
        racers = [asyncio.ensure_future(self._objects.get(path))]
        try:
            finished, _ = await asyncio.wait(racers, timeout=self._retry.hedge_s)
            if not finished:
                self.counts.requests += 1
                racers.append(asyncio.ensure_future(self._objects.get(path)))
                finished, _ = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
            first: bytes = next(iter(finished)).result()
            return first
        finally:
            for racer in racers:
                racer.cancel()

    def _arrived(self, wanted: _Wanted, data: bytes) -> None:
        """Decode into the slot and keep what is to be kept.

        Raises:
            ValueError: the object is damaged.
        """
        self.layout.decode_into(data, wanted.slot)
        if self._cache is not None and self._keys.get(wanted.row):
            self._cache.put(self._keys[wanted.row], data)
        self._keep(wanted)

    def _keep(self, wanted: _Wanted) -> None:
        if self._resident_room >= wanted.slot.nbytes and wanted.row not in self._resident:
            self._resident_room -= wanted.slot.nbytes
            self._resident[wanted.row] = wanted.slot.copy()

    def _deliver(self, wanted: _Wanted) -> None:
        self.counts.volumes += 1
        wanted.done(None)

    def _path(self, row: int) -> str:
        return f"{self._root}/{self.layout.key(row)}"


def _nothing() -> None:
    """Nothing to give up."""
