"""Reading bodies: so many at once and so many bytes, each no slower than it must be; and not at all when stopping."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager

from starlette.requests import Request

from app.errors import ProblemError
from app.gate import busy, stopping

_MIB = 2**20
_PIECE_BYTES = _MIB
"""Bodies are handed on in pieces of this size: what parses and stores them costs by the piece."""


class Intake:
    """The bodies that are being read, or wait to be worked on, and what they may take.

        with intake.place(num_bytes):
            async for chunk in intake.chunks(request):
                ...

    Args:
        max_bodies: most at once.
        max_bytes: most of all together, as they promise or at most may have.
        idle_s: longest pause within a body, seconds.
        min_bytes_per_s: slowest body, counted from `idle_s` on.
    """

    def __init__(self, *, max_bodies: int, max_bytes: int, idle_s: float, min_bytes_per_s: float) -> None:
        self._max_bodies = max_bodies
        self._max_bytes = max_bytes
        self._idle_s = idle_s
        self._min_bytes_per_s = min_bytes_per_s
        self._num_bodies = 0
        self._num_bytes = 0
        self._is_stopped = False
        self._readings: set[asyncio.Timeout] = set()

    @property
    def num_bodies(self) -> int:
        """Bodies that are held now."""
        return self._num_bodies

    @contextmanager
    def place(self, num_bytes: int) -> Iterator[None]:
        """Hold a place for a body.

        Args:
            num_bytes: what it may take of the disk.

        Raises:
            ProblemError: 503 with Retry-After, without a byte read.
        """
        if self._is_stopped:
            raise stopping()
        if self._num_bodies >= self._max_bodies:
            raise busy(f"all {self._max_bodies} places for uploads are taken", self._idle_s)
        if self._num_bytes and self._num_bytes + num_bytes > self._max_bytes:
            held, most = self._num_bytes / _MIB, self._max_bytes / _MIB
            raise busy(f"uploads hold {held:.0f} of {most:.0f} MiB and this one needs {num_bytes / _MIB:.0f}", 5.0)
        self._num_bodies += 1
        self._num_bytes += num_bytes
        try:
            yield
        finally:
            self._num_bodies -= 1
            self._num_bytes -= num_bytes

    async def chunks(
        self, request: Request, moved: Callable[[int], None] = lambda _: None
    ) -> AsyncGenerator[bytes, None]:
        """The body in pieces of a MiB or more, the last one smaller.

        Args:
            request: with its body still unread.
            moved: told how many bytes have come, each time that some have.

        Raises:
            ProblemError: 408 for one that stalls or crawls, 503 when the service stops.
        """
        stream = request.stream()
        start, num_bytes = time.monotonic(), 0
        piece: list[bytes] = []
        piece_bytes = 0
        while True:
            elapsed_s = time.monotonic() - start
            left_s = self._idle_s + num_bytes / self._min_bytes_per_s - elapsed_s
            chunk = await self._next(stream, max(0.0, min(self._idle_s, left_s)))
            if chunk is None:
                break
            num_bytes += len(chunk)
            moved(len(chunk))
            piece.append(chunk)
            piece_bytes += len(chunk)
            if piece_bytes >= _PIECE_BYTES:
                yield b"".join(piece)
                piece, piece_bytes = [], 0
        if piece_bytes:
            yield b"".join(piece)

    def stop(self) -> None:
        """End all reading at once."""
        self._is_stopped = True
        for reading in self._readings:
            reading.reschedule(asyncio.get_running_loop().time())

    async def _next(self, stream: AsyncGenerator[bytes, None], patience_s: float) -> bytes | None:
        """What comes next; None at the end."""
        if self._is_stopped:
            raise stopping()
        try:
            async with asyncio.timeout(patience_s) as reading:
                self._readings.add(reading)
                try:
                    return await anext(stream, None)
                finally:
                    self._readings.discard(reading)
        except TimeoutError as error:
            raise (stopping() if self._is_stopped else self._too_slow()) from error

    def _too_slow(self) -> ProblemError:
        rate = self._min_bytes_per_s / 1024
        detail = f"the body stood still for {self._idle_s:g} s or came slower than {rate:g} KiB/s; send it again"
        return ProblemError(408, "body_too_slow", detail)
