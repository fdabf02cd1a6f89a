"""Small finished stores and cohorts to make them from, for tests that read, damage or extend one."""

from pathlib import Path

import numpy as np

from preprocess.index import IndexRecord, to_table
from preprocess.storage import Location
from preprocess.store import Store, content_digest
from preprocess.types import Finding
from preprocess.writer import commit, open_rows, prepare_arrays, write_row
from tests.support.images import RECIPE

SMALL = RECIPE.model_copy(update={"grid": (6, 5, 4)})


def record(row: int, voxels: np.ndarray | None, *, modality: str = "T1w", day: float | None = None) -> IndexRecord:
    """A row of two visits a subject; without voxels, one that was left out."""
    left_out = Finding("empty", f"row {row}: empty; export the scan again")
    return IndexRecord(
        row=row,
        modality=modality,
        subject_id=f"sub-{row // 2:02d}",
        session_id=f"ses-{row % 2:02d}",
        run="",
        day=180.0 * (row % 2) if day is None else day,
        present=voxels is not None,
        site="north",
        scanner="A",
        spacing_mm=(1.0, 1.0, 1.2) if voxels is not None else (),
        affine=tuple(np.eye(4).ravel()) if voxels is not None else (),
        source_uri=f"sub-{row // 2:02d}/{row}.nii.gz",
        source_sha256=f"{row:064x}",
        source_bytes=1000 + row,
        content_sha256=content_digest(voxels) if voxels is not None else "",
        findings=() if voxels is not None else (left_out,),
        outcomes={"mmse": 27.0 - row} if row else {},
    )


def volumes(num_rows: int, seed: int = 0) -> np.ndarray:
    """Random rows of the small recipe."""
    shape = (num_rows, 1, *SMALL.grid)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_store(folder: str | Path | Location, num_rows: int = 4, *, left_out: tuple[int, ...] = ()) -> Store:
    """A finished store of random rows; the rows `left_out` have a record but no object."""
    location = folder if isinstance(folder, Location) else Location(folder)
    voxels_NCDHW = volumes(num_rows)
    prepare_arrays(location, SMALL, ["T1w"], num_rows)
    rows = open_rows(location, "T1w")
    records = []
    for row in range(num_rows):
        is_here = row not in left_out
        if is_here:
            write_row(rows, location.uri, row, voxels_NCDHW[row])
        records.append(record(row, voxels_NCDHW[row] if is_here else None))
    commit(location, SMALL, records)
    return Store.open(location)


def with_index(store: Store, records: list[IndexRecord]) -> Store:
    """The same store with another index in memory, as if it had been committed so."""
    return Store(store.location, store.manifest, to_table(records))
