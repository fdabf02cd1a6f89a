"""A group of volumes requested together, each of which completes exactly once, whatever happens; and read counts.

Whoever waits for a group can never hang: a volume that is given up, fails, or whose reader closes completes too.
"""

import threading
from dataclasses import dataclass, field

import numpy as np


class GivenUpError(Exception):
    """The volume was requested and then given up, because its reader or stream was closed."""


@dataclass(slots=True)
class ReadCounts:
    """What a reader has done so far; safe to add to from any thread.

    Attributes:
        volumes: volumes delivered.
        requests: objects requested from the bucket, repeats included.
        bytes_fetched: size of the objects that arrived, as stored.
        failures: requests that failed and were repeated.
        cache_hits: volumes from the disk cache.
        resident_hits: volumes from memory.
        device_hits: volumes from the training device's memory.
        held_bytes: size of batches that are being read or were handed over, and of objects that wait to be decoded.
        peak_bytes: most that was held at once.
    """

    volumes: int = 0
    requests: int = 0
    bytes_fetched: int = 0
    failures: int = 0
    cache_hits: int = 0
    resident_hits: int = 0
    device_hits: int = 0
    held_bytes: int = 0
    peak_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(
        self,
        *,
        volumes: int = 0,
        requests: int = 0,
        bytes_fetched: int = 0,
        failures: int = 0,
        cache_hits: int = 0,
        resident_hits: int = 0,
        device_hits: int = 0,
        held_bytes: int = 0,
    ) -> None:
        """Add to the counts."""
        with self._lock:
            self.volumes += volumes
            self.requests += requests
            self.bytes_fetched += bytes_fetched
            self.failures += failures
            self.cache_hits += cache_hits
            self.resident_hits += resident_hits
            self.device_hits += device_hits
            self.held_bytes += held_bytes
            self.peak_bytes = max(self.peak_bytes, self.held_bytes)


class Reading:
    """Volumes requested together.

    Args:
        num_volumes: how many.
        counts: the counts to add to.
        fails_at_once: whether the first error ends the wait for the others.

    Attributes:
        faults: the error of each volume that failed, by its index in the request.
        is_over: whether it was given up; its volumes need no further work.
    """

    def __init__(self, num_volumes: int, counts: ReadCounts, *, fails_at_once: bool = False) -> None:
        self.counts = counts
        self.faults: dict[int, BaseException] = {}
        self.is_over = False
        self._pending = set(range(num_volumes))
        self._fails_at_once = fails_at_once
        self._lock = threading.Lock()
        self._ready = threading.Event()
        if not num_volumes:
            self._ready.set()

    @property
    def is_ready(self) -> bool:
        """Whether all volumes have completed, or one failed and fails_at_once is set."""
        return self._ready.is_set()

    @property
    def num_pending(self) -> int:
        """Number of volumes that have not completed."""
        return len(self._pending)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is ready; returns whether it is."""
        return self._ready.wait(timeout_s)

    def complete(self, index: int, error: BaseException | None) -> None:
        """Mark one volume as read, or as failed with an error; only the first call for a volume counts."""
        with self._lock:
            if index not in self._pending:
                return
            self._pending.remove(index)
            if error is not None:
                self.faults[index] = error
            else:
                self.counts.add(volumes=1)
            if not self._pending or (error is not None and self._fails_at_once):
                self._ready.set()

    def give_up(self) -> None:
        """Complete all pending volumes with a `GivenUpError`. Their memory may still be written to; never reuse it."""
        with self._lock:
            self.is_over = True
            for index in self._pending:
                self.faults[index] = GivenUpError("given up")
            self._pending.clear()
            self._ready.set()


@dataclass(slots=True, eq=False)
class PendingVolume:
    """A volume that is being read.

    Attributes:
        reading: the group it was requested in.
        index: its index in that group.
        row: its row in the store.
        slot: where to write it, C-contiguous memory of the row's shape and dtype.
        failures: requests that failed in a row.
        until: when to stop retrying, in seconds of the monotonic clock; set by the first failure.
        was_damaged: whether its object failed its check once already.
    """

    reading: Reading
    index: int
    row: int
    slot: np.ndarray
    failures: int = 0
    until: float = 0.0
    was_damaged: bool = False

    def complete(self, error: BaseException | None) -> None:
        """See `Reading.complete`."""
        self.reading.complete(self.index, error)
