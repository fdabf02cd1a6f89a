"""Fetches objects on an event loop: bounded in number, first come first served, repeated with patience.

A failed request does not count as one in flight while it waits to be repeated, so failures of some objects do not slow
the others. All methods of the fetcher run on its loop, so it needs no lock.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from preprocess.errors import StorageError
from trainer.data.objects import Objects
from trainer.data.reading import GivenUpError, PendingVolume, Reading


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a request is tried.

    Attributes:
        patience_s: an object that fails for longer than this fails the run.
        first_pause_s: mean pause after the first failure; doubles with each further one.
        longest_pause_s: longest mean pause.
        attempt_s: one attempt that takes longer counts as failed.
        hedge_s: an attempt that takes longer than this is raced by a second request; 0 for never.
    """

    patience_s: float = 300.0
    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0
    attempt_s: float = 60.0
    hedge_s: float = 0.0

    def pause_s(self, failures: int) -> float:
        """A random pause after the given number of failures, between half and one and a half of the mean."""
        mean = min(self.longest_pause_s, self.first_pause_s * 2.0 ** min(failures - 1, 60))
        return mean * random.uniform(0.5, 1.5)  # noqa: S311 - spreads clients, guards nothing


class Fetcher:
    """Keeps a number of requests in flight.

    Args:
        objects: how one object is got.
        path_of: the path of a row's object.
        explain: turns what a request raised into the error that is reported for the row.
        arrived: takes each object; must not block.
        in_flight: most requests at once; hedged seconds come on top.
        retry: how long a request is tried.
    """

    def __init__(
        self,
        objects: Objects,
        *,
        path_of: Callable[[int], str],
        explain: Callable[[int, Exception], Exception],
        arrived: Callable[[PendingVolume, bytes], None],
        in_flight: int,
        retry: RetryPolicy,
    ) -> None:
        self._objects = objects
        self._path_of = path_of
        self._explain = explain
        self._arrived = arrived
        self._in_flight = in_flight
        self._retry = retry
        self._queue: deque[PendingVolume] = deque()
        self._active: dict[PendingVolume, asyncio.Task[None]] = {}
        self._pauses: dict[PendingVolume, asyncio.TimerHandle] = {}
        self._is_closed = False

    def request(self, many: list[PendingVolume]) -> None:
        """Fetch these after those requested earlier."""
        self._queue.extend(many)
        self._pump()

    def request_first(self, volume: PendingVolume) -> None:
        """Fetch this before all others: it was requested long ago."""
        self._pauses.pop(volume, None)
        self._queue.appendleft(volume)
        self._pump()

    def cancel(self, reading: Reading) -> None:
        """Drop what a reading requested; its volumes have been completed already."""
        for volume in [one for one in self._pauses if one.reading is reading]:
            self._pauses.pop(volume).cancel()
        for volume, task in self._active.items():
            if volume.reading is reading:
                task.cancel()

    async def close(self) -> None:
        """Cancel everything, wait until it is gone, and let go of connections."""
        self._is_closed = True
        self._pump()
        for volume, pause in self._pauses.items():
            pause.cancel()
            volume.complete(GivenUpError("closed"))
        self._pauses.clear()
        tasks = list(self._active.values())
        for volume, task in self._active.items():
            volume.complete(GivenUpError("closed"))
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._objects.close()

    def _pump(self) -> None:
        """Start what may be started."""
        while self._queue and (self._is_closed or len(self._active) < self._in_flight):
            volume = self._queue.popleft()
            if self._is_closed or volume.reading.is_over:
                volume.complete(GivenUpError("given up"))
                continue
            task = asyncio.get_running_loop().create_task(self._fetch(volume))
            self._active[volume] = task
            # Not in a `finally` of the task: one that is cancelled before its first step never runs it.
            task.add_done_callback(partial(self._ended, volume))

    def _ended(self, volume: PendingVolume, _: asyncio.Task[None]) -> None:
        """Start another request instead of one that ended."""
        del self._active[volume]
        self._pump()

    async def _fetch(self, volume: PendingVolume) -> None:
        """One attempt."""
        volume.reading.counts.add(requests=1)
        try:
            async with asyncio.timeout(self._retry.attempt_s):
                path = self._path_of(volume.row)
                data = await (self._race(volume, path) if self._retry.hedge_s > 0 else self._objects.get(path))
            volume.reading.counts.add(bytes_fetched=len(data), held_bytes=len(data))
            self._arrived(volume, data)
        except Exception as error:  # noqa: BLE001 - reported to whoever waits, or tried again
            self._failed(volume, error)

    def _failed(self, volume: PendingVolume, error: Exception) -> None:
        """Try again after a pause, or report the error where a repeat is useless or the patience has ended."""
        now = time.monotonic()
        explained = self._explain(volume.row, error)
        if volume.failures == 0:
            volume.until = now + self._retry.patience_s
        volume.failures += 1
        pause_s = max(self._retry.pause_s(volume.failures), getattr(error, "retry_after_s", 0.0))
        is_final = not isinstance(explained, StorageError) or isinstance(error, PermissionError)
        if is_final or self._is_closed or volume.reading.is_over or now + pause_s > volume.until:
            volume.complete(explained)
            return
        volume.reading.counts.add(failures=1)
        self._pauses[volume] = asyncio.get_running_loop().call_later(pause_s, self.request_first, volume)

    async def _race(self, volume: PendingVolume, path: str) -> bytes:
        """The first answer of one request, or of two when the first is late."""
        racers = [asyncio.ensure_future(self._objects.get(path))]
        try:
            finished, pending = await asyncio.wait(racers, timeout=self._retry.hedge_s)
            if not finished:
                # A batch waits for its slowest object, and mostly a single request is late, so the same one sent
                # again is answered sooner (Dean and Barroso 2013, "The Tail at Scale"); it costs one more GET.
                volume.reading.counts.add(requests=1)
                racers.append(asyncio.ensure_future(self._objects.get(path)))
                finished, pending = await asyncio.wait(racers, return_when=asyncio.FIRST_COMPLETED)
                # One that failed says nothing about the other, which may still answer.
                if pending and next(iter(finished)).exception() is not None:
                    finished, _ = await asyncio.wait(pending)
            # Both may have ended in the same turn, and one of them without an answer.
            return min(finished, key=lambda racer: racer.exception() is not None).result()
        finally:
            for racer in racers:
                racer.cancel()
            # Awaited, so that no error of the slower one goes unheard.
            await asyncio.gather(*racers, return_exceptions=True)
