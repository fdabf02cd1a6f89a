"""Calls against a server that answers by a script: repeats, time, redirects, and what no interscan service sends."""

import json
import os
import pickle
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from app.model_schemas import Live, ModelList
from interscan.client_calls import Caller, Deadline, ServiceError, _seconds_of
from interscan.client_scans import Body
from preprocess.errors import UsageError

KEY = "a-key-of-more-than-sixteen-characters"
JSON, PROBLEM = "application/json", "application/problem+json"
ALIVE = (200, {"Content-Type": JSON}, b'{"status": "alive"}')
Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def problem(status: int, code: str = "busy", **headers: str) -> Answer:
    content = {"title": "x", "status": status, "code": code, "detail": "come\nagain", "request_id": "their-id"}
    return status, {"Content-Type": PROBLEM, **headers}, json.dumps(content).encode()


@contextmanager
def server(*answers: Answer) -> Iterator[tuple[str, list[Any]]]:
    """A server that gives these answers one after the other, the last one for ever; and what it was asked."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, content = answers[min(len(asked), len(answers) - 1)]
            asked.append((self.path, self.headers, body))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{running.server_port}", asked
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def ask(url: str, key: str | None = KEY, timeout_s: float = 60, body: Body | None = None) -> Live:
    caller = Caller(url, key, timeout_s)
    try:
        return caller.parse(caller.call("POST", "/ask", body), Live)
    finally:
        caller.close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses between repeats, which nobody waits for."""
    waits: list[float] = []
    monkeypatch.setattr("interscan.client_calls.sleep", waits.append)
    return waits


def test_a_call_carries_the_key_an_id_and_the_prefix(waits):
    with server(ALIVE) as (url, asked):
        assert ask(f"{url}/scan/").status == "alive"
    path, headers, _ = asked[0]
    assert path == "/scan/ask"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert re.fullmatch(r"[0-9a-f]{32}", headers["X-Request-ID"])
    assert headers["User-Agent"].startswith("interscan/")
    assert waits == []


def test_repeats_come_after_what_the_service_says_whole_and_under_one_id(waits, tmp_path):
    scan = tmp_path / "scan.nii"
    scan.write_bytes(b"voxels" * 50_000)
    again = problem(503, **{"Retry-After": "3"}), problem(429, **{"Retry-After": "0"})
    with server(*again, ALIVE) as (url, asked):
        ask(url, body=Body(texts={"model": "m"}, uploads=(("scan", scan),)))
    assert waits == [3.0, 0.5]
    assert len({headers["X-Request-ID"] for _, headers, _ in asked}) == 1
    assert all(scan.read_bytes() in body and b'name="model"\r\n\r\nm' in body for _, _, body in asked)
    assert len(asked) == 3


@pytest.mark.parametrize(
    "answer",
    [
        problem(503),
        problem(503, **{"Retry-After": "soon"}),
        problem(503, **{"Retry-After": "-1"}),
        problem(507, **{"Retry-After": "1"}),
        problem(500, **{"Retry-After": "1"}),
        problem(401),
        problem(422),
    ],
    ids=["no header", "no number", "negative", "507", "500", "401", "422"],
)
def test_nothing_else_is_repeated(waits, answer):
    with server(answer, ALIVE) as (url, asked), pytest.raises(ServiceError) as caught:
        ask(url)
    assert (len(asked), waits, caught.value.status) == (1, [], answer[0])


def test_no_repeat_is_waited_for_longer_than_there_is_time(waits):
    with server(problem(503, **{"Retry-After": "61"}), ALIVE) as (url, asked), pytest.raises(ServiceError) as caught:
        ask(url, timeout_s=60)
    assert (len(asked), waits) == (1, [])
    error = caught.value
    assert (error.status, error.code, error.retry_after_s, error.request_id) == (503, "busy", 61.0, "their-id")
    assert str(error) == "come again (503 busy, request their-id)"


def test_repeats_end_with_the_time():
    with server(problem(503, **{"Retry-After": "0"})) as (url, asked), pytest.raises(ServiceError, match="come again"):
        ask(url, timeout_s=1.2)
    assert 1 <= len(asked) <= 3


