"""The slope against true changes is found from noisy ones where the noise is known."""

import numpy as np
import pytest

from trainer.metrics.told_change import LEAST_TRUE, slope_through_zero, true_spread


def test_the_slope_is_that_of_a_line_through_zero() -> None:
    assert slope_through_zero([1.0, 2.0, -3.0], [2.0, 4.0, -6.0]) == 0.5
    with pytest.raises(ValueError, match="no pair truly changed"):
        slope_through_zero([1.0], [0.0])


def test_a_noisy_test_flattens_the_slope_and_its_known_error_mends_it() -> None:
    draws = np.random.default_rng(0)
    true_P = draws.normal(0, 4, 200_000)
    observed_P = true_P + draws.normal(0, np.sqrt(2) * 2.8, len(true_P))
    told_P = 0.9 * true_P + draws.normal(0, 1.5, len(true_P))

    # 16 / (16 + 2 * 2.8^2) of it is left.
    assert slope_through_zero(told_P, observed_P) == pytest.approx(0.9 * 16 / (16 + 15.68), abs=0.01)
    assert slope_through_zero(told_P, observed_P, change_noise=15.68) == pytest.approx(0.9, abs=0.02)


def test_a_test_that_errs_more_than_anything_changes_leaves_a_tenth() -> None:
    assert true_spread(10.0, 12.0) == pytest.approx(LEAST_TRUE * 10.0)
    assert true_spread(10.0, 0.0) == 10.0
