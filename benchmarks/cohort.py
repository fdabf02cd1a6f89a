"""The cohort of the benchmarks: the MNI152 template shifted and with noise, as a store and as .npy files.

Stored sizes decide what a reader can do, so the volumes are a real brain: 200 to 260 kB each at 96^3 uint8.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from preprocess.index import IndexRecord
from preprocess.recipe import VolumeRecipe
from preprocess.storage import Location
from preprocess.store import content_digest
from preprocess.transforms import to_volume
from preprocess.types import Image
from preprocess.writer import commit, open_rows, prepare_arrays, write_row
from tests.support.slow_bucket.client import SlowBucket

MODALITY = "T1w"
_SHIFT_VOXELS = 4
_NOISE = 2.0
"""Standard deviation in stored units; scanners leave 1 to 3 % of the brightest tissue."""
_BRAIN = 20
"""Stored value above which a voxel counts as head and gets noise."""


def template_image() -> Image:
    """The MNI152 template at 2 mm, which comes with nilearn."""
    with warnings.catch_warnings():
        # nilearn's import warns about optional packages.
        warnings.simplefilter("ignore")
        from nilearn.datasets import load_mni152_template

        template = load_mni152_template(resolution=2)
    voxels = np.asarray(template.dataobj, dtype=np.float32)
    return Image(voxels / voxels.max() * 1000, np.asarray(template.affine, dtype=float), "float32")


def recipe_of(edge: int) -> VolumeRecipe:
    """The default recipe on a cube of the given edge; the field of view stays."""
    return VolumeRecipe() if edge == 96 else VolumeRecipe(grid=(edge,) * 3, spacing_mm=192.0 / edge)


def draw_volumes(num: int, edge: int, *, seed: int = 0) -> Iterator[np.ndarray]:
    """Volumes, uint8, shape (1, D, H, W)."""
    base_DHW = to_volume(template_image(), recipe_of(edge), name="MNI152").voxels_CDHW[0]
    rng = np.random.default_rng(seed)
    for _ in range(num):
        shifts = rng.integers(-_SHIFT_VOXELS, _SHIFT_VOXELS + 1, 3)
        moved = np.roll(base_DHW, shifts, (0, 1, 2)).astype(np.float32)
        noisy = np.clip(moved + rng.normal(0, _NOISE, moved.shape), 0, 255)
        yield np.where(moved > _BRAIN, noisy, moved).astype(np.uint8)[None]


def write_cohort(folder: Path, num: int, edge: int) -> float:
    """Write `store/` and `npy/` below a folder; what is there already stays. Returns the mean stored size in kB."""
    done = folder / "done.txt"
    if not done.exists():
        recipe, location = recipe_of(edge), Location(folder / "store")
        (folder / "npy").mkdir(parents=True, exist_ok=True)
        prepare_arrays(location, recipe, [MODALITY], num)
        array, records = open_rows(location, MODALITY), []
        for row, voxels in enumerate(draw_volumes(num, edge)):
            write_row(array, location.uri, row, voxels)
            np.save(folder / "npy" / f"{row:06d}.npy", voxels)
            records.append(_record(row, voxels, recipe.spacing_mm))
        commit(location, recipe, records)
        stored = sum(path.stat().st_size for path in (folder / "store").rglob("c/**/*") if path.is_file())
        done.write_text(f"{stored / num / 1000:.1f}")
    return float(done.read_text())


def upload(slow: SlowBucket, bucket: str, folder: Path, *names: str) -> None:
    """Put all files below some folders of a folder into the bucket, under the same names."""
    for name in names:
        for path in sorted((folder / name).rglob("*")):
            if path.is_file():
                slow.put(bucket, path.relative_to(folder).as_posix(), path.read_bytes())


def _record(row: int, voxels: np.ndarray, spacing_mm: float) -> IndexRecord:
    return IndexRecord(
        row, MODALITY, f"sub-{row // 2:04d}", f"ses-{row % 2}", "", 300.0 * (row % 2), True, "", "",
        (spacing_mm,) * 3, tuple(np.eye(4).ravel()), "benchmark", "", 1, content_digest(voxels), (),
        {"mmse": 20.0 + row % 5},
    )  # fmt: skip
