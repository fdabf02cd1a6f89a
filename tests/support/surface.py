"""What users write down and we may not change by accident: recipe keys, options, settings, routes, public names.

    python -m tests.support.surface

writes the lists anew into tests/contracts/surface/ and the service's OpenAPI document into docs/openapi.json, after a
change that is meant; the difference is what is reviewed.
"""

import ast
import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from cyclopts import App, Argument
from pydantic import BaseModel

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "contracts" / "surface"
OPENAPI = ROOT / "docs" / "openapi.json"
PARTS = ("preprocess", "trainer", "app", "interscan")


def recipe_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key of a recipe with its choices: `optim.epochs`, `encoder.norm: batch, group`.

    A table of a list has brackets, with the name that tells it from others: `phase[].epochs`,
    `objective[learner].margin`.
    """
    found: list[str] = []
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        models = list(_models(field.annotation))
        if not models:
            choices = list(_choices(field.annotation))
            found.append(f"{path}: {', '.join(choices)}" if choices else path)
        is_table = models == [field.annotation]
        for inner in models:
            tag = list(_choices(inner.model_fields["name"].annotation)) if "name" in inner.model_fields else []
            found += recipe_keys(inner, f"{path}." if is_table else f"{path}[{'|'.join(tag)}].")
    return found


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for part in get_args(annotation):
        yield from _models(part)


def _choices(annotation: Any) -> Iterator[str]:
    """The values of a Literal, also inside an optional or a mapping."""
    if get_origin(annotation) is Literal:
        for value in get_args(annotation):
            yield str(value.value if isinstance(value, Enum) else value)
    elif get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated, dict, tuple):
        for part in get_args(annotation):
            yield from _choices(part)


def command_lines(app: App) -> list[str]:
    """Every name by which an argument of a verb may be given, sub-verbs in front, and what stands for itself."""
    found = [name for name in app if name.startswith("-")]
    for path, argument in _arguments(app):
        names = list(argument.names)
        if argument.field_info.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            names.append(argument.field_info.name.upper())
        found += [f"{path} {name}" for name in names]
    return found


def _arguments(app: App, path: str = "") -> Iterator[tuple[str, Argument]]:
    """Each verb's arguments, with the verb and those above it."""
    if path and app.default_command is not None:
        yield from ((path, argument) for argument in app.assemble_argument_collection())
    for name in app:
        if not name.startswith("-"):
            yield from _arguments(app[name], f"{path} {name}".strip())


def environment(app: App) -> list[str]:
    """Variables that the service's settings, an option or a line of the source reads as interscan's own."""
    from app.settings import Settings

    found = {f"INTERSCAN_{name.upper()}" for name in Settings.model_fields}
    for _, argument in _arguments(app):
        found |= set(argument.parameter.env_var or ())
    for part in PARTS:
        for path in (ROOT / part).rglob("*.py"):
            found |= variables_in(path.read_text(encoding="utf-8"))
    return sorted(found)


def variables_in(program: str) -> set[str]:
    """Names of variables of ours that stand in a program as texts by themselves."""
    texts = (node.value for node in ast.walk(ast.parse(program)) if isinstance(node, ast.Constant))
    return {text for text in texts if isinstance(text, str) and re.fullmatch(r"INTERSCAN_[A-Z_]*[A-Z]", text)}


def routes() -> list[str]:
    """Method and path of everything that the service answers."""
    return sorted(set(_lines_of(bare_app().routes)))


def openapi_document() -> dict[str, Any]:
    """The OpenAPI document as a service without models or settings of its own answers it at /openapi.json."""
    document: dict[str, Any] = bare_app().openapi()
    return document


def as_text(document: dict[str, Any]) -> str:
    """A document as it is checked in: its own order, one entry a line, so that a difference names what changed."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def bare_app() -> Any:
    from app.main import create_app
    from app.settings import Settings

    return create_app(Settings(artefacts=(), api_keys=(), no_auth=True))


def _lines_of(found: Iterable[Any]) -> Iterator[str]:
    for route in found:
        # A router that was included is one route here, which holds the router.
        router = getattr(route, "original_router", None)
        if router is not None:
            yield from _lines_of(router.routes)
        else:
            # The page's own files may be named otherwise tomorrow.
            methods = () if route.path.startswith("/static/") else route.methods
            yield from (f"{method} {route.path}" for method in methods)


def library() -> list[str]:
    """Public names of interscan with their parameters, and those of its objectives."""
    import interscan

    found = [_spelt(name, getattr(interscan, name)) for name in interscan.__all__]
    return found + [
        _spelt(f"objectives.{name}", getattr(interscan.objectives, name)) for name in interscan.objectives.__all__
    ]


def _spelt(name: str, value: Any) -> str:
    if not inspect.isfunction(value) and not (inspect.isclass(value) and "__init__" in vars(value)):
        return name
    signature = inspect.signature(value)
    parameters = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    return f"{name}{signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)}"


def _train_recipe() -> list[str]:
    from trainer.recipe import TrainRecipe

    return recipe_keys(TrainRecipe)


def _preprocess_recipe() -> list[str]:
    from preprocess.recipe import VolumeRecipe

    return recipe_keys(VolumeRecipe)


def _command_line() -> list[str]:
    from interscan.cli import build_app

    return command_lines(build_app())


def _environment() -> list[str]:
    from interscan.cli import build_app

    return environment(build_app())


SURFACE: dict[str, Callable[[], list[str]]] = {
    "command_line": _command_line,
    "environment": _environment,
    "library": library,
    "preprocess_recipe": _preprocess_recipe,
    "routes": routes,
    "train_recipe": _train_recipe,
}
"""Each list by the name of its file."""


def file_of(name: str) -> Path:
    """Where a list is written down."""
    return FOLDER / f"{name}.txt"


def difference(written: list[str], found: list[str]) -> str:
    """What a reviewer has to see: lines that came and went; empty where none did."""
    came = [f"  + {line}" for line in found if line not in written]
    went = [f"  - {line}" for line in written if line not in found]
    return "\n".join([*went, *came])


def main() -> None:
    """Write every list and the document."""
    FOLDER.mkdir(exist_ok=True)
    OPENAPI.write_text(as_text(openapi_document()), encoding="utf-8")
    for name, collect in SURFACE.items():
        file_of(name).write_text("".join(f"{line}\n" for line in sorted(set(collect()))), encoding="utf-8")


if __name__ == "__main__":
    main()
