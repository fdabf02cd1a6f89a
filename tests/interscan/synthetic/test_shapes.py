"""Level functions against closed forms: spheres, capsules, blended unions, ramps."""

import itertools

import numpy as np
import pytest

from interscan.synthetic.shapes import coverage, ellipsoid, mirrored, tube, union


def _cloud(num_points: int = 500) -> np.ndarray:
    return np.random.default_rng(0).uniform(-20, 20, (3, num_points)).astype(np.float32)


def test_an_ellipsoid_with_equal_radii_is_a_sphere() -> None:
    points = _cloud()
    expected = np.linalg.norm(points - np.array([[1.0], [2.0], [3.0]]), axis=0) - 7
    np.testing.assert_allclose(ellipsoid(points, (1.0, 2.0, 3.0), (7.0, 7.0, 7.0)), expected, atol=1e-4)


def test_an_ellipsoid_is_zero_on_its_surface_and_finite_at_its_centre() -> None:
    directions = _cloud()
    directions /= np.linalg.norm(directions, axis=0)
    surface = directions * np.array([[5.0], [9.0], [3.0]], np.float32)
    np.testing.assert_allclose(ellipsoid(surface, (0.0, 0.0, 0.0), (5.0, 9.0, 3.0)), 0, atol=1e-4)
    assert ellipsoid(np.zeros((3, 1), np.float32), (0.0, 0.0, 0.0), (5.0, 9.0, 3.0))[0] == -3.0


def test_a_tube_is_as_far_as_the_nearest_point_of_its_axis() -> None:
    points = _cloud(200)
    knots = [(0.0, 0.0, 0.0), (10.0, 0.0, 0.0), (10.0, 8.0, 0.0)]
    share = np.linspace(0, 1, 2001)
    axis = np.concatenate([np.outer(a, 1 - share) + np.outer(b, share) for a, b in itertools.pairwise(knots)], axis=1)
    brute = np.array([np.linalg.norm(axis - point[:, None], axis=0).min() for point in points.T]) - 2
    np.testing.assert_allclose(tube(points, knots, [2.0, 2.0, 2.0]), brute, atol=1e-2)


def test_a_tube_of_one_knot_is_refused() -> None:
    with pytest.raises(ValueError, match="two knots or more, not 1"):
        tube(_cloud(), [(0.0, 0.0, 0.0)], [1.0])


def test_a_union_is_the_minimum_and_a_blend_adds_at_most_a_quarter() -> None:
    a, b = _cloud()[:2]
    np.testing.assert_array_equal(union(a, b), np.minimum(a, b))
    added = np.minimum(a, b) - union(a, b, blend_mm=8.0)
    assert added.min() >= 0
    assert added.max() <= 2.0 + 1e-5
    far = np.abs(a - b) > 8
    np.testing.assert_array_equal(added[far], 0)
    assert added.max() > 1


def test_mirroring_leaves_the_points_it_was_given_alone() -> None:
    points = _cloud()
    before = points.copy()
    folded = mirrored(points)
    np.testing.assert_array_equal(points, before)
    np.testing.assert_array_equal(folded[0], np.abs(before[0]))
    np.testing.assert_array_equal(folded[1:], before[1:])


@pytest.mark.parametrize("offset_mm", [0.0, 0.3, 0.77])
def test_coverage_of_a_slab_sums_to_its_width_wherever_it_lies_on_the_grid(offset_mm: float) -> None:
    centres = np.arange(-20, 20, 2.0, dtype=np.float32)
    level = np.abs(centres - np.float32(offset_mm)) - np.float32(6.5)
    assert coverage(level, 2.0).sum() * 2.0 == pytest.approx(13.0, abs=1e-4)
