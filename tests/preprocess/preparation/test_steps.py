"""What is carried to the one resampling: a shading is interpolated where the grid's places lie."""

import numpy as np
import pytest

from preprocess.preparation.steps import NO_STEPS, BiasField


def test_a_shading_is_read_at_the_places_of_a_turned_grid() -> None:
    ticks = np.arange(10.0) * 3
    # Log-linear along x: exact under linear interpolation, exp(0.01 mm).
    field = BiasField(
        np.broadcast_to(0.01 * ticks[:, None, None], (10, 10, 10)).astype(np.float32), np.diag([3.0, 3, 3, 1]), 1.2, 5
    )
    turned = np.eye(4)
    turned[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    turned[0, 3] = 20
    found = field.at(turned, (4, 5, 6))
    expected = np.exp(0.01 * (20 - np.arange(5)))
    assert found.shape == (4, 5, 6)
    assert found[2, :, 3] == pytest.approx(expected, rel=1e-6)


def test_beyond_its_grid_a_shading_goes_on_as_at_its_edge() -> None:
    field = BiasField(np.log(np.full((4, 4, 4), 2.0, np.float32)), np.diag([3.0, 3, 3, 1]), 1, 1)
    far = np.eye(4)
    far[:3, 3] = 1000
    assert field.at(far, (2, 2, 2)) == pytest.approx(np.full((2, 2, 2), 2.0))


def test_nothing_is_done_unasked() -> None:
    assert (NO_STEPS.pose, NO_STEPS.bias, NO_STEPS.mask) == (None, None, None)
