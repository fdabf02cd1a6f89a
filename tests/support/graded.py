"""A tiny store of graded pictures: the brighter the middle, the worse; grade 1 is normal, as a table might have it."""

from pathlib import Path
from typing import Any

import numpy as np

from preprocess.index import IndexRecord
from preprocess.recipe import VolumeRecipe
from preprocess.storage import Location
from preprocess.store import Store, content_digest
from preprocess.writer import commit, open_rows, prepare_arrays, write_row
from trainer.recipe import TrainRecipe

PICTURE_EDGE = 32
NORMAL = 1.0
PICTURES = VolumeRecipe(modalities=("fundus",), kinds={"fundus": "image"}, image={"size": (PICTURE_EDGE,) * 2})


def write_graded(folder: Path, *, num_subjects: int = 32) -> Store:
    """Two visits of each subject, grades 1 to 4 in turn; one visit's grade is not told."""
    location = Location(folder)
    num_rows = 2 * num_subjects
    draws = np.random.default_rng(5)
    prepare_arrays(location, PICTURES, ["fundus"], num_rows)
    array = open_rows(location, "fundus")
    records = []
    for row in range(num_rows):
        subject, visit = divmod(row, 2)
        grade = 1.0 + subject % 4
        picture = draws.integers(0, 120, (1, PICTURE_EDGE, PICTURE_EDGE), dtype=np.uint8)
        picture[:, 8:24, 8:24] += np.uint8(30 * grade)
        write_row(array, location.uri, row, picture)
        records.append(
            IndexRecord(
                row=row,
                modality="fundus",
                subject_id=f"person-{subject:02d}",
                session_id=f"seen-{visit}",
                run="",
                day=100.0 * visit,
                present=True,
                site="",
                scanner="A",
                spacing_mm=(),
                affine=(),
                source_uri=f"{row}.png",
                source_sha256="",
                source_bytes=picture.nbytes,
                content_sha256=content_digest(picture),
                outcomes={} if row == 7 else {"grade": grade},
            )
        )
    commit(location, PICTURES, records)
    return Store.open(location)


def conpro_recipe(**changes: Any) -> TrainRecipe:
    """ConPrO on the pictures, one epoch a phase; grade 1 is normal."""
    settings: dict[str, Any] = {
        "name": "conpro",
        "task": "severity",
        "device": "cpu",
        "precision": "float32",
        "outcome": {"name": "grade", "higher_is_better": False, "threshold": 1.0},
        "data": {"modality": "fundus", "sampling": "scans", "batch_size": 8},
        "split": {"validation": 0.25, "test": 0.25},
        "encoder": {"name": "resnet18", "embedding_width": 8, "projection_width": 4},
        "phase": [
            {"name": "con", "epochs": 1, "objective": [{"name": "margin_contrast", "normal": NORMAL}]},
            {
                "name": "pro",
                "epochs": 1,
                "objective": [{"name": "preference", "beta": 5.0, "normal": NORMAL, "num_normals": 2}],
            },
        ],
    }
    return TrainRecipe.model_validate({**settings, **changes})
