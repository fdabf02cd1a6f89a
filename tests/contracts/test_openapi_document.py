"""docs/openapi.json is what the service answers at /openapi.json, and says of everything in it what it is.

Who writes a client in any language reads this document: a change of the interface shows in its difference.
"""

import copy
import difflib
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from fastapi.testclient import TestClient

from tests.support.surface import OPENAPI, as_text, bare_app, openapi_document

Json = dict[str, Any]
UNIT = re.compile(
    r"\bdays?\b|\byears?\b|\bmm\b|millimetres|\bpoints\b|percent|\b0 to (1|2|100)\b|0 sure, 1 a guess|number of|"
    r"voxels|http status|from 1\b|without unit|same unit|same measure|unit that its name tells",
    re.IGNORECASE,
)
"""What says how a number counts: a unit, a range of a number without one, or that it counts or numbers things."""
LEAST_ERRORS = {
    "get": {"500"},
    "post": {"400", "401", "403", "404", "408", "413", "415", "422", "500", "502", "503", "504", "507"},
}
"""What app/errors.py and the limits of the service can answer to any request of that method."""


@pytest.fixture(scope="module")
def document() -> Json:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("INTERSCAN_")]:
            patch.delenv(name)
        return openapi_document()


def test_the_document_is_the_one_that_was_reviewed(document: Json) -> None:
    before, now = OPENAPI.read_text(encoding="utf-8"), as_text(document)
    lines = difflib.unified_diff(before.splitlines(), now.splitlines(), "docs/openapi.json", "the service", lineterm="")
    assert before == now, (
        "the interface of the service changed:\n" + "\n".join(list(lines)[:80]) + "\nPrograms in other languages are "
        "written by it. Not meant (another FastAPI or pydantic may be the cause: deploy/requirements/app.txt has those "
        "of the image)? Undo it. Meant? Run python -m tests.support.surface, commit docs/openapi.json, and write into "
        "CHANGELOG.md what callers have to change."
    )


def test_the_service_answers_this_document() -> None:
    client = TestClient(bare_app(), base_url="http://127.0.0.1:8000")
    assert client.get("/openapi.json").json() == json.loads(OPENAPI.read_text(encoding="utf-8"))


def test_it_is_a_valid_document_of_openapi_3_1(document: Json) -> None:
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    schemathesis.openapi.from_dict(document).validate()
    for name, schema in schemas_of(document):
        jsonschema_rs.meta.validate(schema)  # JSON Schema 2020-12, which OpenAPI 3.1 takes over
        assert schema["type"] == "object", name


def schemas_of(document: Json) -> Iterator[tuple[str, Json]]:
    """Every schema with properties, by a name for messages: the named ones, and those of bodies."""
    yield from document["components"]["schemas"].items()
    for path, methods in document["paths"].items():
        for operation in methods.values():
            for kind, content in operation.get("requestBody", {}).get("content", {}).items():
                yield f"{path} {kind}", content["schema"]


def undescribed(document: Json) -> list[str]:
    """Fields and schemas that say nothing of themselves."""
    found = [name for name, schema in document["components"]["schemas"].items() if not schema.get("description")]
    for name, schema in schemas_of(document):
        fields = schema.get("properties", {}).items()
        found += [f"{name}.{field}" for field, entry in fields if not entry.get("description", "").strip()]
    return found


def is_number(entry: Json) -> bool:
    """Whether a field holds a number, or several."""
    if entry.get("type") in ("number", "integer"):
        return True
    parts = [*entry.get("anyOf", ()), *entry.get("prefixItems", ())]
    parts += [entry["items"]] if isinstance(entry.get("items"), dict) else []
    return any(is_number(part) for part in parts)


def without_unit(document: Json) -> list[str]:
    """Fields that hold numbers and do not say how these count."""
    return [
        f"{name}.{field}: {entry.get('description')}"
        for name, schema in schemas_of(document)
        for field, entry in schema.get("properties", {}).items()
        if is_number(entry) and not UNIT.search(f"{field.replace('_', ' ')}: {entry.get('description', '')}")
    ]


def without_errors(document: Json) -> list[str]:
    """Routes that leave out an error they can answer, or answer one that is no problem of RFC 9457."""
    found = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            answers = operation["responses"]
            wanted = LEAST_ERRORS[method] | ({"401", "403"} if "security" in operation else set())
            found += [f"{method} {path}: no {status}" for status in sorted(wanted - set(answers))]
            for status, answer in answers.items():
                kinds = set(answer.get("content", {}))
                ready = (path, status) == ("/readyz", "503")  # says the same as its 200, of what is not ready
                if int(status) >= 400 and not ready and kinds != {"application/problem+json"}:
                    found.append(f"{method} {path} {status}: {sorted(kinds)}")
                if not answer.get("description"):
                    found.append(f"{method} {path} {status}: no description")
    return found


def test_every_schema_and_every_field_has_a_description(document: Json) -> None:
    assert undescribed(document) == []


def test_every_number_says_how_it_counts(document: Json) -> None:
    assert without_unit(document) == []


def test_every_route_documents_its_errors(document: Json) -> None:
    assert without_errors(document) == []


def test_a_document_that_is_none_would_be_seen(document: Json) -> None:
    broken = copy.deepcopy(document)
    broken["paths"]["/v1/models"]["get"]["responses"]["401"]["description"] = 3
    with pytest.raises(jsonschema_rs.ValidationError):
        schemathesis.openapi.from_dict(broken).validate()


def test_a_field_a_number_or_an_error_that_is_not_documented_would_be_seen(document: Json) -> None:
    broken = copy.deepcopy(document)
    schemas = broken["components"]["schemas"]
    del schemas["Change"]["description"]
    schemas["Change"]["properties"]["distance"]["description"] = "How far apart."
    del schemas["PairedScan"]["properties"]["sha256"]["description"]
    form = broken["paths"]["/v1/progression"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    form["properties"]["age"] = {"anyOf": [{"type": "number"}, {"type": "null"}], "description": "How old."}
    del broken["paths"]["/v1/progression"]["post"]["responses"]["504"]
    broken["paths"]["/v1/models"]["get"]["responses"]["401"]["content"] = {"application/json": {}}

    assert undescribed(broken) == ["Change", "PairedScan.sha256"]
    assert without_unit(broken) == [
        "Change.distance: How far apart.", "/v1/progression multipart/form-data.age: How old."
    ]  # fmt: skip
    assert without_errors(broken) == ["post /v1/progression: no 504", "get /v1/models 401: ['application/json']"]
