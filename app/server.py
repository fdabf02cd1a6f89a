"""uvicorn with the patience of a service that anybody may talk to: time for headers, room for connections, an end.

uvicorn waits for ever for a header that is half sent, keeps as many connections as there are file handles, and at its
end waits for uploads that stall. A reading place that takes no more than its share is `intake`'s; here are the
connections themselves.
"""

import asyncio
import resource
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

_OTHER_HANDLES = 128
"""Beside connections: model files, decoding processes, uploads on disk, the log."""


class PatientProtocol(H11Protocol):
    """One connection, closed when its header or the rest of an unwanted body takes too long.

    `header_s` and `max_connections` are set on a subclass by `make_server`.
    """

    header_s = 10.0
    max_connections = 512

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection; the oldest one that asks for nothing makes room where there is none."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._header_timer: asyncio.TimerHandle | None = None
        if len(self.connections) > self.max_connections:
            self._make_room()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read on; what follows a refused body does not prolong the connection."""
        if self._is_answered_early:
            self.conn.receive_data(data)
            self.handle_events()
        else:
            super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._unwatch()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next header, or for the end of a body that was not read."""
        super().on_response_complete()
        self._since = self.loop.time()
        self._watch()

    @property
    def _is_idle(self) -> bool:
        """Whether no request is being answered here."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def _is_answered_early(self) -> bool:
        return self.cycle is not None and self.cycle.response_complete and self.conn.their_state is h11.SEND_BODY

    def _make_room(self) -> None:
        others = [one for one in self.connections if isinstance(one, PatientProtocol) and one is not self]
        idle = min((one for one in others if one._is_idle), key=lambda one: one._since, default=None)
        (idle or self).transport.close()
        self.connections.discard(idle or self)

    def _watch(self) -> None:
        """Give a header, or an unwanted body, its time; a request that is being answered has its own."""
        if not self._is_idle:
            self._unwatch()
        elif self._header_timer is None and not self.transport.is_closing():
            self._header_timer = self.loop.call_later(self.header_s, self._give_up)

    def _unwatch(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _give_up(self) -> None:
        self._header_timer = None
        if self._is_idle:
            self.transport.close()


class PatientServer(uvicorn.Server):
    """Tells the application at once that it is to stop, so that nobody waits for bodies any more.

    Args:
        config: uvicorn's.
        on_stop: called in the event loop.
    """

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[Any] | None = None) -> None:
        """Start listening."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets=sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop: on the first signal answers under way are finished."""
        if self._loop is not None and not self.should_exit:
            self._loop.call_soon_threadsafe(self._on_stop)
        super().handle_exit(sig, frame)


def make_server(
    app: Any,
    *,
    on_stop: Callable[[], None],
    header_s: float,
    max_connections: int,
    stop_s: float,
    forwarded_allow_ips: list[str],
) -> PatientServer:
    """A server for an application; it listens on sockets that `run` is given.

    Args:
        app: the ASGI application.
        on_stop: called in the event loop when the server is told to stop.
        header_s: for a header, seconds.
        max_connections: most at once; fewer where the process may not have so many file handles.
        stop_s: for answers under way at the end, seconds.
        forwarded_allow_ips: proxies that are believed.
    """
    limits = {"header_s": header_s, "max_connections": min(max_connections, _handles() - _OTHER_HANDLES)}
    # The service logs its own requests; uvicorn's log would quote errors, which may quote a scan's header.
    quiet = {"version": 1, "disable_existing_loggers": False, "loggers": {"uvicorn": {"level": "CRITICAL"}}}
    config = uvicorn.Config(
        app,
        http=type("Protocol", (PatientProtocol,), limits),
        ws="none",
        log_config=quiet,
        access_log=False,
        server_header=False,
        # A little longer than answers have: those that are cut off are still told so.
        timeout_graceful_shutdown=int(stop_s) + 1,
        forwarded_allow_ips=forwarded_allow_ips,
    )
    return PatientServer(config, on_stop)


def _handles() -> int:
    """File handles that this process may have; raised as far as it may raise that itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 65_536
    if soft < wanted and sys.platform.startswith("linux"):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft
