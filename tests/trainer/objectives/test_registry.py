"""Every objective is found by its name; nothing else names one; a new one is a file and a line."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pydantic
import pytest
import torch

from tests.support.cohorts import default_scans, recipe_toml, tiny_recipe, write_store
from trainer.objectives.base import Term
from trainer.objectives.learner import Learner
from trainer.objectives.registry import METHODS, TERMS, AnyTerm
from trainer.objectives.supremix import SupReMix

ROOT = Path(__file__).resolve().parents[3]
OBJECTIVES = ROOT / "trainer" / "objectives"
ADAPTER: pydantic.TypeAdapter[Term] = pydantic.TypeAdapter(AnyTerm)


def name_of(kind: type[Term]) -> str:
    return str(get_args(kind.model_fields["name"].annotation)[0])


@pytest.mark.parametrize("kind", TERMS, ids=name_of)
def test_a_name_alone_makes_the_term_with_its_defaults(kind: type[Term]) -> None:
    term = ADAPTER.validate_python({"name": name_of(kind)})
    assert type(term) is kind
    assert term == kind()
    assert term.weight == 1.0


@pytest.mark.parametrize("kind", TERMS, ids=name_of)
def test_weight_and_temperature_are_above_zero(kind: type[Term]) -> None:
    for setting in {"weight", "temperature"} & kind.model_fields.keys():
        with pytest.raises(pydantic.ValidationError, match="greater than 0"):
            ADAPTER.validate_python({"name": name_of(kind), setting: 0.0})


def test_names_are_unique_and_what_learns_from_scores_says_so() -> None:
    names = [name_of(kind) for kind in TERMS]
    assert len(set(names)) == len(names)
    without = {name for name, kind in zip(names, TERMS, strict=True) if not kind.needs_scores}
    assert {"info_nce", "nt_xent", "chrono_contrast"} <= without
    assert Learner.needs_scores
    assert SupReMix.needs_views


def test_every_file_of_the_folder_that_has_objectives_is_registered() -> None:
    files = {path.stem for path in OBJECTIVES.glob("*.py")}
    assert set(METHODS) == files - {"__init__", "base", "registry", "terms"}


def test_nothing_of_the_trainer_but_the_methods_own_files_names_an_objective() -> None:
    names = {name_of(kind) for kind in TERMS}
    modules = {f"trainer.objectives.{method}" for method in METHODS}
    found = []
    for path in sorted((ROOT / "trainer").rglob("*.py")):
        if OBJECTIVES in path.parents:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names_one = isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in names
            if names_one or (isinstance(node, ast.ImportFrom) and node.module in modules):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert not found


def example() -> str:
    """The whole file that CONTRIBUTING.md shows under "A new method"."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = re.search(r"^   ```python\n(.*?)^   ```$", page.partition("## A new method")[2], re.DOTALL | re.MULTILINE)
    assert block is not None
    return "\n".join(line.removeprefix("   ") for line in block[1].splitlines()) + "\n"


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the trainer with the method of CONTRIBUTING.md: one file and one line more."""
    folder = tmp_path_factory.mktemp("grown")
    objectives = shutil.copytree(ROOT / "trainer", folder / "trainer") / "objectives"
    (objectives / "shrink.py").write_text(example(), encoding="utf-8")
    registry = objectives / "registry.py"
    lines = registry.read_text(encoding="utf-8").splitlines(keepends=True)
    at = lines.index("METHODS = (\n")
    registry.write_text("".join([*lines[: at + 1], '    "shrink",\n', *lines[at + 1 :]]), encoding="utf-8")
    return folder


def run_python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_new_method_is_one_file_and_one_line(grown: Path, tmp_path: Path) -> None:
    write_store(tmp_path / "store", default_scans(num_subjects=10, odd=False))
    recipe = tmp_path / "mine.toml"
    recipe.write_text(recipe_toml(tiny_recipe(data={"sampling": "scans"})), encoding="utf-8")
    objective = 'objective=[{name="shrink", radius=0.5, weight=2.0}]'
    done = run_python(
        grown, "-m", "interscan", "train", str(recipe), "--store", str(tmp_path / "store"),
        "--run", str(tmp_path / "run"), "--set", objective, "--set", "checkpoint.best=shrink", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    # The only objective: the loss is its value, twice.
    assert result["last_epoch"]["loss"] == pytest.approx(2.0 * result["last_epoch"]["shrink"], rel=1e-6)
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["recipe"]["objective"]
    assert recorded == [{"weight": 2.0, "name": "shrink", "radius": 0.5, "num_scans": 2}]
    (model,) = (tmp_path / "run").glob("model*.pt")
    anchor = torch.load(model, weights_only=True)["anchor_E"]
    assert anchor.shape == (8,)
    assert bool(anchor.any())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("objective.0.radius=0", "objective.0.radius: input should be greater than 0 (got 0)"),
        ("objective.0.radios=1", "unknown key 'objective.0.radios'; did you mean 'radius'?"),
        ("objective.0.name=shrnk", "unknown name 'shrnk'; did you mean 'shrink'?"),
        ("data.sampling=pairs", "shrink looks at single scans, data.sampling is 'pairs'; set data.sampling = 'scans'"),
        ("checkpoint.best=shrunk", "checkpoint.best is 'shrunk' and the objectives are shrink"),
    ],
)
def test_its_wrong_settings_are_refused_as_those_of_any_other(grown: Path, setting: str, message: str) -> None:
    (grown / "mine.toml").write_text('name = "mine"\n[data]\nsampling = "scans"\n[[objective]]\nname = "shrink"\n')
    program = f"from trainer.recipe import load_recipe; load_recipe('mine.toml', ({setting!r},))"
    done = run_python(grown, "-c", program)
    assert "UsageError: mine.toml: " in done.stderr.splitlines()[-1]
    assert message in done.stderr.splitlines()[-1]
