"""Heads made of a few ellipsoids: people differ in shape, visits in their ventricles, brightness and noise."""

from pathlib import Path

import numpy as np

from preprocess.index import IndexRecord
from preprocess.recipe import VolumeRecipe
from preprocess.storage import Location
from preprocess.store import Store, content_digest
from preprocess.transforms import to_stored
from preprocess.writer import commit, open_rows, prepare_arrays, write_row

EDGE = 32


def head(person: int, *, visit: int = 0, edge: int = EDGE, scanner: str = "A") -> np.ndarray:
    """A volume (1, edge, edge, edge) in [0, 1]: skull, grey matter, white matter, ventricles that grow by visit.

    Args:
        person: who; equal numbers are equal heads.
        visit: counted from 0.
        edge: voxels along each axis.
        scanner: `A`, or `B` with twice the noise.
    """
    who, scan = np.random.default_rng([person, 1]), np.random.default_rng([person, visit, 2])
    axes = np.linspace(-1.0, 1.0, edge)
    x, y, z = axes[:, None, None], axes[:, None], axes
    half = np.array([0.62, 0.8, 0.66]) * (1 + 0.05 * who.normal(size=3))
    lean = 0.1 * who.normal(size=3)
    radius = np.sqrt(((x - lean[0] * y * z) / half[0]) ** 2 + ((y + lean[1] * z) / half[1]) ** 2 + (z / half[2]) ** 2)
    # Flat below and bulged behind, so that no axis can be turned round unnoticed.
    radius = radius + 0.15 * np.maximum(-z, 0) + 0.1 * np.maximum(y, 0) * (1 + lean[2])
    ventricles = np.sqrt((x / 0.16) ** 2 + ((y + 0.05) / 0.3) ** 2 + ((z - 0.1) / 0.14) ** 2)
    soft = 0.03 * 2 / edge * EDGE
    inside = [1 / (1 + np.exp((radius - edge_) / soft)) for edge_ in (1.0, 0.9, 0.62)]
    size = 0.8 + 0.1 * visit + 0.1 * who.random()
    volume = 0.35 * inside[0] + 0.2 * inside[1] + 0.3 * inside[2]
    volume = volume * (1 - 0.75 / (1 + np.exp((ventricles - size) / 0.1)))
    gain = 1 + 0.02 * scan.normal()
    noise = {"A": 0.015, "B": 0.03}[scanner]
    noisy = np.clip(gain * volume + noise * scan.normal(size=volume.shape), 0.0, 1.0)
    return noisy[None].astype(np.float32)


def write_heads(place: Path, *, num_people: int, num_visits: int = 3) -> Store:
    """A store of such heads, `sub-00` first, one visit a year, whose score falls by a point a visit.

    Every fourth scan is of scanner `B`.
    """
    recipe = VolumeRecipe(grid=(EDGE,) * 3, spacing_mm=6.0)
    location, num_rows = Location(place), num_people * num_visits
    prepare_arrays(location, recipe, ["T1w"], num_rows)
    array = open_rows(location, "T1w")
    records = []
    for row in range(num_rows):
        person, visit = divmod(row, num_visits)
        scanner = "B" if (person + visit) % 4 == 3 else "A"
        voxels = to_stored(head(person, visit=visit, scanner=scanner), recipe.dtype)
        write_row(array, location.uri, row, voxels)
        records.append(
            IndexRecord(
                row=row,
                modality="T1w",
                subject_id=f"sub-{person:02d}",
                session_id=f"ses-{visit}",
                run="",
                day=365.0 * visit,
                present=True,
                site="",
                scanner=scanner,
                spacing_mm=(6.0,) * 3,
                affine=tuple(np.eye(4).ravel().tolist()),
                source_uri=f"{row}.nii",
                source_sha256="",
                source_bytes=voxels.nbytes,
                content_sha256=content_digest(voxels),
                outcomes={"mmse": 28.0 - visit},
            )
        )
    commit(location, recipe, records)
    return Store.open(location)
