"""One object, one GET, no retries hidden inside: what the reader's own retries and its speed are built on.

gcsfs retries by itself, six times with pauses of 1 to 16 s: with 30 % of the answers 503 it falls from 1,640 to 23
objects a second at 64 in flight (docs/log.md). On gs:// objects are therefore requested over a session of our own, with
the file system's address and credentials; its pool also holds more than the 100 connections gcsfs stops at, and a GET
takes 0.25 instead of 0.34 ms of the loop. All other asynchronous file systems are read through fsspec.
"""

import asyncio
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import quote

import aiohttp
from yarl import URL

_CONNECT_S = 10.0
_SILENCE_S = 15.0
"""A connection that says nothing for this long is given up."""
_RETRYABLE = frozenset({408, 429, 500, 502, 503, 504})
_CHECK_TOKEN_S = 60.0
"""How often the token's age is looked at; gcsfs renews it 300 s before its end."""


class Objects(Protocol):
    """Gets whole objects, on one event loop."""

    async def get(self, path: str) -> bytes:
        """The object's bytes.

        Raises:
            FileNotFoundError: there is none.
            PermissionError: a repeat is useless.
            OSError: it did not work this time.
        """

    async def close(self) -> None:
        """Let go of connections."""


class RefusedError(OSError):
    """An answer that says to come back.

    Args:
        status: the answer's HTTP status.
        retry_after_s: not before so many seconds.
    """

    def __init__(self, status: int, retry_after_s: float) -> None:
        super().__init__(f"HTTP {status}")
        self.retry_after_s = retry_after_s


class FsspecObjects:
    """Through fsspec's own asynchronous interface.

    Args:
        fs: an asynchronous file system.
    """

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    async def get(self, path: str) -> bytes:
        """See `Objects.get`."""
        data: bytes = await self._fs._cat_file(path)
        return data

    async def close(self) -> None:
        """The connections belong to the file system."""


class GcsObjects:
    """Straight over HTTP, at the address and with the credentials of a gcsfs file system.

    Args:
        fs: a gcsfs file system; its `session_kwargs` (proxies, `trust_env`) and `requester_pays` are followed.
        connections: most at once.
    """

    def __init__(self, fs: Any, connections: int) -> None:
        self._fs = fs
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None
        self._headers: dict[str, str] = {}
        self._check_at = 0.0
        self._checking = asyncio.Lock()
        payer = fs.requester_pays
        self._payer = f"&userProject={quote(payer if isinstance(payer, str) else fs.project)}" if payer else ""

    async def get(self, path: str) -> bytes:
        """See `Objects.get`."""
        if time.monotonic() >= self._check_at:
            await self._look_at_token()
        try:
            answer = await self._ask(path)
            if answer.status == 401 and self._headers:
                # Withdrawn before its end, or renewed elsewhere: one look, then it counts.
                answer.release()
                await self._look_at_token()
                answer = await self._ask(path)
            async with answer:
                if answer.status == 200:
                    return await answer.read()
                raise _refusal(answer, path)
        except aiohttp.ClientError as error:
            raise OSError(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _ask(self, path: str) -> aiohttp.ClientResponse:
        if self._session is None:
            ours: dict[str, Any] = {
                "connector": aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=60),
                "timeout": aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S),
                "auto_decompress": False,
            }
            self._session = aiohttp.ClientSession(**{**ours, **self._fs.session_kwargs})
        # gcsfs has quoted the name; yarl would parse and quote it again for each request.
        return await self._session.get(URL(self._fs.url(path) + self._payer, encoded=True), headers=self._headers)

    async def _look_at_token(self) -> None:
        """Renew the token if it needs that, in a thread: google-auth blocks for a request or more."""
        credentials = self._fs.credentials
        if credentials.credentials is None:  # anonymous
            self._check_at = float("inf")
            return
        from gcsfs.retry import NonRetryableError  # here: importing gcsfs takes long, and this one is in use

        begun = time.monotonic()
        async with self._checking:
            if begun < self._check_at - _CHECK_TOKEN_S:  # another request looked while this one waited
                return
            headers: dict[str, str] = {}
            try:
                await asyncio.to_thread(credentials.apply, headers)
            except NonRetryableError as error:
                raise PermissionError(str(error)) from error
            self._headers = headers
            self._check_at = time.monotonic() + _CHECK_TOKEN_S


def choose_objects(fs: Any, connections: int) -> Objects:
    """The way to request objects from an asynchronous file system.

    Args:
        fs: an fsspec file system.
        connections: most requests at once.
    """
    protocols = (fs.protocol,) if isinstance(fs.protocol, str) else tuple(fs.protocol)
    # A connector or client certificate of its own is for gcsfs to handle: connectors must not be closed twice.
    is_special = "connector" in getattr(fs, "session_kwargs", {}) or getattr(fs, "_use_client_cert", False)
    if "gs" in protocols and fs.async_impl and not is_special:
        return GcsObjects(fs, connections)
    return FsspecObjects(fs)


def retry_after_s(value: str | None) -> float:
    """Seconds that a Retry-After header requests (RFC 9110, section 10.2.3: a number or a date); 0 without one."""
    if value is None:
        return 0.0
    if value.strip().isdecimal():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())


def _refusal(answer: aiohttp.ClientResponse, path: str) -> OSError:
    if answer.status == 404:
        return FileNotFoundError(path)
    if answer.status in _RETRYABLE:
        return RefusedError(answer.status, retry_after_s(answer.headers.get("Retry-After")))
    return PermissionError(f"HTTP {answer.status}")
