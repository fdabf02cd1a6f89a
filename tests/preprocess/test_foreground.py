"""Foreground: the threshold against an exhaustive search, the extent against the formula, hot voxels against tissue."""

import numpy as np
import pytest

from preprocess.errors import ScanError
from preprocess.foreground import foreground_box, hot_limit, otsu_threshold, require_foreground
from preprocess.grey_levels import GreyLevels, GreyRange
from preprocess.types import Image
from tests.support.images import centred_affine, head


def image_of(voxels: np.ndarray) -> Image:
    return Image(np.asarray(voxels, dtype=np.float32), centred_affine(voxels.shape), "float32")


def _best_cut(voxels: np.ndarray) -> float:
    """Otsu by brute force over the same 256 bins: the variance between both classes, computed for each cut."""
    low, high = voxels.min(), np.percentile(voxels, 99.5)
    edges = np.linspace(low, high, 257)
    inside = voxels[(voxels >= low) & (voxels <= high)]
    middles = edges[0] + (np.clip(np.digitize(inside, edges) - 1, 0, 255) + 0.5) * (edges[1] - edges[0])
    best, cut = -1.0, low
    for edge in edges[1:-1]:
        below, above = middles[middles < edge], middles[middles > edge]
        if len(below) and len(above):
            between = len(below) * len(above) * (below.mean() - above.mean()) ** 2
            if between > best * (1 + 1e-12):
                best, cut = between, edge
    return float(cut)


@pytest.mark.parametrize("seed", range(4))
def test_otsus_threshold_is_the_one_of_an_exhaustive_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    voxels = np.concatenate([rng.normal(10, 5, 700), rng.normal(100, 10 + 10 * seed, 400)]).astype(np.float32)
    assert otsu_threshold(GreyLevels.of(voxels)) == pytest.approx(_best_cut(voxels), rel=1e-5)


def test_otsu_of_a_constant_is_that_constant() -> None:
    assert otsu_threshold(GreyLevels.of(np.full(10, 3.0, dtype=np.float32))) == 3.0


def test_the_foreground_box_is_the_heads_extent_in_mm() -> None:
    low_mm, high_mm = foreground_box(image_of(head()), 350.0)
    np.testing.assert_allclose(low_mm, [-75, -85, -80], atol=10.5)  # every second voxel of 4 mm, 0.5 % trimmed
    np.testing.assert_allclose(high_mm, [75, 85, 80], atol=10.5)  # every second voxel of 4 mm, 0.5 % trimmed


def test_the_box_is_the_same_before_black_is_put_at_0_and_after() -> None:
    plain = foreground_box(image_of(np.maximum(head() - 20.0, 0)), 330.0)
    np.testing.assert_array_equal(foreground_box(image_of(head()), 330.0, GreyRange(black=20.0)), plain)


def test_less_foreground_than_the_limit_is_a_finding() -> None:
    with pytest.raises(ScanError, match=r"^x: 0.0% of the voxels are foreground, less than 2.0%; leave") as caught:
        require_foreground(GreyLevels.of(np.zeros((48, 48, 48))), 1.0, min_fraction=0.02, name="x")
    assert caught.value.finding.code == "empty"


@pytest.mark.parametrize("offset", [0.0, -1000.0, 500.0])
def test_hot_is_what_lies_far_beyond_all_tissue_whatever_the_offset(offset: float) -> None:
    voxels = head().astype(np.float32) + np.float32(offset)
    limit = hot_limit(GreyLevels.of(voxels[::2, ::2, ::2]))
    assert voxels.max() < limit < offset + 20_000
    voxels[20, 20, 20] = 1e30
    assert hot_limit(GreyLevels.of(voxels[::2, ::2, ::2])) == pytest.approx(limit, rel=0.01)
    assert 4 * voxels[voxels < 1e6].max() < limit or offset < 0  # fat four times as bright as the brain is tissue


def test_where_nothing_but_specks_differ_nothing_is_hot() -> None:
    voxels = np.zeros((48, 48, 48), dtype=np.float32)
    voxels[5, 5, 5] = 9
    assert hot_limit(GreyLevels.of(voxels[::2, ::2, ::2])) == np.inf
