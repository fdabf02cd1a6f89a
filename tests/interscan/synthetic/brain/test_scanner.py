"""Scanners: the noise is Rician, the bias smooth, the lattice the protocol's."""

import nibabel as nib
import numpy as np
import pytest
from scipy import stats

from interscan.synthetic.brain.phantom import Tissue, draw_anatomy
from interscan.synthetic.brain.scanner import FIELD_OF_VIEW_MM, SCANNERS, _bias, _magnitude, acquire, grid_of
from interscan.synthetic.waves import draw_waves


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name)
@pytest.mark.parametrize("spacing_mm", [1.0, 2.0])
def test_the_lattice_has_the_protocols_edges_and_covers_its_field_of_view(scanner, spacing_mm: float) -> None:
    grid = grid_of(scanner, spacing_mm)
    np.testing.assert_allclose(grid.spacing_mm, np.multiply(scanner.spacing_mm, spacing_mm))
    extent = np.multiply(grid.shape_XYZ, grid.spacing_mm)
    assert np.abs(extent - FIELD_OF_VIEW_MM).max() <= max(grid.spacing_mm) / 2
    assert nib.aff2axcodes(grid.affine) == ("R", "A", "S")


def test_both_fields_of_view_have_the_same_centre() -> None:
    first, second = (
        nib.affines.apply_affine(grid.affine, (np.array(grid.shape_XYZ) - 1) / 2)
        for grid in (grid_of(scanner, 1.0) for scanner in SCANNERS)
    )
    np.testing.assert_allclose(first, second)


@pytest.mark.parametrize("signal", [0.0, 40.0, 300.0])
def test_magnitudes_have_the_moments_of_scipys_rice_distribution(signal: float) -> None:
    made = _magnitude(np.full((20, 50, 50), signal, np.float32), 20.0, np.random.default_rng(0))
    rice = stats.rice(signal / 20.0, scale=20.0)
    assert made.dtype == np.int16
    assert made.mean() == pytest.approx(rice.mean(), abs=0.4)
    assert made.std() == pytest.approx(rice.std(), rel=0.03)


def test_too_bright_a_signal_is_clipped_and_does_not_wrap() -> None:
    made = _magnitude(np.full((1, 4, 4), 1e6, np.float32), 1.0, np.random.default_rng(0))
    assert (made == 32767).all()


def test_the_bias_is_positive_smooth_and_mostly_the_coils_own() -> None:
    scanner, grid = SCANNERS[0], grid_of(SCANNERS[0], 4.0)
    coil = draw_waves(np.random.default_rng(scanner.coil_seed), 4, 220, 420)
    monday, tuesday = (
        _bias(scanner, coil, draw_waves(np.random.default_rng(seed), 4, 180, 400), grid) for seed in (1, 2)
    )
    assert monday.min() > 0.4
    assert monday.max() < 2.0
    assert max(np.abs(np.diff(monday, axis=axis)).max() for axis in range(3)) < 0.05
    assert np.corrcoef(monday.ravel(), tuesday.ravel())[0, 1] > 0.7
    assert not np.array_equal(monday, tuesday)


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name)
def test_tissues_are_ordered_as_in_a_t1w_picture(scanner) -> None:
    s = scanner.signal
    assert s[Tissue.AIR] < s[Tissue.BONE] < s[Tissue.CSF] < s[Tissue.CORTEX] < s[Tissue.DEEP_GREY] < s[Tissue.WHITE]
    assert s[Tissue.WHITE] < s[Tissue.FAT]
    assert s[Tissue.VENTRICLE] == s[Tissue.CSF]
    assert set(s) == set(Tissue)


def test_a_second_scan_differs_and_the_same_stream_repeats_the_first() -> None:
    anatomy, scanner = draw_anatomy(np.random.default_rng(0)), SCANNERS[1]
    grid = grid_of(scanner, 6.0)
    first, again, other = (acquire(anatomy, 0.3, scanner, grid, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.shape == grid.shape_XYZ
    assert np.corrcoef(first.ravel(), other.ravel())[0, 1] > 0.8
    assert (first != other).mean() > 0.5
