"""Real heads from folder to store: a landmark stays where it is, visits keep their days, names do not travel on."""

import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import affine_transform

from preprocess.engine import preprocess
from preprocess.store import Store
from tests.support.images import RECIPE, gz, nifti, tree, write_bids


def _template() -> tuple[np.ndarray, np.ndarray]:
    """nilearn's MNI152 head from its wheel, every second voxel of 1 mm, with its affine; nothing is downloaded."""
    package = importlib.util.find_spec("nilearn")
    assert package is not None
    assert package.submodule_search_locations is not None
    folder = Path(package.submodule_search_locations[0]) / "datasets" / "data"
    image = nib.load(folder / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz")
    voxels = np.asarray(image.dataobj, dtype=np.float32)[::2, ::2, ::2]
    return voxels, image.affine @ np.diag([2, 2, 2, 1])


def test_a_landmark_of_a_real_head_is_found_after_a_known_movement(tmp_path: Path) -> None:
    """Two visits of the MNI152 head, the second turned, shifted, re-noised and stored as LAS."""
    voxels, affine = _template()
    landmark_mm = np.array([18.0, -30.0, 22.0])
    index = np.stack(np.meshgrid(*map(np.arange, voxels.shape), indexing="ij"), -1)
    distance_mm = np.linalg.norm(nib.affines.apply_affine(affine, index) - landmark_mm, axis=-1)
    marked = voxels + 4 * np.percentile(voxels, 99) * np.exp(-((distance_mm / 7) ** 2)).astype(np.float32)
    movement = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.15, -0.1, 0.2), [6.0, -9.0, 5.0])
    flip = np.diag([-1.0, 1, 1, 1])
    flip[0, 3] = voxels.shape[0] - 1
    later_affine = affine @ flip
    pull = np.linalg.inv(affine) @ np.linalg.inv(movement) @ later_affine
    moved = affine_transform(marked, pull[:3, :3], pull[:3, 3], order=1)
    moved += np.random.default_rng(0).normal(0, 0.02 * voxels.max(), moved.shape).astype(np.float32)
    assert nib.aff2axcodes(later_affine) == ("L", "A", "S")
    visits = {"01": gz(nifti(marked, affine)), "02": gz(nifti(moved, later_affine))}
    raw = write_bids(tmp_path / "raw", {"01": visits}, {"01": 0, "02": 203})
    recipe = RECIPE.model_copy(
        update={"grid": (48, 48, 48), "spacing_mm": 4.0, "intensity_percentiles": (0.5, 100.0), "dtype": "float32"}
    )
    preprocess(str(raw), str(tmp_path / "s"), recipe, workers=0)
    store = Store.open(tmp_path / "s")
    assert [record.day for record in store.records] == [0, 203]
    for record, expected_mm in zip(
        store.records, (landmark_mm, nib.affines.apply_affine(movement, landmark_mm)), strict=True
    ):
        weight = np.clip(store.read(record.row, "T1w")[0] - 0.5, 0, None)
        grid = np.stack(np.meshgrid(*map(np.arange, recipe.grid), indexing="ij"), -1)
        centre = (grid * weight[..., None]).sum((0, 1, 2)) / weight.sum()
        found_mm = nib.affines.apply_affine(np.reshape(record.affine, (4, 4)), centre)
        assert np.abs(found_mm - expected_mm).max() < recipe.spacing_mm / 2


@pytest.mark.real_data
def test_the_real_longitudinal_cohort_enters_whole(real_data: Path, tmp_path: Path) -> None:
    manifest = preprocess(str(real_data / "mri_longitudinal"), str(tmp_path / "s"), RECIPE, workers=0)
    assert (manifest.num_found, manifest.num_kept) == (4, 4)
    records = Store.open(tmp_path / "s").records
    assert [record.day for record in records] == [0, 203, 0, 81]
    assert records[0].spacing_mm != records[1].spacing_mm  # of one person


@pytest.mark.real_data
def test_the_name_in_a_header_extension_does_not_travel_on(real_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    private = set()
    for path in sorted(real_data.glob("mri_age/*.nii.gz"))[:2]:
        (folder / path.name).write_bytes(path.read_bytes())
        for extension in nib.load(path).header.extensions:
            content = extension.get_content()
            text = content if isinstance(content, bytes) else str(content).encode()
            private |= {word for word in text.replace(b"[", b" ").split() if b"@" in word}
    assert private  # who made the file, and on which host
    preprocess(str(folder), str(tmp_path / "s"), RECIPE, workers=0)
    for data in tree(tmp_path / "s").values():
        assert not [word for word in private if word in data]
