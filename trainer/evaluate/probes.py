"""The linear probe on frozen features, and what it shares with the probe of mlp_probe.py.

Everything that is fitted, from the imputer to the model, sees training subjects only. Missing features are NaN and
become the training median; features are then scaled by the training mean and sd. Penalties and thresholds come from
validation subjects.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_curve
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.generic]

RIDGE_PENALTIES = (10.0, 1.0, 0.1, 0.01, 0.001)
"""L2 penalties per row as in head.py, the largest first; scikit-learn's alpha is penalty * rows."""
TIE = 1e-12
"""Sums in another order differ by less; of equal losses the stronger penalty wins, of equal thresholds the middle."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Features with their labels and whose they are.

    Attributes:
        features_NF: (N, F) frozen features, NaN where missing.
        labels_N: (N,) classes, or scores for a regression.
        subject_ids_N: (N,) who.

    Raises:
        ValueError: no rows, lengths that differ, or an infinite feature.
    """

    features_NF: npt.NDArray[np.floating]
    labels_N: Labels
    subject_ids_N: Labels

    def __post_init__(self) -> None:
        shapes = (self.features_NF.shape, self.labels_N.shape, self.subject_ids_N.shape)
        num = len(self.features_NF)
        if self.features_NF.ndim != 2 or shapes[1:] != ((num,), (num,)) or self.features_NF.size == 0:
            raise ValueError(f"features, labels and subjects have shapes {shapes}; they must be (N, F), (N,) and (N,)")
        if np.isinf(self.features_NF).any():
            raise ValueError("features hold an infinite value; write a missing one as NaN")

    def __len__(self) -> int:
        return len(self.labels_N)

    def take(self, rows: npt.NDArray[np.int64]) -> "Examples":
        """These rows only."""
        return Examples(self.features_NF[rows], self.labels_N[rows], self.subject_ids_N[rows])


@dataclass(frozen=True, eq=False)
class FittedRegressor:
    """A fitted probe for a score.

    Attributes:
        penalty: the chosen L2 penalty per row.
        scores: from (N, F) features to (N,) in the unit of the training labels.
    """

    penalty: float
    scores: Callable[[npt.NDArray[np.floating]], Floats]

    def predict(self, features_NF: npt.NDArray[np.floating]) -> Floats:
        """Scores (N,)."""
        return self.scores(features_NF)


def ridge_probe(
    train: Examples, validation: Examples, *, penalties: Sequence[float] = RIDGE_PENALTIES
) -> FittedRegressor:
    """Fit ridge regression to a score, with the penalty that has the least squared error on validation subjects.

    Args:
        train: training subjects with finite scores.
        validation: subjects that choose the penalty, likewise.
        penalties: L2 penalties per row to choose from.

    Raises:
        ValueError: a score that is not finite.
    """
    for examples in (train, validation):
        if not np.isfinite(examples.labels_N.astype(np.float64)).all():
            raise ValueError("scores must be finite; leave out scans without a score")
    truth_M = validation.labels_N.astype(np.float64)
    best_loss, best_penalty = float("inf"), penalties[0]
    for penalty in penalties:
        guess_M = _fit_scores(train, penalty).predict(validation.features_NF)
        loss = float(((guess_M - truth_M) ** 2).mean())
        if loss < best_loss - TIE:
            best_loss, best_penalty = loss, penalty
    model = _fit_scores(train, best_penalty)
    return FittedRegressor(best_penalty, lambda features_NF: np.asarray(model.predict(features_NF), dtype=np.float64))


def preprocessing() -> list[tuple[str, BaseEstimator]]:
    """The steps in front of every probe, unfitted: median for what is missing, then mean 0 and sd 1."""
    return [("impute", SimpleImputer(strategy="median", keep_empty_features=True)), ("scale", StandardScaler())]


def best_threshold(positive_N: npt.ArrayLike, score_N: npt.ArrayLike) -> float:
    """The threshold with the highest sensitivity + specificity (Youden's index), midway between two scores.

    Args:
        positive_N: (N,) true where the row is of the positive class; both kinds occur.
        score_N: (N,) scores; rows at or above the threshold are called positive.

    Returns:
        The one nearest 0.5 of equally good thresholds; 0.5 where none does better than a constant answer.
    """
    false_T, true_T, threshold_T = roc_curve(positive_N, score_N, drop_intermediate=False)
    gain_T = (true_T - false_T)[1:-1]
    middle_T = (threshold_T[1:-1] + threshold_T[2:]) / 2
    if not gain_T.size or gain_T.max() <= TIE:
        return 0.5
    best_T = middle_T[gain_T >= gain_T.max() - TIE]
    return float(best_T[np.abs(best_T - 0.5).argmin()])


def _fit_scores(train: Examples, penalty: float) -> Pipeline:
    model = Ridge(alpha=penalty * len(train))
    return Pipeline([*preprocessing(), ("probe", model)]).fit(train.features_NF, train.labels_N.astype(np.float64))
