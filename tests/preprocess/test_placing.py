"""What is estimated before resampling: the same for any order of the axes, with remarks and refusals."""

import numpy as np
import pytest

from preprocess.errors import ScanError
from preprocess.placing import closest_to_ras, place
from preprocess.recipe import VolumeRecipe
from preprocess.types import Image
from tests.support.turned_heads import pose, turned_head

VOXELS, AFFINE = turned_head(pose((4, 2, -3), (6, -5, 8)))


def test_the_middle_of_the_head_does_not_depend_on_how_the_axes_are_stored() -> None:
    plain = place(Image(VOXELS, AFFINE, "int16"), VolumeRecipe(), name="x")
    turned = np.eye(4)
    turned[:3, :3] = [[0, 0, -1], [1, 0, 0], [0, 1, 0]]
    turned[0, 3] = VOXELS.shape[0] - 1
    stored = np.ascontiguousarray(VOXELS[::-1].transpose(1, 2, 0))
    other = place(Image(stored, AFFINE @ turned, "int16"), VolumeRecipe(), name="x")
    assert np.array_equal(plain.centre_mm, other.centre_mm)
    assert np.array_equal(plain.image.voxels_XYZ, other.image.voxels_XYZ)
    assert plain.centre_mm == pytest.approx((6, -5, 8), abs=3)


def test_axes_come_out_towards_right_anterior_superior() -> None:
    flipped = closest_to_ras(Image(VOXELS, AFFINE @ np.diag([-1.0, 1, -1, 1]), "int16"))
    assert (np.diag(flipped.affine)[:3] > 0).all()


def test_hot_voxels_are_a_remark_and_an_empty_scan_is_refused() -> None:
    hot = VOXELS.astype(np.float32)
    hot[3, 3, 3] = 1e9
    assert [one.code for one in place(Image(hot, AFFINE, "float32"), VolumeRecipe(), name="x").findings] == [
        "hot_voxels"
    ]
    flat = np.zeros_like(VOXELS)
    flat[0, 0, 0] = 5
    with pytest.raises(ScanError, match="foreground"):
        place(Image(flat, AFFINE, "int16"), VolumeRecipe(), name="x")
