"""Volumes and maps lie in one frame, whose middle is the grid's, and say their window."""

import gzip
import io
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from app.grid_image import STRONGEST_PERCENTILE, map_nifti, volume_nifti
from app.inputs import PreparedScan, prepare
from app.registry import LoadedModel, load_artefact
from preprocess.errors import ArtefactError
from tests.support.artefacts import RECIPE, decision_part, write_artefact
from tests.support.heads import head_nifti


def read(data: bytes) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_stream(io.BytesIO(gzip.decompress(data)))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("grid") / "model"
    return load_artefact(str(write_artefact(folder, decision=decision_part())))


@pytest.fixture(scope="module")
def pair() -> tuple[PreparedScan, PreparedScan]:
    return prepare(head_nifti(15, seed=1), RECIPE, name="a"), prepare(head_nifti(22, seed=2), RECIPE, name="b")


def test_a_volume_holds_the_stored_voxels_around_the_middle_of_the_grid(pair) -> None:
    image = read(volume_nifti(pair[0], RECIPE))

    np.testing.assert_array_equal(np.asarray(image.dataobj), pair[0].voxels_CDHW[0])
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    first, last = image.affine @ [0, 0, 0, 1], image.affine @ [*(np.array(RECIPE.grid) - 1), 1]
    np.testing.assert_allclose(first[:3], -last[:3])
    assert image.header.get_zooms() == (RECIPE.spacing_mm,) * 3


def test_the_map_lies_where_the_volumes_lie_and_sums_to_the_told_change(model, pair) -> None:
    later = read(volume_nifti(pair[1], RECIPE))
    found = read(map_nifti(model, *pair))

    np.testing.assert_array_equal(found.affine, later.affine)
    assert found.shape == later.shape
    embedded = model.engine.embed(np.stack([scan.voxels_CDHW for scan in pair])).astype(np.float64)
    told = float((embedded[1] - embedded[0]) @ model.require_points("model"))
    voxel_cm3 = (RECIPE.spacing_mm / 10) ** 3
    # Smoothing near the border loses a little.
    assert np.asarray(found.dataobj, dtype=np.float64).sum() * voxel_cm3 == pytest.approx(told, abs=0.05 * abs(told))


def test_the_window_is_a_percentile_of_what_is_not_nothing(model, pair) -> None:
    image = read(map_nifti(model, *pair))

    size = np.abs(np.asarray(image.dataobj))
    assert image.header["cal_max"] == pytest.approx(np.percentile(size[size > 0], STRONGEST_PERCENTILE), rel=1e-3)
    assert 0 < image.header["cal_min"] < image.header["cal_max"]


def test_the_map_of_one_scan_twice_is_empty_and_has_no_window(model, pair) -> None:
    image = read(map_nifti(model, pair[0], pair[0]))

    assert not np.asarray(image.dataobj).any()
    assert (image.header["cal_min"], image.header["cal_max"]) == (0, 0)


def test_equal_scans_give_equal_bytes(model, pair) -> None:
    assert map_nifti(model, *pair) == map_nifti(model, *pair)


def test_a_model_without_points_has_no_map(tmp_path: Path, pair) -> None:
    silent = load_artefact(str(write_artefact(tmp_path / "silent")))

    with pytest.raises(ArtefactError, match="tells no change in points"):
        map_nifti(silent, *pair)
