"""Request ids, one log line a request, and Prometheus metrics; route templates only, never paths or file names."""

import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from preprocess.console import LOG

_SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_QUIET = {"/livez", "/readyz", "/metrics"}
"""Probes come every few seconds; they are counted but not logged."""
_SECONDS = (0.005, 0.02, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
"""Buckets from a probe to a pair of 0.8 mm heads on a slow core."""


class Stages:
    """What a request is doing, and how long it did what."""

    def __init__(self) -> None:
        self.current = "starting"
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a part of the work under its name, such as `decoding`."""
        start = time.perf_counter()
        self.current = name
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def header(self) -> bytes:
        """As Server-Timing has it (W3C), in milliseconds."""
        return ", ".join(f"{name};dur={1000 * seconds:.1f}" for name, seconds in self.seconds.items()).encode()


class Telemetry:
    """The metrics of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "interscan_requests", "Requests answered.", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "interscan_request_seconds",
            "Time from the request to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._stages = Histogram(
            "interscan_stage_seconds",
            "Time of one stage of a request.",
            ("stage",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.inside = Gauge("interscan_pairs_inside", "Scans and pairs worked on or waiting.", registry=self.registry)
        self.replaced = Gauge(
            "interscan_decoders_replaced",
            "Decoding processes ended over a scan since the start.",
            registry=self.registry,
        )
        self.models = Gauge("interscan_models_ready", "Models that passed their checks.", registry=self.registry)

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def observe_stages(self, stages: Stages) -> None:
        """Count what a request was doing."""
        for name, seconds in stages.seconds.items():
            self._stages.labels(name).observe(seconds)

    def render(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self.registry)


class RequestMiddleware:
    """Gives each request an id (the caller's, when it is a sane one), echoes it, times and counts the request.

    Args:
        app: the application inside.
        telemetry: where requests are counted.
    """

    def __init__(self, app: ASGIApp, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        stages = Stages()
        scope.setdefault("state", {}).update(request_id=request_id, stages=stages)
        start = time.perf_counter()
        status = 500  # what the outermost handler answers when the application breaks

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [pair for pair in message.get("headers", []) if pair[0].lower() != b"x-request-id"]
                headers.append((b"x-request-id", request_id.encode()))
                if stages.seconds:
                    headers.append((b"server-timing", stages.header()))
                message["headers"] = headers
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - start
            route = getattr(scope.get("route"), "path", "other")
            self._telemetry.observe(scope["method"], route, status, seconds)
            self._telemetry.observe_stages(stages)
            if route not in _QUIET:
                LOG.info("%s %s %d %.0f ms %s", scope["method"], route, status, 1000 * seconds, request_id)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            return str(value, "ascii")
    return uuid.uuid4().hex
