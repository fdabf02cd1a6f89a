"""Opens the real heads and lung clips, and the synthetic cohorts that models for them train on, through one recipe.

The real files stay where they are; what is derived from them is a store like any other. A model that is trained on a
synthetic cohort may embed the real one only because both stores have one fingerprint, which is checked.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.method_runs import EXACT
from interscan.synthetic.brain.cohort import write_brain_cohort
from interscan.synthetic.lung.cohort import write_lung_cohort
from preprocess.engine import preprocess
from preprocess.recipe import VolumeRecipe
from preprocess.store import Store
from trainer.data.cohort import Cohort, read_cohort
from trainer.encoders import Embedder
from trainer.fit.embedding import embed_cohort

_SEED = 2026
_AGES = "demographics.csv"
"""Beside the real heads: MRID, Age, Sex."""


@dataclass(frozen=True)
class RealImages:
    """Real scans or clips of one modality, from one store or several with one fingerprint.

    Attributes:
        modality: array of the stores.
        stores: one a source.
        cohorts: the scans of each store, in its order.
    """

    modality: str
    stores: tuple[Store, ...]
    cohorts: tuple[Cohort, ...]

    @property
    def subject_ids(self) -> tuple[str, ...]:
        """Whose each image is; of clips, the name of the file without its ending."""
        return tuple(subject_id for cohort in self.cohorts for subject_id in cohort.subject_ids)

    @property
    def days_N(self) -> np.ndarray:
        """(N,) days since the first visit, NaN where the source knows none."""
        return np.concatenate([cohort.days_N for cohort in self.cohorts])

    @property
    def scores_N(self) -> np.ndarray:
        """(N,) ages of heads in years; NaN for clips."""
        return np.concatenate([cohort.scores_N for cohort in self.cohorts])

    @property
    def sources_N(self) -> np.ndarray:
        """(N,) number of the store that each image is from."""
        return np.repeat(np.arange(len(self.cohorts)), [len(cohort) for cohort in self.cohorts])

    @property
    def labels(self) -> tuple[str, ...]:
        """The part of each clip's name in front of the first underscore: Reg, Vir, Pneu or Cov."""
        return tuple(subject_id.split("_")[0] for subject_id in self.subject_ids)

    def embed(self, encoder: Embedder, like: Store) -> np.ndarray:
        """Embeddings (N, E), float32, of all images.

        Args:
            encoder: in any mode.
            like: the store it was made for.

        Raises:
            StoreError: that store was made with another recipe.
        """
        for store in self.stores:
            store.require_fingerprint(like.manifest.fingerprint)
        parts = zip(self.stores, self.cohorts, strict=True)
        return np.concatenate([embed_cohort(encoder, store, (self.modality,), part, EXACT) for store, part in parts])

    def pixels(self) -> np.ndarray:
        """(N, ...) all images as stored, scaled to [0, 1]; for baselines that use no model."""
        parts = zip(self.stores, self.cohorts, strict=True)
        rows = [store.read(int(row), self.modality) for store, cohort in parts for row in cohort.rows_N]
        return np.stack(rows).astype(np.float32) / 255


def head_recipe(*, quick: bool) -> VolumeRecipe:
    """Heads at 3 mm, which half of the real ones with their 3 to 4 mm slices can still fill."""
    return VolumeRecipe(grid=(24, 24, 24), spacing_mm=8.0) if quick else VolumeRecipe(grid=(64, 64, 64), spacing_mm=3.0)


def clip_recipe(*, quick: bool) -> VolumeRecipe:
    """Clips of 8 frames, as many as the encoder looks at."""
    edge = 32 if quick else 64
    clip = {"frames": 8, "size": (edge, edge)}
    return VolumeRecipe.model_validate({"modalities": ("LUS",), "kinds": {"LUS": "clip"}, "clip": clip})


def open_heads(data: Path, folder: Path, recipe: VolumeRecipe) -> RealImages:
    """Two people with two visits each (T1w of `mri_longitudinal`), then four heads with ages (`mri_age`).

    Args:
        data: the folder of real data.
        folder: where the stores and a table of the heads are written; what is there already stays.
        recipe: for both.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (data / "mri_age" / _AGES).open(newline="", encoding="utf-8") as table:
        people = list(csv.DictReader(table))
    heads = [(data / "mri_age" / f"{row['MRID']}-T1_ds.nii.gz", row["MRID"], "T1w", row["Age"]) for row in people]
    listed = _write_table(folder / "heads.csv", ("path", "subject_id", "modality", "age"), heads)
    sources = {"longitudinal": str(data / "mri_longitudinal"), "heads": str(listed)}
    stores = tuple(_store(source, folder / name, recipe) for name, source in sources.items())
    return RealImages("T1w", stores, tuple(read_cohort(store, "T1w", "age") for store in stores))


def open_clips(data: Path, folder: Path, recipe: VolumeRecipe) -> RealImages:
    """Ten lung ultrasound clips of every container there is (`lung_clips`); arguments as `open_heads`."""
    folder.mkdir(parents=True, exist_ok=True)
    clips = [(path, path.stem, "LUS") for path in sorted((data / "lung_clips").iterdir())]
    listed = _write_table(folder / "clips.csv", ("path", "subject_id", "modality"), clips)
    store = _store(str(listed), folder / "clips", recipe)
    return RealImages("LUS", (store,), (read_cohort(store, "LUS", ""),))


def open_phantoms(folder: Path, *, quick: bool) -> Store:
    """60 ageing heads of four visits at 2 mm; a store made before in this folder is taken as it is."""
    cohort_folder = folder / "phantoms"
    if not (cohort_folder / "store" / "store.json").exists():
        write_brain_cohort(
            cohort_folder / "raw", num_subjects=20 if quick else 60, num_visits=4, seed=_SEED,
            spacing_mm=4.0 if quick else 2.0, ageing=True, workers=0,
        )  # fmt: skip
    return _store(str(cohort_folder / "raw"), cohort_folder / "store", head_recipe(quick=quick))


def open_lungs(folder: Path, *, quick: bool) -> Store:
    """60 patients with three clips of one day each, S/F of 80 to 480; otherwise as `open_phantoms`."""
    cohort_folder = folder / "lungs"
    recipe = clip_recipe(quick=quick)
    if not (cohort_folder / "store" / "store.json").exists():
        write_lung_cohort(
            cohort_folder / "raw", num_subjects=20 if quick else 60, num_visits=1, seed=_SEED,
            size_px=recipe.clip.size[0], num_frames=recipe.clip.frames,
        )  # fmt: skip
    return _store(str(cohort_folder / "raw" / "scans.csv"), cohort_folder / "store", recipe)


def _store(source: str, folder: Path, recipe: VolumeRecipe) -> Store:
    """The source's store; only what it lacks is preprocessed."""
    preprocess(source, str(folder), recipe, workers=0)
    return Store.open(str(folder))


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([columns, *rows])
    return path
