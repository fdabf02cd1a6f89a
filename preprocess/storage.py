"""Objects under a URL: local paths, memory://, gs://, s3:// behind one small interface.

A write appears whole or not at all: object stores put whole objects, local files are written beside their final path
and renamed. Every refusal of the file system becomes one `StorageError` line that names the URL and the remedy.
Options (endpoint, token) come from fsspec's own environment variables (`FSSPEC_GS_TOKEN`, `FSSPEC_GS_ENDPOINT_URL`,
`STORAGE_EMULATOR_HOST`, ...) or from the caller.
"""

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.local import LocalFileSystem
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from preprocess.errors import StorageError, UsageError
from preprocess.system_errors import remedy_of

Options = dict[str, Any]


class Location:
    """A folder on some file system, named by a URL.

        folder = Location("gs://bucket/store")
        folder.write("notes/first.txt", b"text")
        text = folder.read("notes/first.txt")

    Args:
        uri: local path or URL, with or without a trailing slash.
        options: arguments of the fsspec file system, for example `{"endpoint_url": ...}`.

    Raises:
        StorageError: the protocol is unknown or its package is not installed.
    """

    def __init__(self, uri: str | Path, options: Options | None = None) -> None:
        self.uri = _without_trailing_slash(str(uri))
        self.options = dict(options or {})
        if self.uri.startswith(("gs://", "gcs://")):
            # Read by gcsfs when it is imported; without it every call to an emulator blocks for 60 s.
            os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
        try:
            if "://" in self.uri:
                self.fs, self.path = fsspec.core.url_to_fs(self.uri, **self.options)
            else:  # fsspec would take `::` in a path for a chain of file systems
                self.fs = LocalFileSystem(**self.options)
                self.path = LocalFileSystem._strip_protocol(self.uri)
        except (ValueError, ImportError) as error:
            raise StorageError(
                f"{self.uri}: {error}; use a local path, gs://, s3:// (extra s3) or memory://"
            ) from error
        if self.is_local:
            self.uri = self.path

    @property
    def is_local(self) -> bool:
        """Whether this is a folder of this machine."""
        return isinstance(self.fs, LocalFileSystem)

    @property
    def is_shared(self) -> bool:
        """Whether another process sees what is written here (false for memory://)."""
        return "memory" not in _protocols(self.fs)

    def child(self, name: str) -> "Location":
        """The folder `name` below this one."""
        return Location(f"{self.uri.rstrip('/')}/{name}", self.options)

    def key(self, name: str) -> str:
        """The path of `name` below this folder as the file system spells it."""
        return f"{self.path.rstrip('/')}/{name}" if name else self.path

    def exists(self, name: str = "") -> bool:
        """Whether the object or folder is there."""
        with self._refusals(name):
            return bool(self.fs.exists(self.key(name)))

    def is_folder(self) -> bool:
        """Whether this is a folder, and neither a file nor nothing."""
        with self._refusals(""):
            return bool(self.fs.isdir(self.path))

    def read(self, name: str = "") -> bytes:
        """The whole object.

        Raises:
            FileNotFoundError: there is no such object.
            StorageError: the file system refuses.
        """
        with self._refusals(name, missing_is_error=False):
            data: bytes = self.fs.cat_file(self.key(name))
            return data

    def read_part(self, name: str, start: int, end: int) -> bytes:
        """Bytes of an object from `start` up to `end`.

        Raises:
            FileNotFoundError: there is no such object.
            StorageError: the file system refuses.
        """
        with self._refusals(name, missing_is_error=False):
            data: bytes = self.fs.cat_file(self.key(name), start=start, end=end)
            return data

    def write(self, name: str, data: bytes) -> None:
        """Put a whole object, replacing what was there."""
        with self._refusals(name):
            if self.is_local:
                _write_beside(Path(self.key(name)), data, os.replace)
            else:
                self.fs.pipe_file(self.key(name), data)

    def create(self, name: str, data: bytes) -> bool:
        """Put an object only if the name is free; false when it was taken."""
        with self._refusals(name):
            if self.is_local:
                Path(self.key(name)).parent.mkdir(parents=True, exist_ok=True)  # a file in the way is not `taken`
            try:
                if self.is_local:
                    _write_beside(Path(self.key(name)), data, os.link)
                else:
                    self.fs.pipe_file(self.key(name), data, mode="create")
            except FileExistsError:
                return False
            return True

    def names(self, folder: str = "") -> list[str]:
        """Sorted names of all objects below `folder`, relative to this location; empty when there is none."""
        with self._refusals(folder):
            self.fs.invalidate_cache()
            try:
                found = self.fs.find(self.key(folder))
            except FileNotFoundError:
                return []
        start = len(self.path.rstrip("/")) + 1
        return sorted(path[start:] for path in found)

    def delete(self, name: str) -> None:
        """Remove an object or a whole folder; nothing happens when it is not there."""
        with self._refusals(name):
            self.fs.invalidate_cache()  # another process may have put objects into a folder listed before
            try:
                self.fs.rm(self.key(name), recursive=True)
            except FileNotFoundError:
                return

    def zarr_store(self) -> Store:
        """This folder as a Zarr store."""
        if self.is_local:
            return LocalStore(self.path)
        # Zarr awaits its store on an event loop of its own; an instance of that loop would be a second client, which
        # gcsfs cannot close when the program ends. The wrapper keeps all requests on this one.
        return FsspecStore(AsyncFileSystemWrapper(self.fs, asynchronous=True), path=self.path)

    @contextmanager
    def _refusals(self, name: str, *, missing_is_error: bool = True) -> Iterator[None]:
        """Turn what the file system raises into one line; a missing object stays FileNotFoundError on request."""
        where = f"{self.uri.rstrip('/')}/{name}" if name else self.uri
        with refusals(where, missing_is_error=missing_is_error):
            try:
                yield
            except ValueError as error:  # gcsfs: bucket names and requests that Google calls invalid
                raise StorageError(f"{where}: {_one_line(error)}; check the URL") from error


