"""What OpenAPI cannot learn from signatures: the two content types of one body, and problems as error answers."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.errors import PROBLEM_JSON
from app.schemas import Problem

Json = dict[str, Any]

_REASONS = {
    400: "Broken multipart body.",
    401: "No valid key.",
    403: "A URI outside the allowed prefixes, or a server without keys reached from elsewhere.",
    404: "No such model or version.",
    408: "The body stood still, or came slower than 16 KiB/s.",
    413: "A scan or body larger than the limit.",
    415: "Neither multipart/form-data nor application/json.",
    422: "A wrong field, a model of another kind, or a scan that cannot be used; `code` and `findings` say why.",
    500: "The service failed.",
    502: "The storage behind a URI refused or could not be reached.",
    503: "Models are not ready, all places are taken, the deadline passed, or the service stops; see Retry-After.",
    504: "The storage behind a URI did not deliver in time.",
    507: "No room on the service's disk for a scan.",
}
_REF = {"$ref": "#/components/schemas/Problem"}


def problem_responses(*statuses: int) -> dict[int | str, Json]:
    """The error answers of a route."""
    content = {PROBLEM_JSON: {"schema": _REF}}
    return {status: {"description": _REASONS[status], "content": content} for status in statuses}


def request_body(
    parts: Mapping[str, str],
    fields: type[BaseModel],
    by_uri: type[BaseModel],
    *,
    several: tuple[int, int] | None = None,
) -> Json:
    """A body that is either an upload or JSON.

    Args:
        parts: description of each uploaded file, by part name.
        fields: model of the text fields beside them.
        by_uri: model of the JSON object.
        several: least and most files of each part; None for exactly one.
    """
    texts = fields.model_json_schema()
    files = {name: _file_schema(description, several) for name, description in parts.items()}
    form = {
        "type": "object",
        "required": [*parts, *texts.get("required", ())],
        "properties": files | texts["properties"],
        "additionalProperties": False,
    }
    return {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": form},
            "application/json": {"schema": by_uri.model_json_schema()},
        },
    }


def _file_schema(description: str, several: tuple[int, int] | None) -> Json:
    if several is None:
        return {"type": "string", "format": "binary", "description": description}
    file = {"type": "string", "format": "binary"}
    return {"type": "array", "items": file, "minItems": several[0], "maxItems": several[1], "description": description}


def install_openapi(app: FastAPI) -> None:
    """Add the problem schema, which no route names as its answer, to the application's OpenAPI text."""
    build = app.openapi

    def openapi() -> Json:
        schema = build()
        _, problem = models_json_schema([(Problem, "serialization")], ref_template="#/components/schemas/{model}")
        schema["components"]["schemas"].update(problem["$defs"])
        return schema

    app.openapi = openapi  # type: ignore[method-assign]
