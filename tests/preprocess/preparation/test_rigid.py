"""Rigid motions, against SciPy's rotations and arithmetic by hand."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from preprocess.preparation.rigid import centred, farthest_mm, inverse, motion, part_of, turn_deg


def turned(degrees: tuple[float, float, float], shift_mm: tuple[float, float, float]) -> np.ndarray:
    return motion(Rotation.from_euler("xyz", degrees, degrees=True).as_matrix(), np.array(shift_mm))


def test_a_motion_and_its_inverse_are_none() -> None:
    one = turned((10, -20, 30), (4, 5, -6))
    assert inverse(one) @ one == pytest.approx(np.eye(4), abs=1e-12)


@pytest.mark.parametrize("degrees", [(0, 0, 0), (3, 1, -2), (100, 20, 40)])
def test_two_halves_make_the_whole(degrees: tuple[float, float, float]) -> None:
    one = turned(degrees, (4, 5, -6))
    half = part_of(one, 0.5)
    assert half @ half == pytest.approx(one, abs=1e-9)
    assert half[:3, :3] @ half[:3, :3].T == pytest.approx(np.eye(3), abs=1e-12)


def test_centred_motions_have_no_mean_and_keep_what_lies_between_them() -> None:
    motions = [turned((5, 0, 3), (1, 2, 3)), turned((-8, 4, 0), (0, 7, 1)), turned((2, -9, 6), (-3, 0, 2))]
    after = centred(motions)
    assert np.mean([one[:3, 3] for one in after], axis=0) == pytest.approx(np.zeros(3), abs=1e-12)
    mean = Rotation.from_matrix([one[:3, :3] for one in after]).mean()
    assert mean.magnitude() == pytest.approx(0, abs=1e-9)
    between = inverse(motions[0]) @ motions[1]
    assert inverse(after[0]) @ after[1] == pytest.approx(between, abs=1e-12)


def test_the_angle_is_that_of_the_rotation() -> None:
    assert turn_deg(turned((0, 0, 37), (9, 9, 9))) == pytest.approx(37)


def test_no_point_of_the_ball_goes_farther_than_is_said() -> None:
    one = turned((6, -3, 2), (1, -2, 4))
    ball = Rotation.random(500, random_state=0).apply([0, 0, 80.0])
    moved = np.linalg.norm(ball @ one[:3, :3].T + one[:3, 3] - ball, axis=1).max()
    assert 0.7 * farthest_mm(one) < moved <= farthest_mm(one)
