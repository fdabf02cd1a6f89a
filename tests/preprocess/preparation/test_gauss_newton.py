"""Least squares on grey values: heads given by a formula, so that the true motion is known and nothing interpolated."""

import numpy as np
import pytest

from preprocess.preparation import gauss_newton
from preprocess.preparation.gauss_newton import register
from preprocess.preparation.head_copy import AROUND_ORIGIN, COPY_GRID
from preprocess.preparation.rigid import farthest_mm, inverse
from tests.support.turned_heads import grey_at, pose

EVERYWHERE = np.ones(COPY_GRID, dtype=bool)
INDEX = np.stack(np.meshgrid(*map(np.arange, COPY_GRID), indexing="ij"), -1).reshape(-1, 3)
POINTS_MM = INDEX @ AROUND_ORIGIN[:3, :3].T + AROUND_ORIGIN[:3, 3]


def seen(head_to_box: np.ndarray, *, gain: float = 1.0, offset: float = 0.0, seed: int = 0) -> np.ndarray:
    back = inverse(head_to_box)
    grey = grey_at(POINTS_MM @ back[:3, :3].T + back[:3, 3])
    noise = np.random.default_rng(seed).normal(0, 10, len(grey))
    return ((grey + noise) * gain + offset).astype(np.float32).reshape(COPY_GRID)


@pytest.mark.parametrize(
    "moved", [pose(), pose((3, -2, 4), (5, -3, 2)), pose((15, 8, -20), (9, -12, 6)), pose((-25, 12, 5), (0, 15, -10))]
)
def test_the_true_motion_is_found_within_a_tenth_of_a_millimetre(moved: np.ndarray) -> None:
    found = register(seen(pose(), seed=1), seen(moved, seed=2), EVERYWHERE, EVERYWHERE, AROUND_ORIGIN, np.eye(4))
    assert farthest_mm(found @ inverse(moved)) < 0.1


def test_brightness_and_contrast_of_the_whole_do_not_matter() -> None:
    moved = pose((3, -2, 4), (5, -3, 2))
    dim = seen(moved, gain=0.3, offset=40, seed=2)
    found = register(seen(pose(), seed=1), dim, EVERYWHERE, EVERYWHERE, AROUND_ORIGIN, np.eye(4))
    assert farthest_mm(found @ inverse(moved)) < 0.1


def test_a_change_of_one_place_pulls_the_head_along_by_less_than_half_of_what_plain_least_squares_allow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved = pose((3, -2, 4), (5, -3, 2))
    changed = seen(moved, seed=2)
    changed[20:34, 36:48, 30:42] = 2500  # 42 x 36 x 36 mm, three times as bright as the brain
    same = (seen(pose(), seed=1), changed, EVERYWHERE, EVERYWHERE, AROUND_ORIGIN, np.eye(4))
    robust_mm = farthest_mm(register(*same) @ inverse(moved))
    monkeypatch.setattr(gauss_newton, "_SCALE", 1e9)
    plain_mm = farthest_mm(register(*same) @ inverse(moved))
    assert robust_mm < 0.5
    assert robust_mm < plain_mm / 2


def test_what_the_moving_scan_does_not_cover_is_not_compared() -> None:
    moved = pose((3, -2, 4), (5, -3, 2))
    cut, is_seen = seen(moved, seed=2), EVERYWHERE.copy()
    is_seen[:, :, :22] = False
    cut[~is_seen] = 0
    found = register(seen(pose(), seed=1), cut, EVERYWHERE, is_seen, AROUND_ORIGIN, np.eye(4))
    assert farthest_mm(found @ inverse(moved)) < 0.15


def test_next_to_nothing_in_common_leaves_the_start() -> None:
    nothing = np.zeros(COPY_GRID, dtype=bool)
    start = pose((1, 2, 3), (4, 5, 6))
    found = register(seen(pose()), seen(pose()), EVERYWHERE, nothing, AROUND_ORIGIN, start)
    assert found == pytest.approx(start)


def test_flat_grey_values_end_without_an_error() -> None:
    flat = np.full(COPY_GRID, 7.0, np.float32)
    found = register(flat, flat, EVERYWHERE, EVERYWHERE, AROUND_ORIGIN, np.eye(4))
    assert np.isfinite(found).all()
