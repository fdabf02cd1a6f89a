"""The service as a test talks to it: started, its models loaded, reached as from this machine."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from app.main import create_app
from app.server import make_server
from app.settings import make_settings


@contextmanager
def running(*artefacts: Path | str, base_url: str = "http://127.0.0.1:8000", **settings: Any) -> Iterator[TestClient]:
    """A client of a started service; errors of the application come back as answers, as over the network."""
    app = create_app(make_settings(artefacts=tuple(map(str, artefacts)), **settings))
    with TestClient(app, base_url=base_url, raise_server_exceptions=False) as client:
        assert app.state.service.registry.finished.wait(60)
        while not app.state.service.decoders.is_ready:
            time.sleep(0.01)
        yield client


def post_pair(client: TestClient, earlier: bytes, later: bytes, **fields: Any) -> Any:
    """POST /v1/progression as an upload."""
    files = {"earlier": ("anna_smith.nii.gz", earlier), "later": ("anna_smith_2.nii.gz", later)}
    return client.post("/v1/progression", files=files, data=fields)


def assert_problem(response: Any, status: int, code: str) -> dict[str, Any]:
    """Hold an answer against RFC 9457 and this service's own fields; gives its content."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["request_id"] == response.headers["x-request-id"]
    assert {"type", "title", "detail"} <= set(problem)
    assert "Traceback" not in response.text
    assert "/tmp" not in response.text
    return problem


@contextmanager
def listening(*artefacts: Path | str, **settings: Any) -> Iterator[tuple[str, Any, Any]]:
    """A service on a free port of this machine, as `serve` runs it: its address, its parts, and its server."""
    app = create_app(make_settings(artefacts=tuple(map(str, artefacts)), **settings))
    service = app.state.service
    server = make_server(
        app,
        on_stop=service.begin_stopping,
        header_s=service.settings.header_s,
        max_connections=service.settings.max_connections,
        stop_s=service.settings.stop_s,
        forwarded_allow_ips=[],
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            # Readiness of models is not waited for where there are none.
            while not (server.started and service.decoders.is_ready and (service.is_ready or not artefacts)):
                assert thread.is_alive()
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", service, server
        finally:
            server.should_exit = True
            thread.join()
