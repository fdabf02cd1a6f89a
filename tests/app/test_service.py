"""A request through its stages: one deadline for all, an end when nobody waits, and an end of the service."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

from app.main import create_app
from app.service import Service
from app.settings import make_settings
from tests.support.heads import head_nifti

SCAN = head_nifti()
FILES = {"scan": ("anna_smith.nii.gz", SCAN)}


@asynccontextmanager
async def started(artefact: Path, **settings: Any) -> AsyncIterator[tuple[Any, Service]]:
    """An application in this event loop, ready."""
    app = create_app(make_settings(artefacts=(str(artefact),), **settings))
    async with app.router.lifespan_context(app), asyncio.timeout(120):
        service: Service = app.state.service
        while not service.is_ready:
            await asyncio.sleep(0.01)
        yield app, service


def freeze(service: Service, number: int = signal.SIGSTOP) -> None:
    for decoder in service.decoders._all:
        assert decoder._process.pid is not None
        os.kill(decoder._process.pid, number)


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8000", timeout=60)


def test_one_deadline_holds_for_all_stages_and_the_answer_says_which_one_it_was(artefact):
    async def go() -> None:
        async with started(artefact, deadline_s=2.0) as (app, service), client(app) as http:
            freeze(service)
            late = await http.post("/v1/embeddings", files=FILES)
            assert (late.status_code, late.json()["code"]) == (503, "deadline")
            assert "while decoding" in late.json()["detail"]
            assert int(late.headers["retry-after"]) > 0
            assert service.gate.num_inside == 0
            assert service.intake.num_bodies == 0

    asyncio.run(go())


def test_every_stage_is_timed_in_the_answer_and_in_the_metrics(artefact):
    async def go() -> None:
        async with started(artefact) as (app, _), client(app) as http:
            answer = await http.post("/v1/embeddings", files=FILES)
            metrics = (await http.get("/metrics")).text
        stages = [part.split(";")[0] for part in answer.headers["server-timing"].split(", ")]
        assert stages == ["reading", "fetching", "waiting", "decoding", "answering"]
        for stage in stages:
            assert f'interscan_stage_seconds_count{{stage="{stage}"}} 1.0' in metrics

    asyncio.run(go())


def test_work_ends_when_its_client_leaves(artefact):
    async def go() -> None:
        async with started(artefact) as (app, service):
            freeze(service)
            before = service.decoders.num_replaced
            boundary = b"--x\r\nContent-Disposition: form-data; name=scan; filename=a\r\n\r\n" + SCAN + b"\r\n--x--\r\n"
            messages = [{"type": "http.request", "body": boundary, "more_body": False}]
            sent: list[dict[str, Any]] = []

            async def receive() -> dict[str, Any]:
                if messages:
                    return messages.pop()
                while not service.gate.num_inside:
                    await asyncio.sleep(0.001)
                return {"type": "http.disconnect"}

            async def send(message: dict[str, Any]) -> None:
                sent.append(message)

            scope = {
                "type": "http", "method": "POST", "path": "/v1/embeddings", "raw_path": b"/v1/embeddings",
                "query_string": b"", "root_path": "", "scheme": "http", "http_version": "1.1",
                "server": ("127.0.0.1", 8000), "client": ("127.0.0.1", 9),
                "headers": [(b"host", b"127.0.0.1:8000"), (b"content-type", b"multipart/form-data; boundary=x")],
            }  # fmt: skip
            await app(scope, receive, send)
            assert service.gate.num_inside == 0
            while service.decoders.num_replaced == before:
                await asyncio.sleep(0.01)

    asyncio.run(go())


def test_stopping_refuses_who_comes_and_cuts_off_what_takes_too_long(artefact):
    async def go() -> None:
        async with started(artefact, stop_s=0.3) as (app, service), client(app) as http:
            freeze(service)
            running = asyncio.create_task(http.post("/v1/embeddings", files=FILES))
            while not service.gate.num_inside:
                await asyncio.sleep(0.001)
            service.begin_stopping()
            late = await http.post("/v1/embeddings", files=FILES)
            assert (late.status_code, late.json()["code"]) == (503, "stopping")
            cut = await running
            assert (cut.status_code, cut.json()["code"]) == (503, "stopping")

    asyncio.run(go())


def test_stopping_lets_a_quick_answer_finish(artefact):
    async def go() -> None:
        async with started(artefact, stop_s=30.0) as (app, service), client(app) as http:
            freeze(service)
            running = asyncio.create_task(http.post("/v1/embeddings", files=FILES))
            while not service.gate.num_inside:
                await asyncio.sleep(0.001)
            service.begin_stopping()
            freeze(service, signal.SIGCONT)
            assert (await running).status_code == 200

    asyncio.run(go())


@pytest.mark.parametrize("bad", ["earlier", "both"])
def test_of_two_scans_that_cannot_be_used_the_earlier_is_named(artefact, bad):
    async def go() -> None:
        async with started(artefact) as (app, _), client(app) as http:
            files = {"earlier": ("a.nii", b"nothing"), "later": ("b.nii", b"nothing" if bad == "both" else SCAN)}
            answer = await http.post("/v1/progression", files=files)
            assert answer.status_code == 422
            assert answer.json()["detail"].startswith("earlier:")

    asyncio.run(go())
