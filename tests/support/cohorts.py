"""Tiny real stores, written in a second: 16^3 volumes whose middle darkens as the score falls, and every odd case.

The default cohort has file names in the reverse order of days, same-day rescans, a subject with one visit, scans
without a day, a scan without a score and a scan that was left out.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from preprocess.index import IndexRecord
from preprocess.recipe import VolumeRecipe
from preprocess.storage import Location
from preprocess.store import Store
from preprocess.transforms import to_stored
from preprocess.types import Finding
from preprocess.writer import commit, open_rows, prepare_arrays, write_row
from trainer.recipe import TrainRecipe

EDGE = 16
MODALITY = "T1w"
Dtype = Literal["uint8", "uint16", "float16", "float32"]
TIMING_FIELDS = frozenset({"seconds", "volumes_per_s", "mb_per_s", "wait_seconds", "utilisation", "device_hits"})
"""The fields of a history entry that depend on the clock, or on what stays where; all others must come out alike."""


@dataclass(frozen=True)
class TinyScan:
    """One scan to write: who, when, and the score its voxels show."""

    subject_id: str
    session_id: str
    day: float | None
    score: float | None
    run: str = ""
    shown: float | None = None
    """What the voxels show where the score is not told."""
    scanner: str = "A"
    present: bool = True
    age: float | None = field(default=None, repr=False)
    """Left out of the text that seeds the noise, so that people without an age stay as they are."""


def default_scans(
    *, num_subjects: int = 12, num_visits: int = 3, with_scores: bool = True, rescans: bool = True, odd: bool = True
) -> list[TinyScan]:
    """Subjects that decline, stay or improve in turn, by 3 points a visit; with the odd cases unless told otherwise."""
    scans: list[TinyScan] = []
    for subject in range(num_subjects):
        slope = (-3.0, 0.0, 3.0)[subject % 3]
        for visit in range(num_visits):
            shown = 20.0 + (subject % 5) + slope * visit
            # The first visit has the last name, so that order by name is the reverse of order by day.
            scan = TinyScan(
                f"sub-{subject:02d}",
                f"ses-{num_visits - visit:02d}",
                day=365.0 * visit,
                score=shown if with_scores else None,
                shown=shown,
                scanner="AB"[subject % 2],
            )
            scans.append(scan)
            if rescans and visit == 0 and subject % 2 == 0:
                scans.append(TinyScan(scan.subject_id, scan.session_id, scan.day, scan.score, run="2", shown=shown))
    if odd:
        score = 22.0 if with_scores else None
        scans += [
            TinyScan("sub-once", "ses-01", 0.0, score, shown=22.0),
            TinyScan("sub-dayless", "ses-01", None, score, shown=22.0),
            TinyScan("sub-dayless", "ses-02", None, score, shown=22.0),
            TinyScan("sub-unscored", "ses-01", 0.0, None, shown=22.0),
            TinyScan("sub-unscored", "ses-02", 90.0, score, shown=22.0),
            TinyScan("sub-00", "ses-left-out", 5000.0, score, shown=22.0, present=False),
        ]
    return scans


def volume_of(scan: TinyScan, dtype: Dtype) -> np.ndarray:
    """The scan's stored voxels (1, 16, 16, 16): a texture of the subject, and a middle as bright as the score."""
    person = np.random.default_rng(int(hashlib.sha256(scan.subject_id.encode()).hexdigest()[:8], 16))
    texture = person.random((4, 4, 4), dtype=np.float32).repeat(4, 0).repeat(4, 1).repeat(4, 2)
    own = np.random.default_rng(int(hashlib.sha256(repr(scan).encode()).hexdigest()[:8], 16))
    unit = 0.2 + 0.4 * texture + 0.02 * own.random((EDGE,) * 3, dtype=np.float32)
    shown = scan.shown if scan.shown is not None else (scan.score or 0.0)
    unit[4:12, 4:12, 4:12] = 0.5 * unit[4:12, 4:12, 4:12] + shown / 80.0
    return to_stored(unit[None].astype(np.float32), dtype)


