"""Shares of a function that can be integrated by hand, and a density whose sum is what was shared out."""

import numpy as np
import pytest
import torch

from preprocess.voxel_shares import NUM_STEPS, density_per_cm3, share_of_line, voxel_shares


def squares(volumes_BCDHW: torch.Tensor) -> torch.Tensor:
    """The sum of squares, and the plain sum, of a volume."""
    flat = volumes_BCDHW.flatten(1)
    return torch.stack([flat.square().sum(dim=1), flat.sum(dim=1)], dim=1)


def test_the_shares_of_a_square_are_the_differences_of_squares() -> None:
    draws = np.random.default_rng(0)
    earlier, later = (torch.from_numpy(draws.random((1, 2, 3, 4, 5), dtype=np.float32)) for _ in range(2))
    weights_E = np.array([2.0, -1.0])

    shares_DHW = voxel_shares(lambda part: share_of_line(squares, earlier, later, part, weights_E))

    # The midpoint rule is exact for a gradient that is linear along the line.
    by_hand = (2 * (later**2 - earlier**2) - (later - earlier))[0].sum(dim=0).numpy()
    np.testing.assert_allclose(shares_DHW, by_hand, atol=1e-5)
    assert shares_DHW.dtype == np.float64


def test_the_line_is_asked_in_the_middle_of_equal_parts() -> None:
    asked: list[float] = []

    def share_at(part: float) -> np.ndarray:
        asked.append(part)
        return np.full((1, 2, 2, 2), part)

    assert voxel_shares(share_at) == pytest.approx(0.5)
    assert asked == pytest.approx([(number + 0.5) / NUM_STEPS for number in range(NUM_STEPS)])


def test_a_density_times_the_volume_is_what_was_shared_out() -> None:
    shares_DHW = np.zeros((60, 60, 60))
    shares_DHW[30, 28, 31] = -3.0

    density_DHW = density_per_cm3(shares_DHW, (2.0, 2.0, 1.5))

    assert density_DHW.sum() * 2.0 * 2.0 * 1.5 / 1000 == pytest.approx(-3.0, rel=1e-3)
    assert np.unravel_index(np.abs(density_DHW).argmax(), density_DHW.shape) == (30, 28, 31)