def test_retry_after_is_seconds_or_a_date():
    assert _seconds_of("30") == 30
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (_seconds_of(in_a_minute) or 0) <= 60
    assert _seconds_of("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert [_seconds_of(text) for text in ("", "-3", "1.5", "nan", "tomorrow", "9" * 12)] == [None] * 6


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_says_whereto_without_its_secrets(status):
    with server(ALIVE) as (other, asked):
        leads = status, {"Location": f"{other}/ask?token=secret"}, b""
        with (
            server(leads) as (url, _),
            pytest.raises(ServiceError, match=r"redirects to http://127\.0\.0\.1;") as caught,
        ):
            ask(url)
    assert asked == []
    assert (caught.value.status, caught.value.code) == (status, "redirected")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("location", ["/elsewhere", "", "http://[", "http://a\tb"])
def test_a_redirect_to_no_other_host_is_told_too(location):
    with server((307, {"Location": location}, b"")) as (url, _), pytest.raises(ServiceError, match="redirects to"):
        ask(url)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, {"Content-Type": "text/html"}, b"<html>hello</html>"), r"answered 200 \(OK\), not in the form"),
        ((502, {"Content-Type": "text/html"}, b"<html>"), r"answered 502 \(Bad Gateway\)"),
        ((599, {}, b""), r"answered 599 \(unknown\)"),
        ((422, {"Content-Type": PROBLEM}, b'{"type": "about:blank"}'), "answered 422"),
        ((422, {"Content-Type": PROBLEM}, b"\xff"), "answered 422"),
        ((200, {"Content-Type": JSON}, b'{"status": "dead"}'), r"is no Live \(status: Input should be 'alive'\)"),
        ((200, {"Content-Type": JSON}, b"\xff["), r"is no Live \(the whole: "),
        ((200, {"Content-Type": JSON}, b" " * (2**26 + 1)), "sends more than 64 MiB"),
    ],
    ids=["page", "proxy", "unknown", "other problem", "no text", "other value", "no json", "endless"],
)
def test_what_no_service_of_ours_sends_is_named_and_not_quoted(answer, words):
    with server(answer) as (url, _), pytest.raises(ServiceError, match=words) as caught:
        ask(url)
    assert (caught.value.status, caught.value.code) == (answer[0], "foreign_answer")
    assert len(caught.value.request_id) == 32
    assert "hello" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fields_of_a_newer_service_are_passed_over_at_every_depth():
    caller = Caller("http://127.0.0.1:9", None, 1)
    with server((200, {"Content-Type": JSON}, b'{"status": "alive", "since": {"day": 3}}')) as (url, _):
        assert ask(url).status == "alive"
    with server((422, *problem(422)[1:-1], problem(422)[2][:-1] + b', "hint": [1]}')) as (url, _):
        with pytest.raises(ServiceError) as caught:
            ask(url)
        assert caught.value.code == "busy"
    caller.close()
    assert ModelList.model_validate_json(b'{"models": [], "more": 1}', extra="ignore").models == []


@contextmanager
def raw_server(*pieces: bytes) -> Iterator[str]:
    """A server that reads one request, sends these bytes and closes; without bytes it never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        done = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(2**16)
                for piece in pieces:
                    connection.sendall(piece)
                if not pieces:
                    done.wait(60)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            done.set()
            thread.join()


@pytest.mark.parametrize(
    "piece",
    [b"\x00nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", b"HTTP/1.1 200"],
    ids=["no http", "half a body", "half a header"],
)
def test_a_connection_that_breaks_is_one_error(piece):
    with raw_server(piece) as url, pytest.raises(ServiceError, match=r"broke off: .*; ask again") as caught:
        ask(url)
    assert (caught.value.status, caught.value.code) == (None, "no_answer")


def test_a_service_that_never_answers_is_left_in_time():
    with raw_server() as url, pytest.raises(ServiceError, match=r"within 0\.2 s; ask later, or raise") as caught:
        ask(url, timeout_s=0.2)
    assert (caught.value.status, caught.value.code) == (None, "too_slow")


@pytest.mark.parametrize("size", [10, 400_000])
def test_a_file_that_grows_or_shrinks_while_it_is_sent_is_never_sent_half(tmp_path, size):
    scan = tmp_path / "scan.nii"
    scan.write_bytes(b"x" * 300_000)

    class Changing(Body):
        def open(self, held: Any, deadline: Any) -> dict[str, Any]:
            arguments = super().open(held, deadline)
            os.truncate(scan, size)
            return arguments

    with raw_server() as url, pytest.raises(UsageError, match=r"scan\.nii changed while it was sent; ask again when"):
        ask(url, body=Changing(uploads=(("scan", scan),)))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("127.0.0.1:8000", "base_url "),
        ("ftp://host", "base_url is 'ftp://host'; give an address such as"),
        ("http://", "base_url is"),
        ("http://host/?a=b", "base_url is"),
        ("http://[", r"base_url is 'http://\['"),
        ("http://a b", "base_url is"),
        ("http://host:port", "base_url is no address"),
        (None, "base_url is no address"),
        ("http://user:secret@host", "base_url holds a user or a password; give a key as key="),
    ],
)
def test_an_address_that_is_none_is_refused(url, words):
    with pytest.raises(UsageError, match=words) as caught:
        Caller(url, None, 1)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "se cret", "secret\n", "secrét", b"secret"])
def test_a_key_that_no_header_can_carry_is_refused_and_not_repeated(key):
    with pytest.raises(UsageError, match="key is empty or holds a space, a line end") as caught:
        Caller("http://host", key, 1)
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_time_that_is_none_is_refused(seconds):
    with pytest.raises(UsageError, match=r"timeout_s is .*; it must be a number of seconds above 0"):
        Caller("http://host", None, seconds)


def test_an_error_survives_the_way_between_processes():
    error = ServiceError(503, "busy", "come\n again", "id", 3.0)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), vars(again)) == (str(error), vars(error))
    assert str(ServiceError(None, "too_slow", "late", "id")) == "late (too_slow, request id)"


def test_a_deadline_leaves_no_less_than_a_thousandth_for_httpx():
    assert Deadline(-5).left_s == 0.001
    assert 59 < Deadline(60).left_s <= 60
