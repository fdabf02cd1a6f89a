"""Grey levels: each order statistic against numpy's on the voxels themselves, for integers and for floats."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from preprocess.grey_levels import WHOLE_RANGE, GreyLevels, GreyRange
from tests.support.images import head

PERCENTS = (0.0, 0.5, 12.3, 50.0, 98.0, 99.5, 99.9, 100.0)
SMALL = ["uint8", "int8", "uint16", "int16"]


@pytest.mark.parametrize("dtype", [*SMALL, "int32", "float32"])
def test_percentiles_are_numpys_whatever_the_type(dtype: str) -> None:
    high = 120 if dtype.endswith("int8") else 2000
    low = 0 if dtype.startswith("u") else -high
    voxels = np.random.default_rng(0).integers(low, high, (20, 21, 22)).astype(dtype)
    levels = GreyLevels.of(voxels)
    for percent in PERCENTS:
        assert levels.percentile(percent) == pytest.approx(np.percentile(voxels.astype(np.float64), percent), abs=1e-9)


@given(
    st.sampled_from(SMALL).flatmap(lambda dtype: hnp.arrays(dtype, st.integers(1, 60))),
    st.floats(0, 100),
)
def test_a_percentile_of_any_integers_is_numpys(voxels: np.ndarray, percent: float) -> None:
    expected = np.percentile(voxels.astype(np.float64), percent)
    assert GreyLevels.of(voxels).percentile(percent) == pytest.approx(expected, abs=1e-6)


@given(hnp.arrays("int16", st.integers(1, 60)), st.integers(-40_000, 40_000), st.integers(0, 9))
def test_counts_are_those_of_the_voxels(voxels: np.ndarray, threshold: int, width: int) -> None:
    for levels in (GreyLevels.of(voxels), GreyLevels.of(voxels.astype(np.float32))):
        assert levels.num_voxels == voxels.size
        assert levels.num_above(threshold) == np.count_nonzero(voxels > threshold)
        wide = voxels.astype(int)
        expected = np.count_nonzero((wide >= threshold) & (wide < threshold + width))
        assert levels.num_within(threshold, threshold + width) == expected


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_the_histogram_is_numpys(dtype: str) -> None:
    voxels = head().astype(dtype)
    edges = np.linspace(0, 900, 257, dtype=np.float32)
    expected, _ = np.histogram(voxels.astype(np.float32), bins=256, range=(0, 900))
    np.testing.assert_array_equal(GreyLevels.of(voxels).histogram(edges), expected)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
def test_a_kept_range_of_the_levels_is_that_of_the_voxels(dtype: str) -> None:
    voxels, kept = head().astype(dtype), GreyRange(black=17.25, top=800.5)
    expected = np.clip(voxels.astype(np.float64), 17.25, 800.5) - 17.25
    np.testing.assert_allclose(kept.of(voxels), expected, rtol=1e-6)
    assert kept.of(voxels).dtype == np.float32
    within = GreyLevels.of(voxels).within(kept)
    for percent in PERCENTS:
        assert within.percentile(percent) == pytest.approx(np.percentile(expected, percent), rel=1e-6, abs=1e-6)


def test_levels_do_not_depend_on_the_order_of_the_voxels() -> None:
    voxels = head()
    first, second = GreyLevels.of(voxels), GreyLevels.of(np.asfortranarray(voxels)[::-1, :, ::-1].transpose(2, 0, 1))
    np.testing.assert_array_equal(first.values_V, second.values_V)
    np.testing.assert_array_equal(first.ends_V, second.ends_V)


def test_the_whole_range_keeps_every_value_that_is_not_negative() -> None:
    voxels = np.array([-3.0, 0.0, 2.5, 1e30], np.float32)
    np.testing.assert_array_equal(WHOLE_RANGE.of(voxels), np.array([0.0, 0.0, 2.5, 1e30], np.float32))


def test_what_is_written_to_is_what_is_given_back() -> None:
    voxels, out = np.arange(6, dtype=np.int16).reshape(2, 3), np.empty((2, 3), np.float32)
    assert GreyRange(black=1.0, top=4.0).of(voxels, out) is out
    np.testing.assert_array_equal(out, [[0, 0, 1], [2, 3, 3]])
