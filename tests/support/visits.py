"""Tiny real stores of visits with several modalities, in which subjects of a class look alike and a third lack one."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from preprocess.forms import ArrayForm
from preprocess.index import IndexRecord
from preprocess.recipe import VolumeRecipe
from preprocess.storage import Location
from preprocess.store import Store
from preprocess.types import Finding
from preprocess.writer import commit, open_rows, prepare_arrays, write_row
from trainer.recipe import TrainRecipe

ARRAYS = {"SC": (6, 6), "FC": (6, 6), "radiomics": (5, 3), "clinical": (4,)}
"""A row of each; `SC` is square and so one quantity, the columns of `radiomics` and `clinical` are their own."""
VOLUME = "T2"
EDGE = 32
"""The least that the volume encoder takes."""


@dataclass(frozen=True)
class TinyVisit:
    """One visit to write: who, its class, what it has."""

    subject_id: str
    impaired: float | None
    has: frozenset[str]
    session_id: str = "ses-01"
    left_out: frozenset[str] = frozenset()
    """Modalities with a record in the index and no object."""


def default_visits(num_subjects: int = 24, *, volume: bool = False) -> list[TinyVisit]:
    """Every other subject is impaired; every third lacks one modality, in turn, with or without a record of it."""
    names = (*ARRAYS, *((VOLUME,) if volume else ()))
    visits = []
    for subject in range(num_subjects):
        lacks = frozenset({names[subject // 3 % len(names)]} if subject % 3 == 0 else ())
        visits.append(
            TinyVisit(
                f"sub-{subject:02d}",
                float(subject % 2),
                frozenset(names) - lacks,
                left_out=lacks if subject % 6 == 0 else frozenset(),
            )
        )
    return visits


def stored_of(visit: TinyVisit, modality: str) -> np.ndarray:
    """What is stored: noise of the subject, shifted by the class; the columns of tables differ a thousandfold."""
    key = f"{visit.subject_id}{visit.session_id}{modality}"
    draws = np.random.default_rng(int(hashlib.sha256(key.encode()).hexdigest()[:8], 16))
    shift = 1.5 * (visit.impaired or 0.0)
    if modality == VOLUME:
        unit = 0.3 + 0.1 * draws.random((1, EDGE, EDGE, EDGE)) + 0.2 * shift / 1.5
        return np.round(255 * unit).astype(np.uint8)
    shape = ARRAYS[modality]
    values = draws.normal(size=shape) + shift
    units = 1.0 if len(shape) == 2 and shape[0] == shape[1] else 10.0 ** np.arange(shape[-1])
    return (5.0 + values * units).astype(np.float32)


def write_visits(folder: Path | Location, visits: Sequence[TinyVisit] | None = None) -> Store:
    """Write visits as a finished store and open it; absent rows have no object, so that asking for one is an error."""
    location = folder if isinstance(folder, Location) else Location(folder)
    chosen = list(default_visits() if visits is None else visits)
    names = sorted({name for visit in chosen for name in (*visit.has, *visit.left_out)})
    recipe = VolumeRecipe(
        modalities=tuple(names), grid=(EDGE,) * 3, kinds={name: "array" for name in names if name != VOLUME}
    )
    forms = {name: ArrayForm(ARRAYS[name]) for name in names if name != VOLUME}
    prepare_arrays(location, recipe, names, len(chosen), forms=forms)
    arrays = {name: open_rows(location, name) for name in names}
    records = []
    for row, visit in enumerate(chosen):
        for name in sorted(visit.has | visit.left_out):
            stored = stored_of(visit, name)
            if name in visit.has:
                write_row(arrays[name], location.uri, row, stored)
            records.append(_record(row, visit, name, stored))
    commit(location, recipe, records)
    return Store.open(location)


def changed(visits: Sequence[TinyVisit], subject_ids: frozenset[str], **changes: Any) -> list[TinyVisit]:
    """The visits, those of some subjects with other fields."""
    return [replace(visit, **changes) if visit.subject_id in subject_ids else visit for visit in visits]


def visit_recipe(**changes: Any) -> TrainRecipe:
    """The joint recipe for the tiny stores: arrays alone, CPU, float32, two epochs."""
    settings: dict[str, Any] = {
        "name": "tiny-joint",
        "task": "classification",
        "device": "cpu",
        "precision": "float32",
        "outcome": {"name": "impaired", "higher_is_better": False, "threshold": 1.0},
        "data": {"modalities": list(ARRAYS), "sampling": "scans", "batch_size": 6, "in_flight": 8},
        "split": {"validation": 0.2, "test": 0.2},
        "encoder": {"name": "multimodal", "embedding_width": 4, "projection_width": 4},
        "objective": [{"name": "cross_modality"}, {"name": "cross_subject"}],
        "optim": {"epochs": 2, "learning_rate": 3e-3, "weight_decay": 1e-3},
    }
    for name, value in changes.items():
        settings[name] = {**settings[name], **value} if isinstance(settings.get(name), dict) else value
    return TrainRecipe.model_validate(settings)


def _record(row: int, visit: TinyVisit, modality: str, stored: np.ndarray) -> IndexRecord:
    is_here = modality in visit.has
    return IndexRecord(
        row=row,
        modality=modality,
        subject_id=visit.subject_id,
        session_id=visit.session_id,
        run="",
        day=0.0,
        present=is_here,
        site="",
        scanner="A",
        spacing_mm=(),
        affine=(),
        source_uri=f"{visit.subject_id}/{visit.session_id}/{modality}.npy",
        source_sha256="",
        source_bytes=stored.nbytes,
        content_sha256=hashlib.sha256(stored.tobytes()).hexdigest() if is_here else "",
        findings=() if is_here else (Finding("unreadable", "left out by the test cohort"),),
        outcomes={} if visit.impaired is None else {"impaired": visit.impaired},
    )
