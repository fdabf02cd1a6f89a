"""An asynchronous file system over another one that is late, and answers what a test scripts."""

import asyncio
from collections import Counter
from collections.abc import Callable

import fsspec.asyn
from fsspec.asyn import AsyncFileSystem

from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import MODALITY


class AsyncFiles(AsyncFileSystem):
    """Serves objects on fsspec's event loop.

    Attributes:
        delay_s: of the n-th request.
        script: from path and number of the request for it (from 1) to the answer; None for what is stored.
        requested: requests by path.
    """

    cachable = False

    def __init__(
        self,
        source: Location,
        *,
        delay_s: Callable[[int], float] = lambda _: 0.0,
        script: Callable[[str, int], bytes | None] = lambda path, attempt: None,
    ) -> None:
        super().__init__()
        self.source, self.delay_s, self.script = source, delay_s, script
        self.requested: Counter[str] = Counter()
        self.num_active = self.most_active = self.num_cancelled = 0

    @property
    def num_requested(self) -> int:
        return self.requested.total()

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: object) -> bytes:
        self.requested[path] += 1
        attempt = self.requested[path]
        self.num_active += 1
        self.most_active = max(self.most_active, self.num_active)
        try:
            await asyncio.sleep(self.delay_s(self.num_requested))
            answer = self.script(path, attempt)
            return bytes(self.source.fs.cat_file(path)) if answer is None else answer
        except asyncio.CancelledError:
            self.num_cancelled += 1
            raise
        finally:
            self.num_active -= 1


def behind_loop(
    store: Store,
    *,
    delay_s: Callable[[int], float] = lambda _: 0.0,
    script: Callable[[str, int], bytes | None] = lambda path, attempt: None,
) -> tuple[Store, AsyncFiles]:
    """The same store behind an asynchronous file system."""
    location = Location(store.location.uri)
    slow = Store(location, store.manifest, store.index)
    slow.layout(MODALITY)
    location.fs = AsyncFiles(store.location, delay_s=delay_s, script=script)
    return slow, location.fs


def settle(seconds: float = 0.01) -> None:
    """Let the event loop work through what was handed to it."""
    fsspec.asyn.sync(fsspec.asyn.get_loop(), asyncio.sleep, seconds)
