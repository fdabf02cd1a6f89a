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
        _MAKERS[name](kept, quick)
    return Store.open(str(store))


def _brain(folder: Path, quick: bool) -> None:
    write_brain_cohort(
        folder / "raw", num_subjects=20 if quick else 120, num_visits=3 if quick else 4, seed=_SEED,
        spacing_mm=3.5 if quick else 3.0, ageing=True,
    )  # fmt: skip
    edge = 24 if quick else 48
    recipe = VolumeRecipe(grid=(edge, edge, edge), spacing_mm=192 / edge)
    preprocess(str(folder / "raw"), str(folder / "store"), recipe)


def _severity(folder: Path, quick: bool) -> None:
    write_severity_cohort(folder / "raw", num_subjects=40 if quick else 120, seed=_SEED, balanced=True)
    edge = 32 if quick else 128
    recipe = VolumeRecipe(
        modalities=("fundus",), kinds={"fundus": "image"}, image=ImageRecipe(size=(edge, edge), channels=3)
    )
    preprocess(str(folder / "raw" / "scans.csv"), str(folder / "store"), recipe)


def _connectome(folder: Path, quick: bool, missing: float) -> None:
    write_connectome_cohort(folder / "raw", num_subjects=40 if quick else 240, seed=_SEED, missing=missing)
    kinds = dict.fromkeys(("SC", "FC", "radiomics", "clinical"), "array")
    recipe = VolumeRecipe.model_validate(
        {"modalities": (*kinds, "T2"), "kinds": kinds, "grid": (32, 32, 32), "spacing_mm": 6.0}
    )
    preprocess(str(folder / "raw" / "scans.csv"), str(folder / "store"), recipe)


_MAKERS: dict[str, Callable[[Path, bool], None]] = {
    "brain": _brain,
    "severity": _severity,
    "connectome-complete": partial(_connectome, missing=0.0),
    "connectome-missing": partial(_connectome, missing=0.3),
}
