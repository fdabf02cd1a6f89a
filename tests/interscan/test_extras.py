"""A verb whose extra is not installed says which one, in one line; modules of no extra stay defects."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from interscan.extras import _EXTRAS, missing_extra

BLOCKED = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from interscan.cli import run
sys.exit(run({arguments!r}))
"""


@pytest.mark.parametrize(
    ("extra", "arguments"),
    [
        ("train", ["evaluate", "nowhere"]),
        ("train", ["train", "demo", "--store", "nowhere", "--run", "elsewhere"]),
        ("serve", ["serve", "nowhere"]),
        ("serve", ["predict", "nowhere", "a.nii", "b.nii"]),
    ],
)
def test_a_verb_names_its_extra(tmp_path: Path, extra: str, arguments: list[str]) -> None:
    code = BLOCKED.format(names=set(_EXTRAS[extra]), arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"pip install 'interscan[{extra}]'" in done.stderr


@pytest.mark.parametrize("verb", ["--help", "--version", "verify"])
def test_what_needs_no_extra_runs_without_any(tmp_path: Path, verb: str) -> None:
    names = {module for extra in ("train", "serve", "dicom", "video", "s3") for module in _EXTRAS[extra]}
    arguments = [verb] if verb.startswith("-") else [verb, str(tmp_path)]
    code = BLOCKED.format(names=names, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == (3 if verb == "verify" else 0), done.stderr
    assert "pip install" not in done.stderr


def test_every_module_comes_with_the_extra_that_is_named() -> None:
    distributions = importlib.metadata.packages_distributions()
    declared: dict[str, set[str]] = {}
    for line in importlib.metadata.requires("interscan") or []:
        requirement = Requirement(line)
        for extra in _EXTRAS:
            if requirement.marker is not None and requirement.marker.evaluate({"extra": extra}):
                declared.setdefault(extra, set()).add(canonicalize_name(requirement.name))
    for extra, modules in _EXTRAS.items():
        for module in set(modules) - {"starlette"}:  # FastAPI's own
            names = {canonicalize_name(name) for name in distributions.get(module, [])}
            assert not names or names & declared[extra], module


def test_a_module_of_no_extra_is_no_advice() -> None:
    assert missing_extra("numpy.typing") == ""
    assert missing_extra(None) == ""
