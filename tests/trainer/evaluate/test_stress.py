"""Spoilt scans: each corruption against its definition, and the same every time."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tests.support.looks import head
from trainer.evaluate.stress import CORRUPTIONS, corruptions, slices_3_9_mm

SPACING_MM = 2.0
VOLUME = head(4)[0]


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_corruption_is_deterministic_stays_in_the_unit_range_and_changes_the_scan(kind: str) -> None:
    before = VOLUME.copy()

    first, second = (CORRUPTIONS[kind](VOLUME, SPACING_MM) for _ in range(2))

    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(VOLUME, before)
    assert (first.shape, first.dtype) == (VOLUME.shape, np.float32)
    assert first.min() >= 0
    assert first.max() <= 1 + 1e-5
    assert np.abs(first - VOLUME).mean() > 1e-3


def test_turned_and_moved_scans_hold_the_same_voxels_elsewhere() -> None:
    for kind, axis in (("mirrored", 0), ("back_to_front", 1), ("upside_down", 2)):
        np.testing.assert_array_equal(CORRUPTIONS[kind](VOLUME, SPACING_MM), np.flip(VOLUME, axis))
    moved = CORRUPTIONS["shifted_20_mm"](VOLUME, SPACING_MM)
    np.testing.assert_array_equal(moved[:, :, 10:], VOLUME[:, :, :-10])
    assert not moved[:, :, :10].any()
    np.testing.assert_array_equal(
        np.sort(CORRUPTIONS["shuffled"](VOLUME, SPACING_MM), axis=None), np.sort(VOLUME, axis=None)
    )


def test_a_fifth_is_salt_half_is_empty_and_a_blur_of_3_mm_is_scipy_s() -> None:
    salted = CORRUPTIONS["salt_20_percent"](VOLUME, SPACING_MM)
    assert (salted == 1).mean() == pytest.approx(0.2, abs=0.01)
    assert ((salted == VOLUME) | (salted == 1)).all()
    half = CORRUPTIONS["half_empty"](VOLUME, SPACING_MM)
    assert not half[16:].any()
    np.testing.assert_array_equal(half[:16], VOLUME[:16])
    # Full width at half maximum of a Gaussian is 2 sqrt(2 ln 2) standard deviations.
    sigma = 3.0 / SPACING_MM / (2 * np.sqrt(2 * np.log(2)))
    np.testing.assert_allclose(
        CORRUPTIONS["blurred_3_mm"](VOLUME, SPACING_MM), gaussian_filter(VOLUME, sigma), atol=1e-4
    )


def test_a_slice_is_the_mean_over_its_thickness_and_between_slices_brightness_is_linear() -> None:
    ramp = np.broadcast_to(np.arange(39, dtype=np.float32) / 39, (2, 2, 39))
    step = np.zeros((1, 1, 39), np.float32)
    step[..., 20:] = 1.0

    # Means and linear interpolation leave a ramp as it is, but for the outer halves of the outer slices.
    np.testing.assert_allclose(slices_3_9_mm(ramp, 1.3)[:, :, 1:-1], ramp[:, :, 1:-1], atol=1e-5)
    # Slices of three voxels: voxels 18 to 20 are one slice with a third of it above the step.
    found = slices_3_9_mm(step, 1.3)[0, 0]
    np.testing.assert_allclose(found[16:24], [0, 0, 1 / 9, 1 / 3 + 0, 5 / 9, 7 / 9, 1, 1][:8], atol=0.12)
    assert found[19] == pytest.approx(1 / 3, abs=1e-5)


def test_flair_like_grey_matter_is_brighter_than_white_matter_and_csf_dark() -> None:
    flair = CORRUPTIONS["flair_like"](VOLUME, SPACING_MM)
    axes = [np.linspace(-1.0, 1.0, edge) ** 2 for edge in VOLUME.shape]
    middle = axes[0][:, None, None] + axes[1][:, None] + axes[2] <= 0.36
    csf, grey, white = np.percentile(VOLUME[middle], (5, 40, 85))

    def became(level: float) -> float:
        return float(flair.ravel()[np.abs(VOLUME - level).argmin()])

    assert became(csf) == pytest.approx(0.1, abs=0.02)
    assert became(grey) == pytest.approx(0.9, abs=0.02)
    assert became(white) == pytest.approx(0.55, abs=0.02)


def test_what_coarse_voxels_cannot_show_is_left_out() -> None:
    assert corruptions(2.0).keys() == CORRUPTIONS.keys()
    assert CORRUPTIONS.keys() - corruptions(3.5).keys() == {"blurred_3_mm"}
    assert CORRUPTIONS.keys() - corruptions(6.0).keys() == {"blurred_3_mm", "slices_3_9_mm"}
    with pytest.raises(ValueError, match=r"voxels of 6 mm are no finer"):
        slices_3_9_mm(VOLUME, 6.0)
