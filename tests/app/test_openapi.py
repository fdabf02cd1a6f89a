"""The OpenAPI text against what the service really takes and answers."""

from typing import Any

import pytest

from app import model_schemas, schemas, trajectory_schemas
from app.schemas import UriPair, UriScan
from app.trajectory_schemas import UriTrajectory
from tests.support.artefacts import decision_part, write_artefact
from tests.support.heads import head_nifti
from tests.support.service import post_pair, running

SCAN = head_nifti()


@pytest.fixture(scope="module")
def schema(client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").json()
    return found


def assert_documented(schema: dict[str, Any], response: Any, method: str, path: str) -> None:
    """The status and the media type are listed, and the content is what the schema they name takes."""
    answers = schema["paths"][path][method]["responses"]
    kind = response.headers["content-type"].partition(";")[0]
    assert str(response.status_code) in answers
    content = answers[str(response.status_code)]["content"]
    assert kind in content
    name = content[kind]["schema"]["$ref"].rsplit("/", 1)[1]
    home = next(one for one in (trajectory_schemas, model_schemas, schemas) if hasattr(one, name))
    getattr(home, name).model_validate_json(response.text)
    known = schema["components"]["schemas"][name]
    assert set(known.get("required", ())) <= set(response.json()) <= set(known["properties"])


def test_every_reference_leads_somewhere(schema):
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            target = node.get("$ref")
            if isinstance(target, str):
                part_of_schema: Any = schema
                for part in target.removeprefix("#/").split("/"):
                    part_of_schema = part_of_schema[part]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(schema)
    assert schema["openapi"].startswith("3.1")


@pytest.mark.parametrize(
    ("path", "parts", "by_uri"),
    [("/v1/embeddings", {"scan"}, UriScan), ("/v1/progression", {"earlier", "later"}, UriPair)],
)
def test_both_content_types_are_documented_with_their_fields(schema, path, parts, by_uri):
    content = schema["paths"][path]["post"]["requestBody"]["content"]

    assert set(content) == {"multipart/form-data", "application/json"}
    form = content["multipart/form-data"]["schema"]
    assert set(form["required"]) == parts
    assert all(form["properties"][part]["format"] == "binary" for part in parts)
    assert {"model", "version"} < set(form["properties"])
    for example in content["application/json"]["schema"]["examples"]:
        by_uri.model_validate(example)


def test_a_trajectory_takes_several_files_and_as_many_days_either_way(schema):
    content = schema["paths"]["/v1/trajectories"]["post"]["requestBody"]["content"]

    form = content["multipart/form-data"]["schema"]
    assert set(form["required"]) == {"scans", "days"}
    scans, days = form["properties"]["scans"], form["properties"]["days"]
    assert (scans["type"], scans["items"]["format"]) == ("array", "binary")
    assert (scans["minItems"], scans["maxItems"]) == (days["minItems"], days["maxItems"]) == (2, 16)
    as_json = content["application/json"]["schema"]
    assert set(as_json["required"]) == {"uris", "days"}
    for example in as_json["examples"]:
        UriTrajectory.model_validate(example)


def test_a_trajectory_s_answer_and_refusals_fit_their_documentation(tmp_path, schema):
    path, days = "/v1/trajectories", {"days": "0,365"}
    files = [("scans", ("x", SCAN)), ("scans", ("y", head_nifti(30)))]
    folder = write_artefact(tmp_path / "line" / "1", decision=decision_part(), judges=True)
    with running(folder) as client:
        responses = [
            client.post(path, files=files, data=days),
            client.post(path, files=files, data=days | {"model": "other"}),
            client.post(path, files=files[:1], data=days),
            client.post(path, content=b"x"),
        ]
    for response in responses:
        assert_documented(schema, response, "post", path)
    assert [response.status_code for response in responses] == [200, 404, 422, 415]


def test_every_kind_of_answer_fits_its_documentation(client, schema):
    embeddings, progression = "/v1/embeddings", "/v1/progression"
    responses = [
        (post_pair(client, SCAN, head_nifti(30)), "post", progression),
        (post_pair(client, SCAN, b"<html>"), "post", progression),
        (post_pair(client, SCAN, SCAN, model="other"), "post", progression),
        (post_pair(client, SCAN, SCAN, gap_days="x"), "post", progression),
        (client.post(progression, json={"earlier_uri": "/etc/a", "later_uri": "/etc/b"}), "post", progression),
        (client.post(progression, content=b"x"), "post", progression),
        (client.post(embeddings, files={"scan": ("x", SCAN)}), "post", embeddings),
        (client.post(embeddings, json={"uri": "x" * 10**5}), "post", embeddings),
        (client.post(embeddings, content=b"x", headers={"content-type": "multipart/form-data"}), "post", embeddings),
        (client.get("/v1/models"), "get", "/v1/models"),
        (client.get("/livez"), "get", "/livez"),
        (client.get("/readyz"), "get", "/readyz"),
    ]
    for response, method, path in responses:
        assert_documented(schema, response, method, path)
    assert {response.status_code for response, _, _ in responses} == {200, 400, 403, 404, 413, 415, 422}


def test_the_answers_of_a_locked_and_of_an_unready_service_fit_too(artefact, schema):
    with running(artefact, api_keys=("k" * 20,)) as locked:
        assert_documented(schema, locked.get("/v1/models"), "get", "/v1/models")
    with running() as empty:
        assert_documented(schema, empty.get("/readyz"), "get", "/readyz")
        assert_documented(schema, post_pair(empty, SCAN, SCAN), "post", "/v1/progression")
