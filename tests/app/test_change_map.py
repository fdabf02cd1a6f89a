"""The map shares the told change out over the voxels that brought it, and lies where the later scan lies."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from app.change_map import in_scan_space, require_map, told_shares, write_map
from app.cli import predict
from app.inputs import prepare
from app.registry import LoadedModel, load_artefact
from preprocess.errors import ArtefactError, UsageError
from preprocess.transforms import grid_affine
from preprocess.types import Image
from tests.support.artefacts import RECIPE, decision_part, write_artefact
from tests.support.heads import head_nifti, head_voxels, nifti


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact that tells changes in points."""
    return write_artefact(tmp_path_factory.mktemp("telling") / "model", decision=decision_part())


@pytest.fixture(scope="module")
def model(telling: Path) -> LoadedModel:
    return load_artefact(str(telling))


def volumes(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, *RECIPE.grid), dtype=np.uint8)


def told(model: LoadedModel, earlier: np.ndarray, later: np.ndarray) -> float:
    embedded = model.engine.embed(np.stack([earlier, later])).astype(np.float64)
    return float((embedded[1] - embedded[0]) @ model.require_points("model"))


def test_the_shares_are_those_of_a_model_that_can_be_worked_out_by_hand(model: LoadedModel) -> None:
    """The tiny model embeds the mean of each octant, so a voxel's share is its difference times a weight over 8^3."""
    earlier, later = volumes(1), volumes(2)
    weights_E = model.require_points("model")
    shares_DHW = told_shares(model, earlier, later)
    weight_DHW = weights_E.reshape(2, 2, 2).repeat(8, 0).repeat(8, 1).repeat(8, 2) / 8**3
    by_hand = (later[0].astype(np.float64) - earlier[0]) / 255 * weight_DHW
    np.testing.assert_allclose(shares_DHW, by_hand, atol=1e-6)
    assert shares_DHW.sum() == pytest.approx(told(model, earlier, later), abs=1e-4)


def test_voxels_that_did_not_change_have_no_share(model: LoadedModel) -> None:
    earlier = volumes(3)
    later = earlier.copy()
    later[0, 4:6, 4:6, 4:6] //= 2
    shares_DHW = told_shares(model, earlier, later)
    changed = np.zeros(RECIPE.grid, dtype=bool)
    changed[4:6, 4:6, 4:6] = True
    assert not shares_DHW[~changed].any()
    assert shares_DHW[changed].any()


def test_exchanging_the_scans_changes_the_sign_alone(model: LoadedModel) -> None:
    forward = told_shares(model, volumes(1), volumes(2))
    np.testing.assert_allclose(forward, -told_shares(model, volumes(2), volumes(1)), atol=1e-9)


@pytest.mark.parametrize("flip", [False, True])
def test_a_share_lands_at_its_millimetres_whatever_the_axes_of_the_scan(flip: bool) -> None:
    grid_to_mm = grid_affine(np.array([5.0, -3.0, 2.0]), (40, 40, 40), np.full(3, 4.0))
    shares_DHW = np.zeros((40, 40, 40))
    shares_DHW[12, 25, 20] = 3.0
    place_mm = grid_to_mm @ [12, 25, 20, 1]
    affine = np.diag([2.0, 3.0, 2.5, 1.0])
    affine[:3, 3] = (-75.0, -90.0, -80.0)
    if flip:  # stored from right to left, as many scanners do
        affine[0] *= (-1, 1, 1, -1)
    scan = Image(np.zeros((75, 60, 64), np.float32), affine, "int16")
    density_XYZ = in_scan_space(shares_DHW, grid_to_mm, scan)
    assert density_XYZ.shape == (75, 60, 64)
    brightest = affine @ [*np.unravel_index(density_XYZ.argmax(), density_XYZ.shape), 1]
    assert np.abs(brightest - place_mm).max() <= 2.0
    # Points per cm3 times cm3: what was there before it was resampled.
    assert density_XYZ.sum() * (2.0 * 3.0 * 2.5 / 1000) == pytest.approx(3.0, rel=0.02)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    """Two heads whose dark core grew, the later one stored from right to left."""
    (tmp_path / "earlier.nii.gz").write_bytes(head_nifti(15, seed=1))
    affine = np.diag([-4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = (94.0, -94.0, -94.0)
    (tmp_path / "later.nii.gz").write_bytes(nifti(head_voxels(25, seed=2)[::-1], affine))
    return str(tmp_path / "earlier.nii.gz"), str(tmp_path / "later.nii.gz")


def test_predict_writes_the_map_in_the_later_scans_own_space(
    telling: Path, pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(str(telling), *pair, map_out=str(tmp_path / "map.nii.gz"), json=True) == 0
    answer = json.loads(capsys.readouterr().out)
    found, later = nib.load(tmp_path / "map.nii.gz"), nib.load(pair[1])
    assert found.shape == later.shape
    np.testing.assert_allclose(found.affine, later.affine)
    density = np.asarray(found.dataobj)
    # What lies beyond the later scan's field of view is not on the map.
    assert density.sum() * 4.0**3 / 1000 == pytest.approx(answer["predicted_change"]["points"], rel=0.1, abs=0.3)


def test_without_a_map_the_answer_is_the_same(
    telling: Path, pair: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict(str(telling), *pair, json=True)
    plain = capsys.readouterr().out
    predict(str(telling), *pair, map_out=str(tmp_path / "map.nii"), json=True)
    assert capsys.readouterr().out == plain


def test_a_model_that_tells_no_points_is_refused_before_any_work(
    artefact: Path, pair: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(ArtefactError, match="tells no change in points") as caught:
        predict(str(artefact), *pair, map_out=str(tmp_path / "map.nii.gz"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "map.nii.gz").exists()


@pytest.mark.parametrize("out", ["map.png", "folder/", "map.gz"])
def test_a_name_that_is_none_of_a_map_is_refused(out: str) -> None:
    with pytest.raises(UsageError, match=r"map\.nii\.gz|end its name"):
        require_map(out)


def test_the_map_of_a_scan_with_itself_is_empty(model: LoadedModel, tmp_path: Path) -> None:
    data = head_nifti(20)
    scan = prepare(data, RECIPE, name="scan")
    write_map(model, scan, scan, data, str(tmp_path / "map.nii"))
    assert not np.asarray(nib.load(tmp_path / "map.nii").dataobj).any()
