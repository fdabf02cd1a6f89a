"""What create_app gives."""

import subprocess
import sys
import threading

from fastapi.testclient import TestClient

from app.main import create_app
from app.settings import make_settings
from preprocess.errors import ArtefactError


def test_building_an_application_loads_nothing_until_it_starts(tmp_path):
    before = set(threading.enumerate())

    app = create_app(make_settings(artefacts=(str(tmp_path / "gone"),)))

    assert set(threading.enumerate()) <= before
    assert [status.status for status in app.state.service.registry.statuses] == ["waiting"]


def test_stopping_waits_for_the_artefact_that_is_being_loaded(artefact, monkeypatch):
    ended = threading.Event()
    app = create_app(make_settings(artefacts=(str(artefact),)))
    registry = app.state.service.registry

    def load_slowly(_: str) -> None:
        registry._stop.wait(30)
        threading.Event().wait(0.3)
        ended.set()
        raise ArtefactError("too late")

    monkeypatch.setattr("app.registry.load_artefact", load_slowly)
    with TestClient(app):
        pass

    assert ended.is_set()


def test_exactly_the_documented_paths_are_served(client):
    paths = client.get("/openapi.json").json()["paths"]

    answers = {"/v1/embeddings", "/v1/progression", "/v1/trajectories"}
    images = {"/v1/volumes", "/v1/progression/map", "/v1/example", "/v1/example/{visit}"}
    assert set(paths) == {*answers, *images, "/v1/models", "/livez", "/readyz", "/metrics"}


def test_the_service_never_loads_the_trainer_and_the_verbs_load_neither_torch_nor_fastapi():
    service = "import app.main, sys; assert not any(name.split('.')[0] == 'trainer' for name in sys.modules)"
    verbs = "import app.cli, sys; assert not {'torch', 'fastapi', 'numpy', 'pyarrow'} & set(sys.modules)"
    for code in (service, verbs):
        subprocess.run([sys.executable, "-c", code], check=True)
