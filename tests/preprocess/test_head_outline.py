"""The outline: on the surface of an ellipsoid, the same for any memory order, without what was padded or hollow."""

import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes

from preprocess.grey_levels import WHOLE_RANGE, GreyRange
from preprocess.head_outline import _blocks, _filled, find_outline
from preprocess.types import Image
from tests.support.images import centred_affine, head

HALF_AXES_MM = np.array([75.0, 85.0, 80.0])


def image_of(voxels: np.ndarray, spacing_mm: float = 4.0) -> Image:
    return Image(voxels, centred_affine(voxels.shape, spacing_mm), voxels.dtype.name)


def test_its_points_lie_on_the_surface_and_were_seen_from_outside() -> None:
    found = find_outline(image_of(head()), GreyRange(black=20.0))
    assert found is not None
    radius = np.linalg.norm(found.points_3N / HALF_AXES_MM[:, None], axis=0)
    assert np.median(np.abs(radius - 1)) < 0.03
    np.testing.assert_allclose(np.linalg.norm(found.outward_3N, axis=0), 1.0)
    assert ((found.points_3N * found.outward_3N).sum(axis=0) > 0).all()


def test_an_empty_scan_has_none() -> None:
    assert find_outline(image_of(np.zeros((48, 48, 48), np.int16)), WHOLE_RANGE) is None


@pytest.mark.parametrize("edge", [1, 3, 4])
def test_a_block_is_the_mean_of_its_voxels(edge: int) -> None:
    voxels = head()
    image = image_of(voxels, 4.0 / edge)
    blocks, affine = _blocks(image, GreyRange(black=20.5, top=900.0))
    dark = np.clip(voxels.astype(np.float64), 20.5, 900.0) - 20.5
    count = 48 // edge
    expected = dark[: count * edge, : count * edge, : count * edge].reshape(count, edge, count, edge, count, edge)
    np.testing.assert_allclose(blocks, expected.mean(axis=(1, 3, 5)), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(np.diag(affine)[:3], 4.0)
    np.testing.assert_allclose(affine[:3, 3], image.affine[:3, 3] + (edge - 1) / 2 * 4.0 / edge)


@pytest.mark.parametrize("axes", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (-1, -1, -1)])
def test_blocks_of_the_same_voxels_in_another_order_have_the_same_bits(
    axes: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    voxels = head()[:46, :47]
    turn = tuple(slice(None, None, sign) for sign in signs)
    same = np.ascontiguousarray(voxels[turn].transpose(axes)).transpose(np.argsort(axes))[turn]
    first, second = (_blocks(image_of(one, 1.3), GreyRange(black=19.3))[0] for one in (voxels, same))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("seed", range(3))
def test_holes_are_filled_plane_by_plane_as_scipy_fills_them(seed: int) -> None:
    is_bright = np.random.default_rng(seed).random((20, 21, 22)) < 0.55
    expected = np.stack([binary_fill_holes(is_bright[..., z]) for z in range(22)], axis=2)
    np.testing.assert_array_equal(_filled(is_bright), expected)


def test_padding_that_a_cut_was_filled_up_with_is_no_outline() -> None:
    padded = head()
    padded[:, :, :16] = 0  # cut through the neck's side of the head, where the plane is full
    points_mm = find_outline(image_of(padded), GreyRange(black=0.0)).points_3N  # type: ignore[union-attr]
    cut_mm = (16 - 23.5) * 4.0
    assert points_mm[2].min() > cut_mm - 4.0
