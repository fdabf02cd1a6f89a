"""Every error is a problem document, also those the framework makes."""

import pytest
from pydantic import ValidationError

from app.errors import invalid_request
from app.schemas import UriScan
from tests.support.service import assert_problem


def test_a_path_that_is_not_there_and_a_wrong_method_are_problems(client):
    assert_problem(client.get("/v2/nothing"), 404, "no_such_path")
    wrong = client.get("/v1/progression")
    assert_problem(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


def test_a_crash_is_a_problem_without_its_text_and_the_log_holds_the_frames_only(client, monkeypatch, caplog):
    def crash(*_: object) -> None:
        raise KeyError("SMITH^ANNA in /srv/secret")

    monkeypatch.setattr("app.registry.Registry.choose", crash)
    with caplog.at_level("INFO"):
        response = client.post("/v1/embeddings", files={"scan": ("x", b"x")}, headers={"X-Request-ID": "abc-1"})

    problem = assert_problem(response, 500, "internal")
    assert problem["request_id"] == "abc-1"
    assert response.headers.get_list("x-request-id") == ["abc-1"]
    assert "request abc-1 failed: KeyError" in caplog.text
    assert "routes/embeddings.py" in caplog.text
    assert "POST /v1/embeddings 500" in caplog.text
    assert "SMITH" not in response.text + caplog.text


def test_wrong_fields_are_named_without_what_they_held():
    with pytest.raises(ValidationError) as caught:
        UriScan.model_validate({"uri": 3, "secret": "SMITH^ANNA"})

    problem = invalid_request(caught.value, ("uri", "model"))

    assert problem.status == 422
    assert [fault.field for fault in problem.faults] == ["uri", "body"]
    assert problem.faults[1].message == "1 field is not known; the known ones are model, uri"
    assert "SMITH" not in problem.detail
    assert "secret" not in problem.detail
