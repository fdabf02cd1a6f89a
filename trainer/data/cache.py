"""A cache of stored objects on a local disk: bounded, shared by several runs, right after any crash.

Entries are named by the digest of the volume they hold, so two stores or runs with the same volume share one. A file is
written under a temporary name in the same folder and renamed. An incomplete or damaged one fails its own checksum when
it is decoded, is dropped, and is fetched again. Whatever the disk refuses turns the cache off for this process, with
one line, and training goes on.
"""

import os
import threading
import time
import uuid
from pathlib import Path

from preprocess.console import LOG

_LOOK_EVERY = 0.05
"""Each process looks at the folder after adding this part of the limit: two at once stay within it."""
_FILL_TO = 0.9
"""Part of the limit beyond which a look removes files."""
_SWEEP_TO = 0.85
"""Part of the limit that it leaves, so that not every look removes some."""
_ABANDONED_S = 600.0
"""Half-written files of this age belong to a process that was killed."""
_ENDING = ".row"
_PART = ".part"


class DiskCache:
    """Least recently used objects in a folder.

        cache = DiskCache(Path("cache"), limit_bytes=50 * 10**9)
        cache.put(record.content_sha256, data)
        data = cache.get(record.content_sha256)

    Args:
        folder: made when missing; may be shared with other processes.
        limit_bytes: most that it holds; in use it is 85 to 95 % full; 0 or less is refused.

    Raises:
        ValueError: the limit is not positive.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        if limit_bytes <= 0:
            raise ValueError(f"limit_bytes is {limit_bytes}; a cache needs room")
        self._folder = folder
        self._limit = limit_bytes
        self._lock = threading.Lock()
        self._added: int | None = None
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
            self._make_room(len(data))
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                beside.write_bytes(data)
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
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

    def _make_room(self, num_bytes: int) -> None:
        """Look at the folder, which others fill too, whenever this process has added a part of the limit."""
        with self._lock:
            if self._added is None or self._added + num_bytes > self._limit * _LOOK_EVERY:
                self._sweep(num_bytes)
                self._added = 0
            self._added += num_bytes

    def _sweep(self, num_bytes: int) -> None:
        """Remove the least recently used files where too little room is left for so many bytes more."""
        found = []
        for path in self._folder.glob("??/*"):
            try:
                status = path.stat()
                if path.suffix == _PART and time.time() - status.st_mtime > _ABANDONED_S:
                    path.unlink()
                    continue
            except FileNotFoundError:  # another process swept it
                continue
            found.append((status.st_mtime_ns, status.st_size, path))
        held = num_bytes + sum(size for _, size, _ in found)
        if held <= self._limit * _FILL_TO:
            return
        for _, size, path in sorted(found):
            if held <= self._limit * _SWEEP_TO:
                break
            path.unlink(missing_ok=True)
            held -= size

    def _turn_off(self, error: OSError) -> None:
        with self._lock:
            if self.is_on:
                self.is_on = False
                reason = error.strerror or error
                LOG.warning("%s: cache turned off (%s); training goes on from the store", self._folder, reason)
