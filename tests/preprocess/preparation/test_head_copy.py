"""The coarse copy: a place of the head lies where its affine says, and what was not scanned is known."""

import numpy as np

from preprocess.placing import place
from preprocess.preparation.head_copy import AROUND_ORIGIN, EDGE, SPACING_MM, copy_head
from preprocess.recipe import VolumeRecipe
from preprocess.types import Image
from tests.support.turned_heads import grey_at, pose, turned_head

POSE = pose((6, -4, 9), (5, -7, 3))


def test_grey_values_lie_where_the_affine_says() -> None:
    copy = copy_head(place(Image(*turned_head(POSE, noise=0), "int16"), VolumeRecipe(), name="x"))
    index = np.stack(np.meshgrid(*[np.arange(EDGE)] * 3, indexing="ij"), -1).reshape(-1, 3)
    scanner_mm = index @ copy.affine[:3, :3].T + copy.affine[:3, 3]
    back = np.linalg.inv(POSE)
    true = grey_at(scanner_mm @ back[:3, :3].T + back[:3, 3])
    assert np.corrcoef(true, copy.values_XYZ.ravel())[0, 1] > 0.98
    assert np.array_equal(copy.affine[:3, :3], AROUND_ORIGIN[:3, :3])
    assert np.abs(copy.affine[:3, 3] - AROUND_ORIGIN[:3, 3] - copy.centre_mm).max() < 1e-9


def test_what_lies_beyond_the_scan_is_not_seen() -> None:
    voxels, affine = turned_head(POSE)
    copy = copy_head(place(Image(voxels[:, :, 12:], affine @ _shifted(12), "int16"), VolumeRecipe(), name="x"))
    lowest_mm = (affine @ [0, 0, 12, 1])[2]
    heights_mm = copy.affine[2, 3] + SPACING_MM * np.arange(EDGE)
    seen = copy.is_seen_XYZ[EDGE // 2, EDGE // 2]
    assert np.array_equal(seen, heights_mm >= lowest_mm)


def test_a_shading_is_divided_out() -> None:
    copy = copy_head(place(Image(*turned_head(POSE), "int16"), VolumeRecipe(), name="x"))
    assert np.array_equal(copy.divided_by(np.full_like(copy.values_XYZ, 2)).values_XYZ, copy.values_XYZ / 2)


def _shifted(planes: int) -> np.ndarray:
    moved = np.eye(4)
    moved[2, 3] = planes
    return moved
