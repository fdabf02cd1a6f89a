"""What one application holds, and the way of a request through it: fetch, wait for a turn, decode, answer.

All stages together have one deadline. Work ends when its client leaves, and when the service has to.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import IO, TypeVar

from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request

from app.decoders import Decoders, as_file
from app.errors import ProblemError, no_room
from app.fetching import Fetcher
from app.gate import Gate, stopping
from app.inputs import PreparedScan, upload_file
from app.intake import Intake
from app.registry import LoadedModel, Registry
from app.settings import Settings
from app.telemetry import Stages, Telemetry

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Service:
    """What one application holds for its lifetime."""

    settings: Settings
    registry: Registry
    telemetry: Telemetry
    gate: Gate
    intake: Intake
    fetcher: Fetcher
    decoders: Decoders
    _cut: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_ready(self) -> bool:
        """Whether every model is loaded and checked, and scans can be decoded."""
        return self.registry.is_ready and self.decoders.is_ready

    def begin_stopping(self) -> None:
        """Read no more bodies and let nobody in; answers under way have `stop_s` seconds. Called in the event loop."""
        self.intake.stop()
        self.gate.close()
        asyncio.get_running_loop().call_later(self.settings.stop_s, self._cut.set)

    async def answer(
        self,
        request: Request,
        scans: Mapping[str, UploadFile | str],
        model: LoadedModel,
        finish: Callable[[Sequence[PreparedScan]], _Answer],
    ) -> _Answer:
        """Make scans ready for a model and answer from them.

        Args:
            request: whose client waits.
            scans: uploads and URIs, by what messages call them.
            model: whose preprocessing it is.
            finish: makes the answer from the scans, in their order; runs in a thread.

        Raises:
            ScanError: the first scan that cannot be used.
            ProblemError: as `Fetcher.fetch`, `Gate.turn` and `Decoders.decode`; 503 when the deadline passes or the
                service stops.
            ClientDisconnect: nobody waits any more.
        """
        stages: Stages = request.state.stages
        try:
            async with asyncio.timeout(self.settings.deadline_s):
                return await self._while_wanted(request, self._work(stages, scans, model, finish))
        except TimeoutError as error:
            detail = f"not answered within {self.settings.deadline_s:g} s, while {stages.current}; try again later"
            raise ProblemError(503, "deadline", detail, headers={"Retry-After": "30"}) from error

    async def _work(
        self,
        stages: Stages,
        scans: Mapping[str, UploadFile | str],
        model: LoadedModel,
        finish: Callable[[Sequence[PreparedScan]], _Answer],
    ) -> _Answer:
        recipe = model.manifest.inputs.volume_recipe
        async with AsyncExitStack() as held:
            with stages.stage("fetching"):
                files = await _all(self._file(source, name, held) for name, source in scans.items())
            turn = self.gate.turn()
            with stages.stage("waiting"):
                await held.enter_async_context(turn)
            with stages.stage("decoding"):
                named = zip(scans, files, strict=True)
                prepared = await _all(self.decoders.decode(file, recipe, name=name) for name, file in named)
            with stages.stage("answering"):
                return await asyncio.to_thread(finish, prepared)

    async def _file(self, source: UploadFile | str, name: str, held: AsyncExitStack) -> IO[bytes]:
        """A scan as a file; what is fetched is closed with `held`, an upload with its request."""
        try:
            if not isinstance(source, str):
                return upload_file(source, name=name, max_bytes=self.settings.max_upload_bytes)
            data = await self.fetcher.fetch(source, name=name)
            return held.enter_context(as_file(data))
        except OSError as error:
            raise no_room(error) from error

    async def _while_wanted(self, request: Request, work: Awaitable[_Answer]) -> _Answer:
        task = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_until_gone(request))
        cut = asyncio.ensure_future(self._cut.wait())
        try:
            await asyncio.wait({task, gone, cut}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ClientDisconnect if gone.done() else stopping()
        finally:
            for one in (task, gone, cut):
                one.cancel()
            await asyncio.gather(task, gone, cut, return_exceptions=True)


async def _all(works: Iterable[Awaitable[_Answer]]) -> list[_Answer]:
    """All results in order; the error of the first that failed, after all have ended."""
    results = await asyncio.gather(*works, return_exceptions=True)
    found: list[_Answer] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found


async def _until_gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
