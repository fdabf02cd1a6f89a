"""Builds the application from settings; nothing is loaded before it starts."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

import torch
from fastapi import FastAPI

from app.auth import lock_pages
from app.decoders import DecodeLimits, Decoders
from app.errors import install_handlers
from app.fetching import Fetcher
from app.front import FrontMiddleware
from app.gate import Gate
from app.intake import Intake
from app.openapi import install_openapi
from app.registry import Registry
from app.routes import embeddings, example, health, models, page, progression, trajectories, views
from app.service import Service
from app.settings import Settings
from app.telemetry import RequestMiddleware, Telemetry

_VOXEL_BYTES, _WORKSPACE_BYTES = 12, 2**28
"""The largest image, smoothed along oblique axes, is there three times as float32; and this may be needed beside it."""
_MIN_BYTES_PER_S = 2.0**14
_DESCRIPTION = """What changed between two scans of one person. For research only: not a medical device.

Errors are `application/problem+json` (RFC 9457) with a stable `code`. File names and header text of uploads are neither
logged nor answered; uploads are not kept."""


def create_app(settings: Settings) -> FastAPI:
    """The REST service.

    Args:
        settings: artefacts, keys and limits.

    Returns:
        The application; artefacts are loaded in a thread once it starts, and /readyz tells when that is done.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    registry = Registry(settings.artefacts)
    service = _make_service(settings, registry)
    telemetry = service.telemetry
    telemetry.inside.set_function(lambda: service.gate.num_inside)
    telemetry.models.set_function(lambda: len(registry.models))
    telemetry.replaced.set_function(lambda: service.decoders.num_replaced)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # A thread, so that /livez and /readyz answer while a large artefact is being fetched.
        loading = threading.Thread(target=registry.keep_loading, name="load-artefacts")
        loading.start()
        starting = asyncio.create_task(service.decoders.start())
        yield
        registry.stop()
        starting.cancel()
        await service.decoders.stop()
        await asyncio.to_thread(loading.join)

    app = FastAPI(title="interscan", version=version("interscan"), description=_DESCRIPTION, lifespan=lifespan)
    if settings.lock_pages:
        lock_pages(app, settings)
    app.state.service = service
    app.add_middleware(FrontMiddleware, root_path=settings.root_path)
    app.add_middleware(RequestMiddleware, telemetry=telemetry)
    install_handlers(app)
    for route in (embeddings, progression, trajectories, views, models, example, health, page):
        app.include_router(route.router)
    install_openapi(app)
    return app


def _make_service(settings: Settings, registry: Registry) -> Service:
    limits = DecodeLimits(
        max_voxels=settings.max_voxels,
        memory_bytes=settings.max_voxels * _VOXEL_BYTES + _WORKSPACE_BYTES,
        cpu_s=settings.max_cpu_s,
    )
    return Service(
        settings=settings,
        registry=registry,
        telemetry=Telemetry(),
        gate=Gate(max_running=settings.max_running, max_waiting=settings.max_waiting, max_wait_s=settings.max_wait_s),
        intake=Intake(
            max_bodies=settings.max_bodies,
            max_bytes=settings.max_held_bytes,
            idle_s=settings.body_idle_s,
            min_bytes_per_s=_MIN_BYTES_PER_S,
        ),
        fetcher=Fetcher(
            settings.allow_prefixes,
            max_bytes=settings.max_upload_bytes,
            max_at_once=settings.max_running + settings.max_waiting,
            deadline_s=settings.fetch_s,
        ),
        # The two scans of a pair are decoded side by side.
        decoders=Decoders(max(2, settings.max_running), limits),
    )