def split_file(uri: str, *, example: str) -> tuple[str, str]:
    """Folder and name of a file to write; the folder is what a `Location` takes.

    Args:
        uri: path or URL of the file.
        example: a name that the message gives.

    Raises:
        UsageError: the name of a folder, or of a bucket.
    """
    folder, _, name = uri.rpartition("/")
    if not name or (":" in folder and not folder.rstrip("/").partition("://")[2]):
        raise UsageError(f"{uri}: not a file; name one, for example {example}")
    return folder or ("/" if uri.startswith("/") else "."), name


@contextmanager
def refusals(where: str, *, missing_is_error: bool = True) -> Iterator[None]:
    """Name the location and the remedy when a file system refuses.

    Args:
        where: the URL that messages name.
        missing_is_error: whether a missing object is a StorageError too, instead of FileNotFoundError.

    Raises:
        StorageError: one line: location, reason, remedy.
    """
    try:
        yield
    except FileNotFoundError as error:
        if not missing_is_error:
            raise
        raise StorageError(f"{where}: not found; check the path and that the bucket exists") from error
    except PermissionError as error:
        raise StorageError(
            f"{where}: access refused ({_one_line(error)}); check the permissions or the token"
        ) from error
    except (OSError, TimeoutError) as error:
        remedy = remedy_of(error) or "check the path, the network and the permissions"
        raise StorageError(f"{where}: {_one_line(error)}; {remedy}") from error
    except Exception as error:
        # gcsfs, aiohttp and google-auth have error trees of their own; importing them here would slow every start.
        if type(error).__module__.split(".")[0] not in {"gcsfs", "aiohttp", "google", "botocore", "s3fs", "requests"}:
            raise
        raise StorageError(f"{where}: {_one_line(error)}; check the URL, the credentials and the network") from error


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."


def _without_trailing_slash(uri: str) -> str:
    """The URL without slashes at its end, except those of a bare `memory://`, `gs://` or `/`."""
    protocol, separator, path = uri.rpartition("://")
    return f"{protocol}{separator}{path.rstrip('/') or ('/' if path else '')}"


def _protocols(fs: Any) -> tuple[str, ...]:
    protocol = fs.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def _write_beside(path: Path, data: bytes, publish: Callable[[Path, Path], None]) -> None:
    """Write a file beside its final path, then rename it: `os.replace` over an old one, `os.link` only if free."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        beside.write_bytes(data)
        publish(beside, path)
    finally:
        beside.unlink(missing_ok=True)
