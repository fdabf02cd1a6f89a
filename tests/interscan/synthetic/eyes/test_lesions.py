"""Lesions come with the grade they belong to, in the numbers designed, and where an eye has them."""

import math

import numpy as np
import pytest

from interscan.synthetic.eyes.lesions import DISC, STEP, Lesions, Line, draw_lesions, walk


def _drawn(severity: float, num: int = 60) -> list[Lesions]:
    return [draw_lesions(severity, np.random.default_rng(seed)) for seed in range(num)]


def _kinds(lesions: Lesions) -> tuple[bool, ...]:
    return tuple(
        bool(count) for count in (len(lesions.dots_N3), lesions.num_blots, len(lesions.exudates_N3), lesions.num_tufts)
    )


@pytest.mark.parametrize(
    ("severity", "kinds"),
    [
        (0.0, (False, False, False, False)),
        (1.0, (True, False, False, False)),
        (1.99, (True, False, False, False)),
        (2.0, (True, True, True, False)),
        (3.5, (True, True, True, False)),
        (4.0, (True, True, True, True)),
        (4.99, (True, True, True, True)),
    ],
)
def test_a_grade_has_its_kinds_of_lesions_and_no_others(severity: float, kinds: tuple[bool, ...]) -> None:
    assert {_kinds(lesions) for lesions in _drawn(severity)} == {kinds}


@pytest.mark.parametrize(
    ("severity", "dots", "blots", "tufts"),
    [(1.5, 6.5, 0, 0), (2.5, 12.5, 5.5, 0), (3.5, 19, 20, 0), (4.5, 21, 24, 2.5)],
)
def test_mean_numbers_are_those_of_the_design(severity: float, dots: float, blots: float, tufts: float) -> None:
    drawn = _drawn(severity, 500)
    own = math.exp(0.25**2 / 2)  # the mean of the eye's own log-normal factor
    assert np.mean([len(lesions.dots_N3) for lesions in drawn]) == pytest.approx(dots * own, rel=0.05, abs=0.01)
    assert np.mean([lesions.num_blots for lesions in drawn]) == pytest.approx(blots * own, rel=0.05, abs=0.01)
    assert np.mean([lesions.num_tufts for lesions in drawn]) == pytest.approx(tufts * own, rel=0.06, abs=0.01)


def test_the_area_is_that_of_discs_and_lines_in_the_unit_circle() -> None:
    empty = np.empty((0, 3))
    line = Line(np.column_stack([STEP * np.arange(11), np.zeros(11)]), np.full(11, 0.02))
    spots = Lesions(np.array([[0.0, 0.0, 0.1]]), np.array([[0.5, 0.0, 0.2]]), empty, (), 1, 0)
    assert spots.area == pytest.approx((math.pi * 0.1**2 + math.pi * 0.2**2) / math.pi)
    assert Lesions(empty, empty, empty, (line,), 0, 1).area == pytest.approx(10 * STEP * 0.02 / math.pi)


def test_dots_spare_disc_and_fovea_and_stay_in_the_field() -> None:
    dots_N3 = np.concatenate([lesions.dots_N3 for lesions in _drawn(4.5)])
    assert np.hypot(dots_N3[:, 0] - DISC[0], dots_N3[:, 1] - DISC[1]).min() > 0.2
    assert np.hypot(dots_N3[:, 0], dots_N3[:, 1]).min() > 0.07
    assert np.hypot(dots_N3[:, 0], dots_N3[:, 1]).max() < 0.95


def test_a_walk_takes_even_steps_and_turns_as_told() -> None:
    points_N2, headings_N = walk((0.2, -0.1), 0.3, 0.7, bend=2.0, wobble=0.0, rng=np.random.default_rng(0))
    assert len(points_N2) == len(headings_N) == round(0.7 / STEP)
    np.testing.assert_allclose(points_N2[0], (0.2, -0.1))
    np.testing.assert_allclose(np.linalg.norm(np.diff(points_N2, axis=0), axis=1), STEP)
    # Even steps with even turns lie on a circle whose chords of length s turn by b * s.
    centre_distance = np.linalg.norm(points_N2 - _circle_centre(points_N2[:3]), axis=1)
    np.testing.assert_allclose(centre_distance, STEP / (2 * math.sin(2.0 * STEP / 2)), rtol=1e-9)


def _circle_centre(points_32: np.ndarray) -> np.ndarray:
    """Where the perpendicular bisectors of three points meet."""
    sides = 2 * (points_32[1:] - points_32[0])
    return np.linalg.solve(sides, (points_32[1:] ** 2).sum(axis=1) - (points_32[0] ** 2).sum())
