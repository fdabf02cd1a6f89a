"""A bounded number of requests worked on at once, a bounded queue behind them, and 503 for the next."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import ProblemError

_RETRY_AFTER_S = 5


class Gate:
    """Lets requests in.

        gate = Gate(max_running=2, max_waiting=8, max_wait_s=30.0)
        with gate.turn():
            answer(request)

    Args:
        max_running: worked on at once.
        max_waiting: waiting behind them.
        max_wait_s: longest wait, seconds.
    """

    def __init__(self, *, max_running: int, max_waiting: int, max_wait_s: float) -> None:
        self._slots = threading.BoundedSemaphore(max_running)
        self._max_inside = max_running + max_waiting
        self._max_wait_s = max_wait_s
        self._num_inside = 0
        self._count = threading.Lock()

    @property
    def num_inside(self) -> int:
        """Requests running or waiting now."""
        return self._num_inside

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for a turn and hold it.

        Raises:
            ProblemError: 503 with Retry-After, when the queue is full or the wait too long.
        """
        with self._count:
            if self._num_inside >= self._max_inside:
                raise _busy(f"all {self._max_inside} places are taken")
            self._num_inside += 1
        try:
            if not self._slots.acquire(timeout=self._max_wait_s):
                raise _busy(f"no turn within {self._max_wait_s:g} s")
            try:
                yield
            finally:
                self._slots.release()
        finally:
            with self._count:
                self._num_inside -= 1


def _busy(reason: str) -> ProblemError:
    return ProblemError(
        503, "busy", f"{reason}; try again in {_RETRY_AFTER_S} s", headers={"Retry-After": str(_RETRY_AFTER_S)}
    )
