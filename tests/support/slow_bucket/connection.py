"""One connection: requests taken one after the other, packets sent over a line of limited rate, ends of every kind.

Pipelined requests are answered in order: the next one is looked at when the answer before it is out.
"""

import asyncio
import socket
import struct
from collections.abc import Callable

from tests.support.slow_bucket.messages import BadRequestError, Head, error_answer, take_head

Receive = Callable[["Connection", Head, bytes], None]
_SEND_BUFFER_BYTES = 4 << 20
"""Asked for; the kernel gives at most net.core.wmem_max. With 64 kB instead, a download of
190 kB costs a third more of the server's CPU (0.16 instead of 0.12 s for 1,000)."""
_RESET_AFTER_S = 0.01
"""What was sent before a reset reaches the client first; a reset drops what the kernel still holds."""


class Line:
    """The line that all connections share: bytes leave it one after the other at a set rate.

    Attributes:
        bytes_per_s: rate; None is as fast as the machine.
    """

    def __init__(self) -> None:
        self.bytes_per_s: float | None = None
        self._free_at = 0.0

    @property
    def piece_bytes(self) -> int:
        """How much a connection sends before it is another's turn: 5 ms of the line, 1 kB to 1 MB."""
        return min(max(int((self.bytes_per_s or 0.0) * 0.005), 1_000), 1_000_000)

    def reserve(self, num_bytes: int, now: float | None = None) -> float:
        """The time at which `num_bytes` more have passed.

        Pieces of one message are reserved without `now`: a timer that fired late does not cost the line any rate.
        """
        if self.bytes_per_s is None:
            return now or 0.0
        start = self._free_at if now is None else max(now, self._free_at)
        self._free_at = start + num_bytes / self.bytes_per_s
        return self._free_at


class Connection(asyncio.Protocol):
    """One client's connection.

    Args:
        line: what its packets pass.
        receive: called with each request; the receiver sends and then calls `finish` (or `reset` or `close`).
        peers: open connections; this one adds and removes itself.
        on_sent: called with the number of bytes of every write.
    """

    def __init__(
        self, line: Line, receive: Receive, peers: set["Connection"], on_sent: Callable[[int], None] = lambda _: None
    ) -> None:
        self._line = line
        self._receive = receive
        self._peers = peers
        self._on_sent = on_sent
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._head: Head | None = None
        self._is_busy = False
        self._timer: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport
        self.on_end: Callable[[], None] | None = None
        """Called once when the request in hand is over, however it ends."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._peers.add(self)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        self._peers.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._end_request()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_busy:
            self._next()

    def after(self, delay_s: float, then: Callable[[], None]) -> None:
        """Call `then` after so many seconds, unless the connection is gone by then."""
        self._timer = self._loop.call_later(delay_s, then)

    def send(self, packet: bytes | memoryview, then: Callable[[], None]) -> None:
        """Send at the line's rate, then call `then`."""
        if self._line.bytes_per_s is None:
            self._write(packet)
            then()
        else:
            self._send_pieces(memoryview(packet), then, self._loop.time())

    def finish(self) -> None:
        """The answer is out: go on with the next request, or close where the client asked for it."""
        head, self._head = self._head, None
        self._end_request()
        if head is not None and not head.keeps_alive:
            self._transport.close()
            return
        self._is_busy = False
        if self._buffer:
            self._loop.call_soon(self._next)

    def close(self) -> None:
        """End the connection after what was sent (FIN)."""
        self._end_request()
        self._transport.close()

    def reset(self) -> None:
        """End the connection with a reset (RST), shortly after what was sent."""
        self.after(_RESET_AFTER_S, self.abort)

    def abort(self) -> None:
        """End the connection with a reset (RST), now."""
        self._end_request()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    @property
    def _socket(self) -> socket.socket:
        found: socket.socket = self._transport.get_extra_info("socket")
        return found

    def _next(self) -> None:
        """Hand on the next request if it is complete."""
        if self._is_busy or self._transport.is_closing():
            return
        try:
            if self._head is None:
                self._head = take_head(self._buffer)
                if self._head is not None and self._head.headers.get("expect", "").lower() == "100-continue":
                    self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
        except BadRequestError as error:
            self._write(error_answer(400, str(error)).whole())
            self._transport.close()
            return
        head = self._head
        if head is None or len(self._buffer) < head.body_bytes:
            return
        body = bytes(self._buffer[: head.body_bytes]) if head.body_bytes else b""
        del self._buffer[: head.body_bytes]
        self._is_busy = True
        self._receive(self, head, body)

    def _end_request(self) -> None:
        on_end, self.on_end = self.on_end, None
        if on_end is not None:
            on_end()

    def _write(self, packet: bytes | memoryview) -> None:
        self._on_sent(len(packet))
        self._transport.write(packet)

    def _send_pieces(self, rest: memoryview, then: Callable[[], None], now: float | None = None) -> None:
        piece = rest[: self._line.piece_bytes]
        at = self._line.reserve(len(piece), now)

        def sent() -> None:
            self._write(piece)
            if len(piece) < len(rest):
                self._send_pieces(rest[len(piece) :], then)
            else:
                then()

        self._timer = self._loop.call_at(at, sent)
