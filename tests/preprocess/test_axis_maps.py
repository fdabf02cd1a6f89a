"""One map an axis against scipy's own filter and interpolation of the whole scan, both in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter1d, map_coordinates

from preprocess.axis_maps import AxisMap, apply_axis_maps, axis_map
from preprocess.grey_levels import WHOLE_RANGE, GreyRange

Floats = np.ndarray


def in_two_steps(voxels_XYZ: Floats, positions: list[Floats], sigmas: list[float], kept: GreyRange) -> Floats:
    """Cut the grey values, smooth every voxel, then interpolate; zeros outside."""
    smooth = np.clip(voxels_XYZ.astype(np.float64), kept.black, kept.top) - kept.black
    for axis, sigma in enumerate(sigmas):
        if sigma > 0:
            smooth = gaussian_filter1d(smooth, sigma, axis=axis, truncate=2.5, mode="nearest")
    return map_coordinates(smooth, np.meshgrid(*positions, indexing="ij"), order=1, mode="grid-constant", cval=0.0)


def maps_of(voxels_XYZ: Floats, positions: list[Floats], sigmas: list[float]) -> tuple[AxisMap, AxisMap, AxisMap]:
    first, second, third = map(axis_map, voxels_XYZ.shape, positions, sigmas)
    return first, second, third


CASES = {
    "twice as coarse": ((30, 34, 28), (2.0, 2.0, 2.0), (0.3, 1.0, -0.4), (0.74, 0.74, 0.74)),
    "anisotropic": ((40, 24, 12), (3.1, 2.0, 0.8), (0.0, 2.5, 0.25), (1.2, 0.7, 0.0)),
    "beyond the field of view on all sides": ((9, 8, 7), (1.5, 1.5, 1.5), (-6.2, -5.5, -4.1), (0.5, 0.5, 0.5)),
    "one voxel thick": ((1, 12, 14), (0.5, 1.0, 1.3), (-1.2, 0.2, 0.0), (0.0, 0.4, 0.6)),
    "one voxel thick and smoothed": ((12, 1, 14), (1.2, 0.5, 1.3), (0.1, -1.2, 0.0), (0.5, 0.8, 0.6)),
    "on the voxels": ((12, 12, 12), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
    "much coarser": ((60, 20, 70), (16.0, 8.0, 20.0), (2.0, 1.0, 3.0), (6.8, 3.3, 9.0)),
}


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_one_map_an_axis_is_smoothing_then_interpolation(name: str, dtype: str) -> None:
    shape, steps, starts, sigmas = CASES[name]
    voxels = np.random.default_rng(0).integers(0, 250, shape).astype(dtype)
    positions = [
        start + step * np.arange(16 + axis) for axis, (start, step) in enumerate(zip(starts, steps, strict=True))
    ]
    kept = GreyRange(black=12.5, top=200.0)
    found = apply_axis_maps(voxels, maps_of(voxels, positions, list(sigmas)), kept)
    expected = in_two_steps(voxels, positions, list(sigmas), kept)
    assert found.shape == (16, 17, 18)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=250 * 2e-6)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_any_axes_give_what_scipy_gives(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 20)] * 3))
    starts = data.draw(st.tuples(*[st.floats(-30, 30)] * 3))
    steps = data.draw(st.tuples(*[st.floats(0.1, 6)] * 3))
    sigmas = data.draw(st.tuples(*[st.just(0.0) | st.floats(0.05, 3)] * 3))
    voxels = np.random.default_rng(1).normal(0, 100, shape).astype(np.float32)
    positions = [start + step * np.arange(5) for start, step in zip(starts, steps, strict=True)]
    found = apply_axis_maps(voxels, maps_of(voxels, positions, list(sigmas)), GreyRange(-500.0, 500.0))
    np.testing.assert_allclose(found, in_two_steps(voxels, positions, list(sigmas), GreyRange(-500, 500)), atol=2e-3)


def test_a_grid_beside_the_scan_is_black() -> None:
    voxels = np.full((5, 6, 7), 100, np.int16)
    positions = [np.arange(4.0), np.arange(4.0) + 50, np.arange(4.0)]
    found = apply_axis_maps(voxels, maps_of(voxels, positions, [0.7] * 3), WHOLE_RANGE)
    np.testing.assert_array_equal(found, np.zeros((4, 4, 4)))


@pytest.mark.parametrize("axes", [(0, 1, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, 1), (1, -1, 1), (-1, -1, -1)])
def test_the_order_of_the_voxels_in_memory_changes_no_bit(axes: tuple[int, ...], signs: tuple[int, ...]) -> None:
    voxels = np.random.default_rng(2).integers(-50, 900, (20, 24, 22)).astype(np.int16)
    positions = [0.37 + 1.9 * np.arange(9)] * 3
    maps = maps_of(voxels, positions, [0.73] * 3)
    turn = tuple(slice(None, None, sign) for sign in signs)
    # The same voxels at the same places, stored with the axes in another order and direction.
    stored = np.ascontiguousarray(voxels[turn].transpose(axes))
    same = stored.transpose(np.argsort(axes))[turn]
    np.testing.assert_array_equal(same, voxels)
    kept = GreyRange(3.5, 700.0)
    np.testing.assert_array_equal(apply_axis_maps(same, maps, kept), apply_axis_maps(voxels, maps, kept))


def test_integers_and_floats_of_the_same_values_give_the_same_bits() -> None:
    voxels = np.random.default_rng(3).integers(0, 900, (20, 24, 22))
    maps = maps_of(voxels, [0.37 + 1.9 * np.arange(9)] * 3, [0.73] * 3)
    first, second = (apply_axis_maps(voxels.astype(kind), maps, GreyRange(3.5, 700.0)) for kind in ("int16", "float32"))
    np.testing.assert_array_equal(first, second)


def test_the_weights_of_a_sample_inside_sum_to_one_and_reach_no_further_than_they_say() -> None:
    one = axis_map(50, 3.0 + 2.2 * np.arange(20), 0.9)
    np.testing.assert_allclose(one.weights_KT.sum(axis=1), 1.0, atol=1e-6)
    assert one.reach == slice(1, 48)
    assert axis_map(50, np.array([-9.0, -5.0]), 0.9).reach == slice(0, 0)
