"""The locked requirements of the images hold what pyproject.toml asks for, with hashes, and nothing of torch's."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.deployment import DEPLOY, ROOT

FOLDER = DEPLOY / "requirements"
EXTRAS = {"app": ("serve", "dicom"), "trainer": ("train",), "preprocess": ("dicom", "video")}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def locked(target: str) -> dict[str, str]:
    """Versions by name."""
    text = (FOLDER / f"{target}.txt").read_text(encoding="utf-8")
    return {
        canonicalize_name(name): version for name, version in re.findall(r"(?m)^([A-Za-z0-9._-]+)==([^ ;\\]+)", text)
    }


def wanted(target: str) -> list[Requirement]:
    lines = [
        *PROJECT["dependencies"],
        *(line for extra in EXTRAS[target] for line in PROJECT["optional-dependencies"][extra]),
    ]
    return [requirement for requirement in map(Requirement, lines) if requirement.name != "torch"]


@pytest.mark.parametrize("target", EXTRAS)
def test_a_lock_holds_a_fitting_version_of_everything_that_is_asked_for(target: str) -> None:
    versions = locked(target)
    for requirement in wanted(target):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)], prereleases=True), (
            requirement
        )


@pytest.mark.parametrize("target", EXTRAS)
def test_a_lock_is_closed(target: str) -> None:
    """What the locked packages ask for is locked too, as far as the same packages are installed here."""
    versions = locked(target)
    for name in versions:
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for need in map(Requirement, needs):
            if need.marker is None or need.marker.evaluate(
                {"extra": "", "python_version": "3.11", "python_full_version": "3.11.2"}
            ):
                assert canonicalize_name(need.name) in {*versions, "torch"}, f"{name} needs {need.name}"


@pytest.mark.parametrize("target", [*EXTRAS, "build"])
def test_every_file_of_a_lock_has_a_hash(target: str) -> None:
    text = (FOLDER / f"{target}.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(lines) == len(locked(target))
    for line in lines:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", line), line


@pytest.mark.parametrize("target", EXTRAS)
def test_a_lock_leaves_torch_and_its_cuda_libraries_to_the_index_of_the_machine(target: str) -> None:
    assert not [name for name in locked(target) if re.match(r"torch$|triton$|nvidia-|cuda-", name)]


def test_the_torch_of_the_images_is_the_one_that_is_tested() -> None:
    pinned = re.search(r"(?m)^torch==(.*)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"))
    built = re.search(r"(?m)^ARG TORCH=(.*)$", (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert pinned is not None
    assert built is not None
    assert pinned[1] == built[1]


def test_the_core_asks_for_nothing_that_only_training_or_serving_needs() -> None:
    core = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    heavy = {"scikit-learn", "matplotlib", "umap-learn", "tensorboard", "fastapi", "uvicorn", "numba", "pandas"}
    assert core & heavy == set()
    for name in ("umap-learn", "numba", "scikit-learn", "matplotlib", "tensorboard"):
        assert name not in locked("app")
        assert name not in locked("preprocess")


def test_extras_exist_under_the_names_that_are_documented() -> None:
    assert {"train", "serve", "video", "dicom", "s3"} <= set(PROJECT["optional-dependencies"])


def test_the_lock_script_knows_the_same_targets() -> None:
    text = Path(FOLDER / "lock.py").read_text(encoding="utf-8")
    for target, extras in EXTRAS.items():
        assert re.search(rf'"{target}": \({", ".join(repr(extra).replace(chr(39), chr(34)) for extra in extras)}', text)
