"""/livez, /readyz and /metrics as a probe sees them."""

import threading

import pytest
import torch
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app import registry
from app.main import create_app
from app.settings import make_settings
from tests.support.artefacts import write_artefact
from tests.support.heads import head_nifti
from tests.support.service import assert_problem, post_pair, running


def test_a_good_artefact_makes_the_service_ready(client):
    response = client.get("/readyz")

    assert response.status_code == 200
    ready = response.json()
    assert ready.pop("threads") == torch.get_num_threads()
    assert ready == {
        "status": "ready",
        "artefacts": [{"artefact": "tiny/1", "status": "ready"}],
        "decoders": "ready",
    }


def test_while_loading_the_service_is_alive_but_not_ready(artefact, monkeypatch):
    may_load = threading.Event()
    load = registry.load_artefact
    monkeypatch.setattr(registry, "load_artefact", lambda uri: (may_load.wait(30), load(uri))[1])
    app = create_app(make_settings(artefacts=(str(artefact),)))
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 503
        problem = assert_problem(post_pair(client, head_nifti(), head_nifti()), 503, "not_ready")
        assert "being loaded" in problem["detail"]
        may_load.set()
        assert app.state.service.registry.finished.wait(30)
        assert client.get("/readyz").status_code == 200


def test_a_failed_artefact_keeps_the_service_unready_and_says_which_and_why(artefact, tmp_path):
    broken = write_artefact(tmp_path / "broken" / "7", name="broken", golden_shift=0.1)
    with running(broken, artefact) as client:
        response = client.get("/readyz")
        default = post_pair(client, head_nifti(), head_nifti())
        named = post_pair(client, head_nifti(), head_nifti(), model="tiny")

    assert response.status_code == 503
    first, second = response.json()["artefacts"]
    assert (first["artefact"], first["status"]) == ("broken/7", "failed")
    assert "differs from the exported values" in first["reason"]
    assert second["status"] == "ready"
    assert str(tmp_path) not in response.text
    assert "broken/7" in assert_problem(default, 503, "not_ready")["detail"]
    assert named.status_code == 200


def test_a_service_without_artefacts_is_never_ready():
    with running() as client:
        assert client.get("/readyz").status_code == 503
        assert_problem(post_pair(client, head_nifti(), head_nifti()), 503, "not_ready")


def test_metrics_count_requests_by_route_and_status(artefact):
    with running(artefact) as client:
        post_pair(client, head_nifti(), head_nifti())
        client.get("/livez")
        client.get("/nothing/here")
        text = client.get("/metrics").text

    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    name = "interscan_requests_total"
    assert samples[name, ("method", "POST"), ("route", "/v1/progression"), ("status", "200")] == 1
    assert samples[name, ("method", "GET"), ("route", "/livez"), ("status", "200")] == 1
    assert samples[name, ("method", "GET"), ("route", "other"), ("status", "404")] == 1
    assert samples["interscan_request_seconds_count", ("route", "/v1/progression")] == 1
    assert samples["interscan_models_ready",] == 1
    assert "nothing" not in text


def test_two_applications_keep_their_metrics_apart(artefact):
    with running(artefact) as first, running(artefact) as second:
        first.get("/livez")
        assert 'route="/livez"' in first.get("/metrics").text
        assert 'route="/livez"' not in second.get("/metrics").text


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics"])
def test_probes_need_no_key(artefact, path):
    with running(artefact, api_keys=("k" * 20,)) as client:
        assert client.get(path).status_code == 200
