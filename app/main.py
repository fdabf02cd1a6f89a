"""Builds the application from settings; nothing is loaded before it starts."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from app.dependencies import Service
from app.errors import install_handlers
from app.front import FrontMiddleware
from app.gate import Gate
from app.openapi import install_openapi
from app.registry import Registry
from app.routes import embeddings, health, models, progression, trajectories
from app.settings import Settings
from app.telemetry import RequestMiddleware, Telemetry

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
    registry = Registry(settings.artefacts)
    gate = Gate(max_running=settings.max_running, max_waiting=settings.max_waiting, max_wait_s=settings.max_wait_s)
    telemetry = Telemetry()
    telemetry.inside.set_function(lambda: gate.num_inside)
    telemetry.models.set_function(lambda: len(registry.models))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        # A thread, so that /livez and /readyz answer while a large artefact is being fetched.
        loading = threading.Thread(target=registry.keep_loading, name="load-artefacts")
        loading.start()
        yield
        registry.stop()
        await asyncio.to_thread(loading.join)

    app = FastAPI(title="interscan", version=version("interscan"), description=_DESCRIPTION, lifespan=lifespan)
    app.state.service = Service(settings=settings, registry=registry, gate=gate, telemetry=telemetry)
    app.add_middleware(FrontMiddleware, root_path=settings.root_path)
    app.add_middleware(RequestMiddleware, telemetry=telemetry)
    install_handlers(app)
    for route in (embeddings, progression, trajectories, models, health):
        app.include_router(route.router)
    install_openapi(app)
    return app
