"""A bounded number of requests worked on at once, a bounded queue behind them, and 503 for the next.

Whoever is let in is answered: a request that would wait longer than clients do is refused at once, by how long requests
have taken of late. It is asked before a body is read, and again when the body is there.
"""

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.errors import ProblemError

_NEWEST = 0.2
"""Weight of the newest request in the mean time that requests take."""


class Gate:
    """Lets requests in; for one event loop.

        gate = Gate(max_running=2, max_waiting=8, max_wait_s=10.0)
        gate.check()
        async with gate.turn():
            await answer(request)

    Args:
        max_running: worked on at once.
        max_waiting: waiting behind them.
        max_wait_s: longest wait, seconds, expected or seen.
    """

    def __init__(self, *, max_running: int, max_waiting: int, max_wait_s: float) -> None:
        self._max_running = max_running
        self._max_inside = max_running + max_waiting
        self._max_wait_s = max_wait_s
        self._num_running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._mean_s = 0.0
        self._is_closed = False

    @property
    def num_inside(self) -> int:
        """Requests running or waiting now."""
        return self._num_running + len(self._waiting)

    @property
    def expected_wait_s(self) -> float:
        """How long the next request would wait for its turn, by how long requests have taken of late."""
        num_before = self.num_inside + 1 - self._max_running
        return max(0, num_before) / self._max_running * self._mean_s

    def check(self) -> None:
        """Refuse where a request would be refused now.

        Raises:
            ProblemError: 503 with Retry-After: the queue is full, the wait too long, or the service is stopping.
        """
        if self._is_closed:
            raise stopping()
        wait_s = self.expected_wait_s
        if self.num_inside >= self._max_inside:
            raise busy(f"all {self._max_inside} places are taken", wait_s)
        if wait_s > self._max_wait_s:
            raise busy(f"a turn is expected in {wait_s:.0f} s, more than {self._max_wait_s:g} s", wait_s)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and hold it.

        Raises:
            ProblemError: as `check`, or no turn came in time.
        """
        self.check()
        await self._enter()
        start = time.perf_counter()
        try:
            yield
            seconds = time.perf_counter() - start
            self._mean_s = seconds if not self._mean_s else (1 - _NEWEST) * self._mean_s + _NEWEST * seconds
        finally:
            self._leave()

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
