"""The service as a test talks to it: started, its models loaded, reached as from this machine."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from app.main import create_app
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