def write_store(
    folder: Location | Path | str,
    scans: Sequence[TinyScan] | None = None,
    *,
    dtype: Dtype = "uint8",
    spacing_mm: float = 12.0,
) -> Store:
    """Write the scans as a finished store and open it.

    Args:
        folder: where the store is written.
        scans: what to write, rows in this order; the default cohort when None.
        dtype: stored type.
        spacing_mm: of the recipe; another one gives another fingerprint.
    """
    location = folder if isinstance(folder, Location) else Location(folder)
    chosen = list(default_scans() if scans is None else scans)
    recipe = VolumeRecipe(grid=(EDGE,) * 3, spacing_mm=spacing_mm, dtype=dtype)
    prepare_arrays(location, recipe, [MODALITY], len(chosen))
    array = open_rows(location, MODALITY)
    records = []
    for row, scan in enumerate(chosen):
        voxels = volume_of(scan, dtype)
        if scan.present:
            write_row(array, location.uri, row, voxels)
        records.append(record(row, scan, voxels))
    commit(location, recipe, records)
    return Store.open(location)


def record(row: int, scan: TinyScan, voxels: np.ndarray) -> IndexRecord:
    """The index record of a scan that was written."""
    left_out = (Finding("too_coarse", "left out by the test cohort"),)
    return IndexRecord(
        row=row,
        modality=MODALITY,
        subject_id=scan.subject_id,
        session_id=scan.session_id,
        run=scan.run,
        day=scan.day,
        present=scan.present,
        site="",
        scanner=scan.scanner,
        spacing_mm=(12.0, 12.0, 12.0),
        affine=tuple(np.eye(4).ravel().tolist()),
        source_uri=f"{scan.subject_id}/{scan.session_id}{scan.run}.nii.gz",
        source_sha256="",
        source_bytes=voxels.nbytes,
        content_sha256=hashlib.sha256(voxels.tobytes()).hexdigest() if scan.present else "",
        findings=() if scan.present else left_out,
        outcomes={name: value for name, value in (("mmse", scan.score), ("age", scan.age)) if value is not None},
    )


def tiny_recipe(**changes: Any) -> TrainRecipe:
    """A recipe for the tiny cohorts: reference encoder of width 8, CPU, float32, two epochs of learner and info_nce."""
    settings: dict[str, Any] = {
        "name": "tiny",
        "device": "cpu",
        "precision": "float32",
        "data": {"batch_size": 3, "in_flight": 12},
        "split": {"validation": 0.2, "test": 0.25},
        "encoder": {"name": "reference", "embedding_width": 8, "projection_width": 4},
        "objective": [{"name": "learner"}, {"name": "info_nce", "temperature": 0.1}],
        "augment": {"flip": 0.5, "shift_voxels": 1, "gain": 0.1, "noise": 0.02},
        "optim": {"epochs": 2, "learning_rate": 1e-3, "warmup_fraction": 0.2, "clip_norm": 1.0},
        "head": {"l2": [1e-2, 1e-1]},
        "checkpoint": {},
    }
    for name, value in changes.items():
        settings[name] = {**settings[name], **value} if isinstance(settings.get(name), dict) else value
    return TrainRecipe.model_validate(settings)


def ensemble_recipe(**changes: Any) -> TrainRecipe:
    """The tiny recipe with three members, each a network and a linear score, that predict the change of the score."""
    settings: dict[str, Any] = {
        "objective": [{"name": "learner", "variant": "mse"}, {"name": "pair_change", "weight": 3.0}],
        "encoder": {"name": "fast", "embedding_width": 8, "projection_width": 4, "linear_grid": 2},
        "head": {"on": "score"},
        "ensemble": {"members": 3},
    }
    return tiny_recipe(**(settings | changes))


def recipe_toml(recipe: TrainRecipe) -> str:
    """A recipe as the TOML that a user would write."""
    return "\n".join(_toml_lines("", recipe.model_dump(mode="json", exclude_none=True))) + "\n"


def without_timing(history: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """A history without the fields that depend on the clock."""
    return [{name: value for name, value in entry.items() if name not in TIMING_FIELDS} for entry in history]


def _toml_lines(prefix: str, table: dict[str, Any]) -> Iterator[str]:
    import json

    def is_tables(value: object) -> bool:
        return isinstance(value, list) and bool(value) and isinstance(value[0], dict)

    for name, value in table.items():
        if not isinstance(value, dict) and not is_tables(value):
            yield f"{name} = {json.dumps(value)}"
    for name, value in table.items():
        if isinstance(value, dict):
            yield f"[{prefix}{name}]"
            yield from _toml_lines(f"{prefix}{name}.", value)
        elif is_tables(value):
            for part in value:
                yield f"[[{prefix}{name}]]"
                yield from _toml_lines(f"{prefix}{name}.", part)
