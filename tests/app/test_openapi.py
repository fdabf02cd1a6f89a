"""The OpenAPI text against what the service really takes and answers."""

from typing import Any

import pytest

from app import schemas
from app.schemas import UriPair, UriScan
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
    getattr(schemas, name).model_validate_json(response.text)
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


def test_every_field_of_the_progression_answer_is_described_or_named_by_a_described_schema(schema):
    undescribed = [
        name
        for name, entry in schema["components"]["schemas"]["ProgressionAnswer"]["properties"].items()
        if not ("description" in entry or "$ref" in entry)
    ]

    assert undescribed == ["gap_days"]
