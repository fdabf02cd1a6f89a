"""One object is one GET; every answer becomes bytes or one of three errors; addresses and tokens are gcsfs's."""

import asyncio
import contextlib
import datetime
import email.utils
import threading
import time
from typing import Any

import fsspec
import pytest

from preprocess.storage import Location
from tests.support.slow_bucket.client import SlowBucket
from tests.support.slow_bucket.faults import Fault
from trainer.data.objects import FsspecObjects, GcsObjects, RefusedError, choose_objects, retry_after_s

NAME = "d/e/f g#?%ü.bin"
DATA = bytes(range(256)) * 300


@pytest.fixture
def fs(slow: SlowBucket) -> Any:
    with contextlib.suppress(RuntimeError):  # an earlier test made it
        slow.create("objects")
    slow.put("objects", "plain", DATA)
    location = Location(slow.url("objects"), slow.options)
    location.write(NAME, DATA[::-1])
    slow.reset()
    return location.fs


def get(fs: Any, path: str, times: int = 1) -> list[bytes]:
    async def go() -> list[bytes]:
        objects = GcsObjects(fs, 4)
        try:
            return [await objects.get(path) for _ in range(times)]
        finally:
            await objects.close()

    return asyncio.run(go())


def test_the_object_comes_whole_over_one_connection_with_one_request_each(slow: SlowBucket, fs: Any) -> None:
    assert get(fs, "objects/plain", times=5) == [DATA] * 5
    stats = slow.stats()
    assert (stats.by_kind, stats.connections) == ({"media": 5}, 1)


def test_names_are_quoted_as_gcsfs_quotes_them(fs: Any) -> None:
    assert get(fs, f"objects/{NAME}") == [DATA[::-1]]


@pytest.mark.parametrize(
    ("fault", "kind", "reason"),
    [
        (Fault("status", status=503), RefusedError, "HTTP 503"),
        (Fault("status", status=429), RefusedError, "HTTP 429"),
        (Fault("status", status=403), PermissionError, "HTTP 403"),
        (Fault("status", status=404), FileNotFoundError, "objects/plain"),
        (Fault("reset"), OSError, "Client"),
        (Fault("truncate"), OSError, "Client"),
    ],
)
def test_each_fault_is_one_request_and_one_error(
    slow: SlowBucket, fs: Any, fault: Fault, kind: type[Exception], reason: str
) -> None:
    slow.set_faults([fault])
    with pytest.raises(kind, match=reason):
        get(fs, "objects/plain")
    assert slow.stats().num_requests == 1


def test_nobody_there_is_an_oserror(slow: SlowBucket, fs: Any) -> None:
    slow.go_away(60.0)
    with pytest.raises(OSError, match="Client"):
        get(fs, "objects/plain")


@pytest.mark.parametrize(("value", "seconds"), [(None, 0.0), ("7", 7.0), (" 0 ", 0.0), ("soon", 0.0)])
def test_retry_after_is_a_number_of_seconds(value: str | None, seconds: float) -> None:
    assert retry_after_s(value) == seconds


def test_or_a_date() -> None:
    at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=100)
    assert 95 < retry_after_s(email.utils.format_datetime(at, usegmt=True)) <= 100
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


class FakeToken:
    """Credentials as gcsfs holds them, that take time to renew and block while they do."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.credentials = object()
        self.delay_s = delay_s
        self.threads: list[str] = []

    def apply(self, headers: dict[str, str]) -> None:
        self.threads.append(threading.current_thread().name)
        time.sleep(self.delay_s)
        headers["authorization"] = f"Bearer {len(self.threads)}"


class FakeBucket:
    """Answers every request with a status that depends on its head; keeps the heads."""

    def __init__(self, statuses: list[str]) -> None:
        self.statuses = statuses
        self.heads: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        status = self.statuses[min(len(self.heads), len(self.statuses)) - 1]
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".encode())
        await writer.drain()
        writer.close()


class FakeGcs:
    """What `GcsObjects` uses of a gcsfs file system."""

    protocol = ("gs", "gcs")
    async_impl = True

    def __init__(self, port: int = 0, *, payer: bool | str = False, token: Any = None) -> None:
        self.port, self.requester_pays, self.project = port, payer, "my project"
        self.session_kwargs: dict[str, Any] = {}
        self.credentials = token or FakeToken()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}?alt=media"


def ask_fake(statuses: list[str], times: int = 1, **options: Any) -> tuple[list[Any], list[str], Any]:
    async def go() -> tuple[list[Any], list[str], Any]:
        fake = FakeBucket(statuses)
        server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
        fs = FakeGcs(server.sockets[0].getsockname()[1], **options)
        objects = GcsObjects(fs, 8)
        try:
            answers = await asyncio.gather(*(objects.get("b/o") for _ in range(times)), return_exceptions=True)
        finally:
            await objects.close()
            server.close()
            await server.wait_closed()
        return answers, fake.heads, fs

    return asyncio.run(go())


@pytest.mark.parametrize(
    ("payer", "target"),
    [
        (False, "GET /b/o?alt=media HTTP"),
        (True, "GET /b/o?alt=media&userProject=my%20project HTTP"),
        ("other", "GET /b/o?alt=media&userProject=other HTTP"),
    ],
)
def test_a_bucket_whose_requester_pays_is_told_who_pays(payer: bool | str, target: str) -> None:
    answers, heads, _ = ask_fake(["200 OK"], payer=payer)
    assert answers == [b"ok"]
    assert heads[0].startswith(target)


def test_the_answers_wish_when_to_come_back_is_kept() -> None:
    answers, _, _ = ask_fake(["503 Busy\r\nRetry-After: 12"])
    assert answers[0].retry_after_s == 12.0


def test_a_token_is_renewed_once_for_all_and_off_the_loop() -> None:
    token = FakeToken(delay_s=0.05)
    answers, heads, _ = ask_fake(["200 OK"], times=6, token=token)
    assert answers == [b"ok"] * 6
    assert all("authorization: Bearer 1\r\n" in head for head in heads)
    assert len(token.threads) == 1
    assert token.threads[0] != threading.current_thread().name


def test_a_withdrawn_token_is_looked_at_once_more_and_then_counts_as_refused() -> None:
    answers, heads, _ = ask_fake(["401 No", "200 OK"])
    assert answers == [b"ok"]
    assert "Bearer 2" in heads[1]
    answers, heads, _ = ask_fake(["401 No"])
    assert isinstance(answers[0], PermissionError)
    assert len(heads) == 2


def test_gs_gets_its_own_session_and_everything_else_goes_through_fsspec() -> None:
    assert isinstance(choose_objects(FakeGcs(), 4), GcsObjects)
    other = FakeGcs()
    other.session_kwargs = {"connector": object()}
    assert isinstance(choose_objects(other, 4), FsspecObjects)
    assert isinstance(choose_objects(Location("memory://x").fs, 4), FsspecObjects)


def test_gcsfs_still_has_what_is_used_of_it() -> None:
    fs = fsspec.filesystem("gs", token="anon", skip_instance_cache=True)
    assert fs.session_kwargs == {}
    assert fs.requester_pays is False
    assert fs.credentials.credentials is None
    assert fs._use_client_cert is False or fs._use_client_cert is True
    assert isinstance(choose_objects(fs, 4), GcsObjects)
