"""How much of a true change is told, where the true change is only known with the error of the test behind the score.

Observed changes scatter more than the true ones. A slope against them is therefore too flat, by the factor by which
their mean square is too large (attenuation; Spearman 1904, Fuller 1987); where the test's error is known, that is
taken off.
"""

import numpy as np
import numpy.typing as npt

LEAST_TRUE = 0.1
"""Share of the observed mean square that is taken for true at least: a test that errs more shows nothing of change."""


def true_spread(mean_square: float, change_noise: float) -> float:
    """Mean square of the true changes.

    Args:
        mean_square: mean square of the observed changes.
        change_noise: variance of the test's own error in them, `OutcomeSpec.change_noise`; 0 where unknown.
    """
    return max(mean_square - change_noise, LEAST_TRUE * mean_square)


def slope_through_zero(told_P: npt.ArrayLike, observed_P: npt.ArrayLike, *, change_noise: float = 0.0) -> float:
    """Slope of told against true changes of a line through 0, by least squares.

    Args:
        told_P: told changes.
        observed_P: true changes as the test shows them.
        change_noise: variance of the test's own error in them; 0 where unknown.

    Raises:
        ValueError: nothing changed.
    """
    told, observed = np.asarray(told_P, dtype=np.float64), np.asarray(observed_P, dtype=np.float64)
    if not observed.any():
        raise ValueError("no pair truly changed, so there is no slope")
    return float(np.mean(told * observed)) / true_spread(float(np.mean(observed**2)), change_noise)
