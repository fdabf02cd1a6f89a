"""A real brain from a wheel, the MNI152 template as two visits, through preprocess, embed and predict."""

import io
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pyarrow.parquet as pq
import pytest

from interscan.cli import run
from preprocess.store import Store
from tests.support.artefacts import RECIPE, write_artefact
from tests.support.mni import GAP_DAYS, movement, write_mni_pair

ANTERIOR_COMMISSURE_MM = np.array([0.0, 0.0, 0.0])
"""The origin of MNI space."""


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mni")
    write_mni_pair(out)
    return out


def test_a_landmark_lands_within_half_a_voxel_of_where_nibabel_puts_it(visits: Path, tmp_path: Path, capsys) -> None:
    assert run(["preprocess", str(visits), str(tmp_path / "store"), "--workers", "0"]) == 0
    capsys.readouterr()
    store = Store.open(tmp_path / "store")
    first, second = (record for record in store.records)
    assert (first.day, second.day) == (0.0, float(GAP_DAYS))
    raw = nib.load(visits / "sub-mni/ses-01/anat/sub-mni_ses-01_T1w.nii.gz")
    # The box of the lateral ventricles around the landmark, read through each image's own affine, shows the same brain.
    points_mm = np.stack(np.meshgrid(*[np.arange(-40, 41, 4.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    points_mm = points_mm + ANTERIOR_COMMISSURE_MM
    for record, move in ((first, np.eye(4)), (second, movement())):
        volume = store.read(record.row, "T1w")[0].astype(np.float32)
        grid_affine = np.array(record.affine).reshape(4, 4)
        seen = sample(volume, grid_affine, nib.affines.apply_affine(move, points_mm))
        expected = sample(np.asarray(raw.dataobj, dtype=np.float32), raw.affine, points_mm)
        here = np.corrcoef(seen, expected)[0, 1]
        assert here > 0.9
        for axis in np.eye(3):
            for sign in (-1.0, 1.0):
                # A grid that is off by half a voxel (1 mm) or more would fit better there than here.
                beside = sample(volume, grid_affine, nib.affines.apply_affine(move, points_mm) + sign * axis * 2.0)
                assert here > np.corrcoef(beside, expected)[0, 1]


def sample(volume: np.ndarray, affine: np.ndarray, points_mm: np.ndarray) -> np.ndarray:
    """Grey values at points in mm, trilinear, through nibabel's affine arithmetic."""
    from scipy.ndimage import map_coordinates

    voxels = nib.affines.apply_affine(np.linalg.inv(affine), points_mm)
    return map_coordinates(volume, voxels.T, order=1)


def test_it_goes_through_embed_and_predict(visits: Path, tmp_path: Path, capsys) -> None:
    artefact = tmp_path / "artefact"
    write_artefact(artefact)
    recipe = ["--set", f"grid={list(RECIPE.grid)}", "--set", f"spacing_mm={RECIPE.spacing_mm}"]
    store = tmp_path / "store"
    assert run(["preprocess", str(visits), str(store), "--workers", "0", *recipe]) == 0
    out = tmp_path / "embeddings.parquet"
    assert run(["embed", str(artefact), str(store), str(out)]) == 0
    table = pq.read_table(io.BytesIO(out.read_bytes()))
    assert table["subject_id"].to_pylist() == ["sub-mni", "sub-mni"]
    assert table["day"].to_pylist() == [0.0, float(GAP_DAYS)]
    capsys.readouterr()
    pair = [str(path) for path in sorted(visits.glob("sub-mni/*/anat/*.nii.gz"))]
    assert run(["predict", str(artefact), *pair, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    first, second = (np.array(row) for row in table["embedding"].to_pylist())
    cosine = first @ second / (np.linalg.norm(first) * np.linalg.norm(second))
    assert answer["change"]["distance"] == pytest.approx(1 - cosine, abs=1e-5)
