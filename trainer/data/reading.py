"""A group of volumes that was asked for together: each is told exactly once, whatever happens; and what is counted.

The one who waits can never hang on a volume: giving up, closing and every error tell it too.
"""

import threading
from dataclasses import dataclass, field

import numpy as np


class GivenUpError(Exception):
    """The volume was asked for and then given up, because its reader or stream was closed."""


@dataclass(slots=True)
class ReadCounts:
    """What a reader has done so far; safe to add to from any thread.

    Attributes:
        volumes: volumes delivered.
        requests: objects asked of the bucket, repeats included.
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
    """Volumes asked for together.

    Args:
        num_volumes: how many.
        counts: what their reading adds to.
        fails_at_once: whether the first error ends the wait for the others.

    Attributes:
        faults: what went wrong, by place.
        is_over: whether it was given up; nothing more needs to be done for it.
    """

    def __init__(self, num_volumes: int, counts: ReadCounts, *, fails_at_once: bool = False) -> None:
        self.counts = counts
        self.faults: dict[int, BaseException] = {}
        self.is_over = False
        self._untold = set(range(num_volumes))
        self._fails_at_once = fails_at_once
        self._lock = threading.Lock()
        self._ready = threading.Event()
        if not num_volumes:
            self._ready.set()

    @property
    def is_ready(self) -> bool:
        """Whether all volumes were told, or one failed and that is enough."""
        return self._ready.is_set()

    @property
    def num_untold(self) -> int:
        """Volumes that are still under way."""
        return len(self._untold)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is ready; returns whether it is."""
        return self._ready.wait(timeout_s)

    def tell(self, place: int, error: BaseException | None) -> None:
        """One volume is in its place, or never will be. What was told first stays."""
        with self._lock:
            if place not in self._untold:
                return
            self._untold.remove(place)
            if error is not None:
                self.faults[place] = error
            else:
                self.counts.add(volumes=1)
            if not self._untold or (error is not None and self._fails_at_once):
                self._ready.set()

    def give_up(self) -> None:
        """Tell all volumes under way that they will not come. Their memory may still be written to; never reuse it."""
        with self._lock:
            self.is_over = True
            for place in self._untold:
                self.faults[place] = GivenUpError("given up")
            self._untold.clear()
            self._ready.set()


@dataclass(slots=True, eq=False)
class Wanted:
    """A volume under way.

    Attributes:
        reading: whom to tell.
        place: its number there.
        row: which.
        slot: C-contiguous memory of the row's shape and dtype.
        failures: requests that failed in a row.
        until: when the patience ends, in seconds of the monotonic clock; meaningless without a failure.
        was_damaged: whether its object failed its check before.
    """

    reading: Reading
    place: int
    row: int
    slot: np.ndarray
    failures: int = 0
    until: float = 0.0
    was_damaged: bool = False

    def tell(self, error: BaseException | None) -> None:
        """See `Reading.tell`."""
        self.reading.tell(self.place, error)
