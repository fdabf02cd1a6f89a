"""docs/recipes.md and docs/operations.md list every key and setting with its default, and nothing that is not there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from app.settings import Settings
from preprocess.recipe import VolumeRecipe
from tests.support.surface import SURFACE, file_of
from trainer.objectives.registry import TERMS
from trainer.recipe import PhaseRecipe, TrainRecipe

DOCS = Path(__file__).resolve().parents[2] / "docs"
ELSEWHERE = {"INTERSCAN_DEIDENTIFY_KEY", "INTERSCAN_REVISION", "INTERSCAN_SHARDS", "PORT"}
"""Variables that no setting of the service is made of."""


def rows_of(page: str) -> list[list[str]]:
    """Cells of the table rows whose first cell is one name in code."""
    rows = [line.strip("|").split(" | ") for line in page.splitlines() if re.match(r"\| `[^`]+` \|", line)]
    return [[cell.strip() for cell in row] for row in rows]


def section_of(page: str, heading: str) -> str:
    """What stands between a heading of the second level and the next one."""
    return page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


PAGE = (DOCS / "recipes.md").read_text(encoding="utf-8")
PREPROCESSING, TRAINING = (rows_of(section_of(PAGE, name)) for name in ("Preprocessing", "Training"))
SETTINGS = rows_of(section_of((DOCS / "operations.md").read_text(encoding="utf-8"), "Settings"))


def keys_in(name: str) -> set[str]:
    """Keys of a surface list as the page spells them: objectives once, and what all of them have without their name."""
    keys = {line.partition(":")[0] for line in file_of(name).read_text(encoding="utf-8").splitlines()}
    keys = {re.sub(r"^phase\[\]\.objective\[.*", "phase[].objective", key) for key in keys}
    return {re.sub(r"^objective\[\w+\]\.(name|weight)$", r"objective[].\1", key) for key in keys}


def written(default: Any) -> str:
    """A default as the page has it: in TOML, or in words where TOML has none."""
    if default is None:
        return "none"
    text = json.dumps(list(default) if isinstance(default, tuple) else default)
    return f"`{text}`"


def defaults_of(model: type[BaseModel], given: BaseModel | None = None, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Each key with its default, where `given` holds the defaults of a table."""
    for name, field in model.model_fields.items():
        default = getattr(given, name) if given is not None else field.get_default(call_default_factory=True)
        if given is None and field.is_required():
            yield prefix + name, "required"
        elif isinstance(default, BaseModel):
            yield from defaults_of(type(default), default, f"{prefix}{name}.")
        else:
            yield prefix + name, written(default)


def train_defaults() -> dict[str, str]:
    found = dict(defaults_of(TrainRecipe)) | dict(defaults_of(PhaseRecipe, prefix="phase[]."))
    for term in TERMS:
        name = term.model_fields["name"].default
        own = dict(defaults_of(term, prefix=f"objective[{name}]."))
        assert own.pop(f"objective[{name}].weight") == "`1.0`", "the page has one line for all weights"
        del own[f"objective[{name}].name"]
        found |= own
    del found["objective"], found["phase"]
    return found | {"objective[].name": "required", "objective[].weight": "`1.0`"}


@pytest.mark.parametrize(
    ("rows", "surface"), [(PREPROCESSING, "preprocess_recipe"), (TRAINING, "train_recipe")], ids=["preprocess", "train"]
)
def test_every_key_of_a_recipe_stands_on_the_page_once_and_no_other(rows: list[list[str]], surface: str) -> None:
    on_page = [row[0].strip("` ") for row in rows]
    assert set(on_page) == keys_in(surface)
    assert len(on_page) == len(set(on_page))


@pytest.mark.parametrize(
    ("rows", "defaults"),
    [(PREPROCESSING, dict(defaults_of(VolumeRecipe))), (TRAINING, train_defaults())],
    ids=["preprocess", "train"],
)
def test_every_default_is_that_of_the_code(rows: list[list[str]], defaults: dict[str, str]) -> None:
    assert {row[0].strip("` "): row[1] for row in rows} == defaults


@pytest.mark.parametrize("rows", [PREPROCESSING, TRAINING], ids=["preprocess", "train"])
def test_every_key_has_a_sentence_that_says_when_to_change_it(rows: list[list[str]]) -> None:
    assert all(len(row) == 4 and row[3].endswith(".") for row in rows), [row for row in rows if len(row) != 4]


def test_every_setting_stands_in_operations_once_with_its_default() -> None:
    on_page = [row[0].strip("` ") for row in SETTINGS]
    assert sorted(on_page) == sorted(SURFACE["environment"]())
    defaults = dict(defaults_of(Settings))
    named = {row[0].strip("` "): row[2] for row in SETTINGS}
    for variable in set(on_page) - ELSEWHERE:
        assert named[variable] == defaults[variable.removeprefix("INTERSCAN_").lower()], variable
    assert all(len(row) == 5 and row[4].endswith(".") for row in SETTINGS)
