"""Ridge regression of a score on coarse brightness, between people and, with more weight, within them; closed form.

Pure: arrays in, a frozen result out. The penalty is chosen by the error of the change of people who were left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
PENALTIES = tuple(float(10.0**power) for power in np.arange(-3.0, 1.25, 0.5))
"""Penalties tried, in units of the mean square of a difference."""
_NUM_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Ridge:
    """score = weight . features + bias, in points.

    Attributes:
        weight_F: points per unit of brightness.
        bias: points; scores have the training mean on average.
        penalty: the chosen one.
    """

    weight_F: Floats
    bias: float
    penalty: float

    def scores(self, features_NF: npt.ArrayLike) -> Floats:
        """Predicted scores (N,) in points."""
        return np.asarray(np.asarray(features_NF, dtype=np.float64) @ self.weight_F + self.bias)


def fit_ridge(
    features_NF: npt.ArrayLike,
    scores_N: npt.ArrayLike,
    earlier_P: npt.ArrayLike,
    later_P: npt.ArrayLike,
    changes_P: npt.ArrayLike,
    people_P: Sequence[str],
    *,
    seed: int,
) -> Ridge | None:
    """Fit the change of the score to the change of the features.

    Args:
        features_NF: one row for each training scan.
        scores_N: their scores, NaN where unknown; they set the bias alone.
        earlier_P: index of each pair's earlier scan.
        later_P: index of its later scan.
        changes_P: later minus earlier score of each pair, 0 for two scans of one day; finite.
        people_P: whose pair it is.
        seed: divides people into folds, which choose the penalty.

    Returns:
        None where fewer than two people have a pair, or no pair differs.
    """
    feature_NF, score_N = np.asarray(features_NF, dtype=np.float64), np.asarray(scores_N, dtype=np.float64)
    earlier, later = np.asarray(earlier_P, dtype=np.int64), np.asarray(later_P, dtype=np.int64)
    change_P, people = np.asarray(changes_P, dtype=np.float64), np.asarray(people_P)
    difference_PF = feature_NF[later] - feature_NF[earlier]
    names = np.random.default_rng([seed, 0x41D6E]).permutation(np.unique(people))
    if len(names) < 2 or not difference_PF.any():
        return None
    # As many unknowns as pairs instead of features: the solution lies in the space that the differences span.
    gram_PP = difference_PF @ difference_PF.T
    unit = float(np.trace(gram_PP)) / len(gram_PP)
    folds = [np.isin(people, fold) for fold in np.array_split(names, min(_NUM_FOLDS, len(names)))]
    penalty = min(PENALTIES, key=lambda tried: sum(_error(gram_PP, change_P, held_P, tried * unit) for held_P in folds))
    dual_P = np.linalg.solve(gram_PP + penalty * unit * np.eye(len(gram_PP)), change_P)
    weight_F = difference_PF.T @ dual_P
    known_N = np.isfinite(score_N)
    bias = float(np.mean(score_N[known_N] - feature_NF[known_N] @ weight_F))
    return Ridge(weight_F, bias, penalty)


def _error(gram_PP: Floats, change_P: Floats, held_P: npt.NDArray[np.bool_], penalty: float) -> float:
    """Sum of squared errors of the pairs that were left out."""
    kept_P = ~held_P
    dual = np.linalg.solve(gram_PP[np.ix_(kept_P, kept_P)] + penalty * np.eye(int(kept_P.sum())), change_P[kept_P])
    return float(((gram_PP[np.ix_(held_P, kept_P)] @ dual - change_P[held_P]) ** 2).sum())
