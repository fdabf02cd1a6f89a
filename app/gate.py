"""A bounded number of requests worked on at once, a bounded queue behind them, and 503 for the next.

Whoever is let in is answered: a request whose answer would come later than clients wait is refused at once, by how
long requests have taken of late. That is asked before a body is read, and those whose bodies are still being read
count: once they are whole it is too late to refuse any, for reading them took the time of those who could be answered.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from app.errors import ProblemError

_NEWEST = 0.2
"""Weight of the newest request in the mean time that requests take."""
_GRACE_S = 1.0
_MOVING_BYTES_PER_S = 2.0**20


class Coming:
    """A request whose body is being read; it counts as long as the body moves: one that stalls holds up none."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._num_bytes = 0

    def moved(self, num_bytes: int) -> None:
        """So many bytes more have come."""
        self._num_bytes += num_bytes

    @property
    def is_moving(self) -> bool:
        """Whether it is likely to be whole soon: it has come with 1 MiB/s or more since its first second."""
        return self._num_bytes >= (time.monotonic() - self._since - _GRACE_S) * _MOVING_BYTES_PER_S


class Gate:
    """Lets requests in; for one event loop.

        gate = Gate(max_running=2, max_waiting=8, max_wait_s=10.0)
        with gate.coming() as coming:
            await read(request, coming.moved)
        async with gate.turn():
            await answer(request)

    Args:
        max_running: worked on at once.
        max_waiting: waiting behind them, and coming.
        max_wait_s: longest time to an answer that is expected, and longest wait for a turn; seconds.
    """

    def __init__(self, *, max_running: int, max_waiting: int, max_wait_s: float) -> None:
        self._max_running = max_running
        self._max_inside = max_running + max_waiting
        self._max_wait_s = max_wait_s
        self._num_running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._coming: set[Coming] = set()
        self._mean_s = 0.0
        self._is_closed = False

    @property
    def num_inside(self) -> int:
        """Requests running, waiting or coming now."""
        return self._num_running + len(self._waiting) + sum(one.is_moving for one in self._coming)

    @property
    def expected_wait_s(self) -> float:
        """How long the next request would wait for its turn, by how long requests have taken of late."""
        return self._wait_behind(self.num_inside)

    @contextmanager
    def coming(self) -> Iterator[Coming]:
        """Take a request in and read its body, before its turn.

        Raises:
            ProblemError: 503 with Retry-After: the queue is full, the answer would come too late, or the service is
                stopping.
        """
        self._check(self.num_inside)
        coming = Coming()
        self._coming.add(coming)
        try:
            yield coming
        finally:
            self._coming.discard(coming)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and hold it.

        Raises:
            ProblemError: as `coming`, which is asked again without those who come behind; or no turn came in time.
        """
        self._check(self._num_running + len(self._waiting))
        await self._enter()
        start = time.perf_counter()
        try:
            yield
            seconds = time.perf_counter() - start
            self._mean_s = seconds if not self._mean_s else (1 - _NEWEST) * self._mean_s + _NEWEST * seconds
        finally:
            self._leave()

    def _wait_behind(self, num_inside: int) -> float:
        return max(0, num_inside + 1 - self._max_running) / self._max_running * self._mean_s

    def _check(self, num_inside: int) -> None:
        """Refuse who would come behind so many."""
        if self._is_closed:
            raise stopping()
        wait_s = self._wait_behind(num_inside)
        if num_inside >= self._max_inside:
            raise busy(f"all {self._max_inside} places are taken", wait_s)
        answer_s = wait_s + self._mean_s
        # Who need not wait is never refused, however long the work itself takes.
        if wait_s and answer_s > self._max_wait_s:
            raise busy(f"an answer is expected in {answer_s:.0f} s, more than {self._max_wait_s:g} s", wait_s)

    def close(self) -> None:
        """Refuse everybody who waits and who comes; who has a turn keeps it."""
        self._is_closed = True
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(stopping())

    async def _enter(self) -> None:
        if self._num_running < self._max_running:
            self._num_running += 1
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(mine)
        try:
            async with asyncio.timeout(self._max_wait_s):
                await mine
        except BaseException as error:
            if mine in self._waiting:
                self._waiting.remove(mine)
            elif mine.done() and not mine.cancelled() and mine.exception() is None:
                self._leave()  # the turn came in the moment of giving up
            if isinstance(error, TimeoutError):
                raise busy(f"no turn within {self._max_wait_s:g} s", self.expected_wait_s) from error
            raise

    def _leave(self) -> None:
        """Hand the turn on."""
        while self._waiting:
            following = self._waiting.popleft()
            if not following.done():
                following.set_result(None)
                return
        self._num_running -= 1


def busy(reason: str, wait_s: float) -> ProblemError:
    """The answer to a request for which there is no place now.

    Args:
        reason: what is taken.
        wait_s: when there may be one again.
    """
    retry_s = max(1, math.ceil(wait_s))
    return ProblemError(503, "busy", f"{reason}; try again in {retry_s} s", headers={"Retry-After": str(retry_s)})


def stopping() -> ProblemError:
    """The answer of a service that is ending."""
    detail = "the service is stopping and takes nothing more; another one answers in a moment"
    return ProblemError(503, "stopping", detail, headers={"Retry-After": "5"})
