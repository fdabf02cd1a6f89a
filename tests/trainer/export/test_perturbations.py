"""Each perturbation does what its name says, by an amount known from outside, and leaves the rest of the scan alone."""

import numpy as np
import pytest

from preprocess.types import Image
from trainer.export.perturbations import PERTURBATIONS, mirrored, noisier, resampled, shaded, shifted, turned

AFFINE = np.array([[2.0, 0, 0, -31], [0, 2.0, 0, -20], [0, 0, 2.0, -10], [0, 0, 0, 1]])


def image(seed: int = 0) -> Image:
    voxels = np.random.default_rng(seed).random((32, 24, 20), dtype=np.float32)
    return Image(voxels, AFFINE.copy(), "float32")


def test_the_mirror_exchanges_the_first_axis_which_runs_from_left_to_right() -> None:
    np.testing.assert_array_equal(mirrored(image(), 0).voxels_XYZ, np.flip(image().voxels_XYZ, 0))


@pytest.mark.parametrize(("number", "axis", "step"), [(0, 0, 1), (1, 1, 1), (2, 2, 1), (3, 0, -1), (5, 2, -1)])
def test_a_shift_of_two_millimetres_is_one_voxel_of_two(number: int, axis: int, step: int) -> None:
    moved = np.moveaxis(shifted(image(), number).voxels_XYZ, axis, 0)
    before = np.moveaxis(image().voxels_XYZ, axis, 0)
    if step > 0:
        np.testing.assert_array_equal(moved[1:], before[:-1])
    else:
        np.testing.assert_array_equal(moved[:-1], before[1:])


@pytest.mark.parametrize("number", range(6))
def test_a_turn_is_two_degrees_about_the_middle_and_touches_no_voxel(number: int) -> None:
    after = turned(image(), number)
    np.testing.assert_array_equal(after.voxels_XYZ, image().voxels_XYZ)
    middle = np.array([15.5, 11.5, 9.5, 1.0])
    np.testing.assert_allclose(after.affine @ middle, AFFINE @ middle, atol=1e-9)
    relative = after.affine[:3, :3] @ np.linalg.inv(AFFINE[:3, :3])
    angle = np.degrees(np.arccos((np.trace(relative) - 1) / 2))
    assert angle == pytest.approx(2.0, abs=1e-6)
    assert np.linalg.det(relative) == pytest.approx(1.0)


def test_shading_runs_from_four_fifths_to_six_fifths_without_an_edge() -> None:
    ratio = shaded(image(), 4).voxels_XYZ / image().voxels_XYZ
    assert (ratio.min(), ratio.max()) == pytest.approx((0.8, 1.2), abs=1e-4)
    assert max(float(np.abs(np.diff(ratio, axis=axis)).max()) for axis in range(3)) < 0.08


def test_noise_is_rician_with_three_per_cent_of_the_bright_tissue() -> None:
    flat = np.zeros((40, 40, 40), np.float32)
    flat[20:] = 2.0
    noisy = noisier(Image(flat, AFFINE, "float32"), 1).voxels_XYZ
    assert noisy[20:].std() == pytest.approx(0.06, rel=0.05)
    # Where there is no signal the magnitude is Rayleigh distributed, with mean sigma sqrt(pi / 2).
    assert noisy[:20].mean() == pytest.approx(0.06 * np.sqrt(np.pi / 2), rel=0.02)


@pytest.mark.parametrize("number", range(3))
def test_longer_voxels_show_the_same_thing_at_the_same_place(number: int) -> None:
    index = np.indices((32, 24, 20)).reshape(3, -1)
    ramp = (AFFINE[:3, :3] @ index + AFFINE[:3, 3:])[number].reshape(32, 24, 20).astype(np.float32)
    after = resampled(Image(ramp, AFFINE, "float32"), number)
    assert after.spacing_mm[number] == pytest.approx(2.4)
    shown = np.indices(after.voxels_XYZ.shape).reshape(3, -1)
    position = (after.affine[:3, :3] @ shown + after.affine[:3, 3:])[number].reshape(after.voxels_XYZ.shape)
    np.testing.assert_allclose(after.voxels_XYZ, position, atol=1e-4)


@pytest.mark.parametrize("name", sorted(PERTURBATIONS))
def test_the_same_case_is_perturbed_the_same_way_twice(name: str) -> None:
    perturb, words = PERTURBATIONS[name]
    first, second = perturb(image(), 3), perturb(image(), 3)
    np.testing.assert_array_equal(first.voxels_XYZ, second.voxels_XYZ)
    np.testing.assert_array_equal(first.affine, second.affine)
    assert words
