"""A store behind an asynchronous file system that records the requests it gets and answers after a delay."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from fsspec.asyn import AsyncFileSystem

from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import MODALITY, write_store

SlowStore = Callable[[float], tuple[Store, "CountingFileSystem"]]


class CountingFileSystem(AsyncFileSystem):
    """Serves another file system's objects on fsspec's event loop, each after a delay, and notes their paths."""

    cachable = False

    def __init__(self, source: Location, *, delay_s: float) -> None:
        super().__init__()
        self.source = source
        self.delay_s = delay_s
        self.requested: list[str] = []

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: object) -> bytes:
        self.requested.append(path)
        await asyncio.sleep(self.delay_s)
        return bytes(self.source.fs.cat_file(path))


@pytest.fixture
def slow_store(tmp_path: Path) -> SlowStore:
    """Make the default tiny store behind a file system of the given delay."""

    def make(delay_s: float) -> tuple[Store, CountingFileSystem]:
        written = write_store(tmp_path / "store")
        location = Location(written.location.uri)
        slow = Store(location, written.manifest, written.index)
        slow.layout(MODALITY)
        location.fs = CountingFileSystem(written.location, delay_s=delay_s)
        return slow, location.fs

    return make
