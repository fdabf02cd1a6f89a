"""The synthetic cohorts that methods are compared on, made once into a folder; sizes fixed before any comparison."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from interscan.synthetic.brain.cohort import write_brain_cohort
from interscan.synthetic.connectome.cohort import write_connectome_cohort
from interscan.synthetic.eyes.cohort import write_severity_cohort
from preprocess.engine import preprocess
from preprocess.recipe import ImageRecipe, VolumeRecipe
from preprocess.store import Store

_SEED = 2026
NUM_SUBJECTS = {"brain": 120, "severity": 120, "connectome-complete": 240, "connectome-missing": 240}
QUICK_SUBJECTS = {"brain": 20, "severity": 40, "connectome-complete": 40, "connectome-missing": 40}
"""Subjects of each cohort, all of whom have the score; the tiny cohorts of `--quick` have fewer."""


def open_cohort(name: str, folder: Path, *, quick: bool) -> Store:
    """The store of a cohort, made if it is not there.

    Args:
        name: `brain`, `severity`, `connectome-complete` or `connectome-missing`.
        folder: where raw files and stores lie.
        quick: a tiny cohort.
    """
    kept = folder / f"{name}{'-quick' if quick else ''}"
    store = kept / "store"
    if not (store / "store.json").exists():
        num_subjects = (QUICK_SUBJECTS if quick else NUM_SUBJECTS)[name]
        _MAKERS[name](kept, num_subjects, quick)
    return Store.open(str(store))


def _brain(folder: Path, num_subjects: int, quick: bool) -> None:
    write_brain_cohort(
        folder / "raw", num_subjects=num_subjects, num_visits=3 if quick else 4, seed=_SEED,
        spacing_mm=3.5 if quick else 3.0, ageing=True,
    )  # fmt: skip
    edge = 24 if quick else 48
    recipe = VolumeRecipe(grid=(edge, edge, edge), spacing_mm=192 / edge)
    preprocess(str(folder / "raw"), str(folder / "store"), recipe)


def _severity(folder: Path, num_subjects: int, quick: bool) -> None:
    write_severity_cohort(folder / "raw", num_subjects=num_subjects, seed=_SEED, balanced=True)
    edge = 32 if quick else 128
    recipe = VolumeRecipe(
        modalities=("fundus",), kinds={"fundus": "image"}, image=ImageRecipe(size=(edge, edge), channels=3)
    )
    preprocess(str(folder / "raw" / "scans.csv"), str(folder / "store"), recipe)


def _connectome(folder: Path, num_subjects: int, quick: bool, missing: float) -> None:  # noqa: ARG001 - as the others
    write_connectome_cohort(folder / "raw", num_subjects=num_subjects, seed=_SEED, missing=missing)
    kinds = dict.fromkeys(("SC", "FC", "radiomics", "clinical"), "array")
    recipe = VolumeRecipe.model_validate(
        {"modalities": (*kinds, "T2"), "kinds": kinds, "grid": (32, 32, 32), "spacing_mm": 6.0}
    )
    preprocess(str(folder / "raw" / "scans.csv"), str(folder / "store"), recipe)


_MAKERS: dict[str, Callable[[Path, int, bool], None]] = {
    "brain": _brain,
    "severity": _severity,
    "connectome-complete": partial(_connectome, missing=0.0),
    "connectome-missing": partial(_connectome, missing=0.3),
}
