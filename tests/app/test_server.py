"""Connections: headers and unwanted bodies have their time, idle ones make room, and the end comes at once."""

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from app.server import PatientServer, make_server

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Application:
    """Answers GET at once and POST after its body, or early, or when it is told to stop."""

    def __init__(self) -> None:
        self.stopped = asyncio.Event()
        self.reading = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while True:
                message = await receive()
                await send({"type": f"{message['type']}.complete"})
                if message["type"] == "lifespan.shutdown":
                    return
        status = 200
        if scope["path"] == "/wait":
            self.reading.set()
            await self.stopped.wait()
            status = 503
        elif scope["path"] == "/early":
            status = 413
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})


@contextmanager
def serving(**limits: float) -> Iterator[tuple[int, PatientServer, Application, threading.Thread]]:
    """A server in a thread; its port, itself, its application and the thread."""
    app = Application()
    given: dict[str, Any] = {"header_s": 0.2, "max_connections": 8, "stop_s": 3.0, **limits}
    server = make_server(app, on_stop=app.stopped.set, forwarded_allow_ips=[], **given)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            time.sleep(0.001)
        try:
            yield listener.getsockname()[1], server, app, thread
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


def opened(port: int, data: bytes = b"") -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(data)
    return connection


def num_asked(server: PatientServer) -> int:
    """Requests that are being answered."""
    return len(server.server_state.tasks)


def is_closed(connection: socket.socket) -> bool:
    """Whether the other side closes it; waits for that."""
    try:
        return connection.recv(1024) == b""
    except ConnectionResetError:
        return True


def send_slowly(connection: socket.socket) -> None:
    """Send byte after byte, until the other side has enough."""
    start = time.monotonic()
    while time.monotonic() < start + 20:
        connection.sendall(b"x")
        time.sleep(0.01)


def read_answer(connection: socket.socket) -> bytes:
    """A whole answer, whose body is `ok`."""
    data = b""
    while not data.endswith(b"\r\n\r\nok"):
        data += connection.recv(4096)
    return data


def ask(port: int, data: bytes = GET) -> bytes:
    with opened(port, data) as connection:
        return read_answer(connection)


@pytest.mark.parametrize("start", [b"", b"GET / HTTP/1.1\r\nHost:"])
def test_a_header_that_does_not_come_closes_the_connection(start: bytes) -> None:
    with serving() as (port, *_), opened(port, start) as connection:
        assert is_closed(connection)


def test_a_second_header_that_is_half_sent_closes_it_too() -> None:
    with serving() as (port, *_), opened(port, GET) as connection:
        assert b"200 OK" in read_answer(connection)
        connection.sendall(b"GET / HT")
        assert is_closed(connection)


def test_a_request_that_is_being_answered_has_all_the_time_it_needs() -> None:
    with serving(header_s=0.05) as (port, _, app, _thread), opened(port, GET.replace(b"/ ", b"/wait ")) as connection:
        assert app.reading.wait(20)
        time.sleep(0.2)
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)


def test_the_rest_of_an_unwanted_body_is_read_for_a_while_and_then_not() -> None:
    head = b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    with serving() as (port, *_), opened(port, head) as connection:
        assert b"413" in read_answer(connection)
        with pytest.raises(OSError, match=r"reset|pipe"):
            send_slowly(connection)


def test_connections_that_ask_for_nothing_make_room_the_oldest_first() -> None:
    with serving(header_s=30.0, max_connections=4) as (port, *_):
        idle = [opened(port) for _ in range(40)]
        for _ in range(3):
            assert b"200 OK" in ask(port)
        assert is_closed(idle[0])
        for connection in idle:
            connection.close()


def test_where_all_are_being_answered_the_next_is_turned_away() -> None:
    wait = GET.replace(b"/ ", b"/wait ")
    with serving(header_s=30.0, max_connections=2) as (port, server, app, _):
        busy = [opened(port, wait) for _ in range(2)]
        assert app.reading.wait(20)
        while num_asked(server) < 2:
            time.sleep(0.001)
        with opened(port) as further:
            assert is_closed(further)
        for connection in busy:
            connection.close()


def test_a_signal_tells_the_application_at_once_and_the_end_comes() -> None:
    with serving(header_s=30.0) as (port, server, app, thread):
        stalled = opened(port, b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\nx")
        silent = opened(port, b"GET / HT")
        assert app.reading.wait(20)
        server.handle_exit(signal.SIGTERM, None)
        assert b"503" in read_answer(stalled)
        assert is_closed(silent)
        stalled.close()
        silent.close()
        thread.join(20)
        assert not thread.is_alive()
