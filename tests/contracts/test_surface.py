"""What users write down does not change by accident: each list in tests/contracts/surface/ is what the code has."""

import os
from typing import Annotated, Literal

import pytest
from cyclopts import App, Parameter
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field

from app.main import create_app
from app.settings import Settings
from tests.support.surface import (
    SURFACE,
    command_lines,
    difference,
    environment,
    file_of,
    recipe_keys,
    variables_in,
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("INTERSCAN_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize("name", sorted(SURFACE))
def test_the_surface_is_the_one_that_was_reviewed(name: str) -> None:
    written = file_of(name).read_text(encoding="utf-8").splitlines()
    changed = difference(written, sorted(set(SURFACE[name]())))
    assert not changed, (
        f"the {name.replace('_', ' ')} changed:\n{changed}\n"
        "People's recipes, scripts and programs hold these. Not meant? Undo it. Meant? Run "
        "python -m tests.support.surface, commit the change of "
        f"tests/contracts/surface/{name}.txt, and write into CHANGELOG.md what users have to change."
    )


def test_no_list_is_left_over_or_empty() -> None:
    folder = file_of("any").parent
    assert {path.name for path in folder.iterdir()} == {f"{name}.txt" for name in SURFACE}
    for name in SURFACE:
        assert len(file_of(name).read_text(encoding="utf-8").splitlines()) > 10


def test_a_line_that_came_and_one_that_went_are_both_shown() -> None:
    assert difference(["a", "b"], ["b", "c"]) == "  - a\n  + c"
    assert difference(["a", "b"], ["b", "a"]) == ""


class Deep(BaseModel):
    """A table in a table."""

    width: int = 1


class Left(BaseModel):
    """One of two tables that are told apart by name."""

    name: Literal["left"]
    deep: Deep = Deep()


class Right(BaseModel):
    """The other one."""

    name: Literal["right"]


class Whole(BaseModel):
    """A recipe with every form of key that recipes have."""

    plain: tuple[int, int] = (1, 2)
    choice: Literal["a", "b"] | None = None
    mapped: dict[str, Literal["c", "d"]] = Field(default_factory=dict)
    table: Deep = Deep()
    sides: tuple[Annotated[Left | Right, Field(discriminator="name")], ...] = ()


def test_keys_are_found_at_every_depth_with_their_choices() -> None:
    assert recipe_keys(Whole) == [
        "plain",
        "choice: a, b",
        "mapped: c, d",
        "table.width",
        "sides[left].name: left",
        "sides[left].deep.width",
        "sides[right].name: right",
    ]


def small_app() -> App:
    app = App(name="small")
    group = App(name="make")
    app.command(group)

    @group.command(name="head")
    def head(out: str, *, dry: bool = False, key: Annotated[str, Parameter(env_var="SMALL_KEY")] = "") -> None:
        """Make a head."""

    @app.command(name="show")
    def show(*, many: Annotated[tuple[str, ...], Parameter(negative="")] = ()) -> None:
        """Show it."""

    return app


def test_verbs_sub_verbs_options_and_their_negations_are_found() -> None:
    assert sorted(command_lines(small_app())) == [
        "--help",
        "--version",
        "-h",
        "make head --dry",
        "make head --key",
        "make head --no-dry",
        "make head --out",
        "make head OUT",
        "show --many",
    ]


def test_variables_of_sub_verbs_and_of_the_source_are_found() -> None:
    assert {"SMALL_KEY", "INTERSCAN_SHARDS", "INTERSCAN_API_KEYS"} <= set(environment(small_app()))
    assert variables_in('"""INTERSCAN_TOLD in a sentence."""\nos.environ["INTERSCAN_READ"]\n') == {"INTERSCAN_READ"}


def test_no_switch_has_an_opposite_and_no_list_an_option_that_empties_it() -> None:
    """Cyclopts adds --no-X and --empty-X by itself; both do nothing where a switch is off and a list empty already."""
    options = set(file_of("command_line").read_text(encoding="utf-8").splitlines())
    opposites = [
        one for one in options for word in ("no", "empty") if one.replace(f"--{word}-", "--") in options - {one}
    ]
    assert opposites == []


@pytest.mark.parametrize("line", file_of("routes").read_text(encoding="utf-8").splitlines())
def test_every_listed_route_is_there(line: str) -> None:
    method, path = line.split()
    # Without its lifespan nothing is loaded: a route that is there answers that it is not ready, or for what it lacks.
    client = TestClient(create_app(Settings()), base_url="http://127.0.0.1:8000", raise_server_exceptions=False)
    assert client.request(method, path).status_code not in (404, 405)
