"""A cache of stored objects on a local disk: bounded, shared by several runs, right after any crash.

Entries are named by the digest of the volume they hold, so two stores or runs with the same volume share one. A file is
written beside its place and renamed; a torn or rotten one fails its own checksum when it is decoded, is dropped, and is
fetched again. Whatever the disk refuses turns the cache off for this process, with one line, and training goes on.
"""

import os
import threading
import uuid
from pathlib import Path

from preprocess.console import LOG

_SWEEP_TO = 0.9
"""Part of the limit that a sweep leaves, so that not every write sweeps."""
_ENDING = ".row"
_PART = ".part"


class DiskCache:
    """Least recently used objects in a folder.

    Args:
        folder: made when missing; may be shared with other processes.
        limit_bytes: most that it holds; 0 or less is refused.

    Raises:
        ValueError: the limit is not positive.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        if limit_bytes <= 0:
            raise ValueError(f"limit_bytes is {limit_bytes}; a cache needs room")
        self._folder = folder
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._held: int | None = None
        self.is_on = True

    def get(self, key: str) -> bytes | None:
        """The object, or None where it is not held."""
        if not self.is_on:
            return None
        path = self._path(key)
        try:
            data = path.read_bytes()
            os.utime(path)  # used just now: other processes see it too
        except FileNotFoundError:
            return None
        except OSError as error:
            self._turn_off(error)
            return None
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep the object; the least recently used ones go when there is no room."""
        if not self.is_on or len(data) > self._limit:
            return
        path = self._path(key)
        beside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{_PART}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                beside.write_bytes(data)
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
            self._count(len(data))
        except OSError as error:
            self._turn_off(error)

    def drop(self, key: str) -> None:
        """Forget an object that turned out to be damaged."""
        try:
            self._path(key).unlink(missing_ok=True)
        except OSError as error:
            self._turn_off(error)

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}{_ENDING}"

    def _count(self, added: int) -> None:
        """Add to what is held, and sweep when that is too much; other processes' files are seen at each sweep."""
        with self._lock:
            if self._held is None or self._held + added > self._limit:
                self._held = self._sweep()
            else:
                self._held += added

    def _sweep(self) -> int:
        """Remove the least recently used files down to a part of the limit; returns the bytes left."""
        found = []
        for path in self._folder.glob(f"??/*{_ENDING}"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process swept it
                continue
            found.append((status.st_mtime_ns, status.st_size, path))
        held = sum(size for _, size, _ in found)
        if held <= self._limit:
            return held
        for _, size, path in sorted(found):
            if held <= self._limit * _SWEEP_TO:
                break
            path.unlink(missing_ok=True)
            held -= size
        return held

    def _turn_off(self, error: OSError) -> None:
        with self._lock:
            if self.is_on:
                self.is_on = False
                LOG.warning("%s: cache turned off (%s); training goes on from the store", self._folder, error.strerror)
