"""Scans under URIs: fetched with places and a deadline of their own, so that a bucket that hangs holds up nobody else.

Nothing outside the allowed list is asked for, and nothing beyond the size limit is fetched. What storage says of itself
is neither answered nor logged, since it quotes names of objects, and people hide in those.
"""

import asyncio
import errno
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from app.allowlist import NotAllowedError, check_allowed
from app.errors import ProblemError
from app.gate import busy
from app.inputs import too_large
from preprocess.console import LOG
from preprocess.errors import StorageError
from preprocess.storage import Location, refusals

_Result = TypeVar("_Result")
_IS_NO_NAME = {errno.ENAMETOOLONG, errno.EINVAL, errno.ELOOP, errno.ENOTDIR}
"""What a file system says of names that nothing can have."""


class Fetcher:
    """Fetches scans for one service.

        fetcher = Fetcher(prefixes, max_bytes=2**28, max_at_once=16, deadline_s=30.0)
        data = await fetcher.fetch("gs://bucket/scans/a.nii.gz", name="earlier")

    Args:
        prefixes: what may be read, as `normal_prefix` gives them.
        max_bytes: largest scan, compared with the size in the storage before anything is fetched.
        max_at_once: fetched at once, those that hang included; the next is refused.
        deadline_s: longest time that one may take, seconds.
    """

    def __init__(self, prefixes: Sequence[str], *, max_bytes: int, max_at_once: int, deadline_s: float) -> None:
        self._prefixes = tuple(prefixes)
        self._max_bytes = max_bytes
        self._max_at_once = max_at_once
        self._deadline_s = deadline_s
        self._num_running = 0

    async def fetch(self, uri: str, *, name: str) -> bytes:
        """The bytes under a URI.

        Args:
            uri: as the caller sent it.
            name: what messages call the scan.

        Raises:
            ProblemError: 403 outside the list, 413 too large, 422 not there, 502 when the storage refuses, 503 when too
                many others are being fetched, 504 when it takes too long.
        """
        if self._num_running >= self._max_at_once:
            raise busy(f"{name}: {self._num_running} scans are being fetched already", self._deadline_s)
        work = _in_thread(lambda: read_uri(uri, self._prefixes, name=name, max_bytes=self._max_bytes))
        self._num_running += 1
        # Nothing ends a thread that a file system holds; its place is free when it is.
        work.add_done_callback(self._one_less)
        try:
            async with asyncio.timeout(self._deadline_s):
                return await asyncio.shield(work)
        except TimeoutError as error:
            detail = f"{name}: the storage did not deliver it within {self._deadline_s:g} s; upload it, or try again"
            raise ProblemError(504, "storage_slow", detail) from error

    def _one_less(self, work: "asyncio.Future[bytes]") -> None:
        self._num_running -= 1
        if not work.cancelled():
            work.exception()  # nobody else may be there to hear it


def read_uri(uri: str, prefixes: Sequence[str], *, name: str, max_bytes: int) -> bytes:
    """The bytes under a URI, fetched in this thread; arguments and errors as in `Fetcher`."""
    try:
        location = Location(check_allowed(uri, prefixes))
    except NotAllowedError as error:
        raise ProblemError(403, "uri_not_allowed", f"{name}: {error}") from error
    try:
        with refusals(name, missing_is_error=False):
            return _read(location, name, max_bytes)
    except FileNotFoundError as error:
        raise _not_found(name) from error
    except ProblemError:
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error, StorageError) and error.__cause__ is not None else error
        if isinstance(cause, OSError) and cause.errno in _IS_NO_NAME:
            raise _not_found(name) from error
        status = next((code for key in ("status", "code") if isinstance(code := getattr(cause, key, None), int)), "-")
        LOG.warning("storage refused the scan %s: %s, status %s", name, type(cause).__qualname__, status)
        detail = f"{name}: the storage refused or could not be reached; ask the operator"
        raise ProblemError(502, "storage_failed", detail) from error


def _read(location: Location, name: str, max_bytes: int) -> bytes:
    entry = location.fs.info(location.path)
    if entry["type"] != "file":
        detail = f"{name}: the URI names a folder; name one NIfTI file, or a zip of one DICOM series"
        raise ProblemError(422, "not_a_file", detail)
    size = int(entry["size"])
    if size > max_bytes:
        raise too_large(name, max_bytes)
    # No further than the size that was checked: the object may have grown since.
    data: bytes = location.fs.cat_file(location.path, start=0, end=size) if size else b""
    return data


def _not_found(name: str) -> ProblemError:
    return ProblemError(422, "not_found", f"{name}: there is nothing under the URI; check its spelling")


def _in_thread(work: Callable[[], _Result]) -> "asyncio.Future[_Result]":
    """Run in a thread that does not keep the process alive, however long it takes."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[_Result] = loop.create_future()

    def deliver(result: _Result | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except Exception as caught:  # noqa: BLE001  # told to whoever waits
            error = caught
        try:
            loop.call_soon_threadsafe(deliver, result, error)
        except RuntimeError:
            return  # the service has ended meanwhile

    threading.Thread(target=run, name="fetch", daemon=True).start()
    return future
