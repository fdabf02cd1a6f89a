"""Linear probes on frozen features; everything fitted, from the imputer to the threshold, sees training subjects only.

Missing features are NaN and become the training median; features are then scaled by the training mean and sd. The
strength of the penalty, and for two classes the threshold, come from validation subjects, or from inner folds by
subject where none are given. One shape for all: `fit(train, validation, seed=...)` answers something that predicts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import roc_curve
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from preprocess.errors import UsageError
from trainer.evaluate.folds import fewest_subjects, patient_folds

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.generic]

CLASS_STRENGTHS = (1.0, 0.1, 0.01, 0.001)
"""L2 strengths per row as in head.py, the strongest first; scikit-learn's C is 1 / (strength * rows)."""
RIDGE_STRENGTHS = (10.0, 1.0, 0.1, 0.01, 0.001)
"""L2 strengths per row, the strongest first; scikit-learn's alpha is strength * rows."""
NUM_INNER_FOLDS = 5
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
class FittedClassifier:
    """A fitted probe for classes.

    Attributes:
        classes_K: (K,) the classes in the order of the probabilities.
        threshold: with two classes, probability of the second from which it is answered; None with more.
        chosen: what validation chose, for example the strength.
        probabilities: from (N, F) features to (N, K).
    """

    classes_K: Labels
    threshold: float | None
    chosen: Mapping[str, float]
    probabilities: Callable[[npt.NDArray[np.floating]], Floats]

    def predict_proba(self, features_NF: npt.NDArray[np.floating]) -> Floats:
        """Probabilities (N, K), rows summing to 1."""
        return self.probabilities(features_NF)

    def predict(self, features_NF: npt.NDArray[np.floating]) -> Labels:
        """Classes (N,): by the threshold with two classes, the likeliest with more."""
        return self.decide(self.predict_proba(features_NF))

    def decide(self, probability_NK: Floats) -> Labels:
        """Classes (N,) from probabilities already computed."""
        if self.threshold is not None:
            return np.asarray(self.classes_K[(probability_NK[:, 1] >= self.threshold).astype(np.int64)])
        return np.asarray(self.classes_K[probability_NK.argmax(1)])


@dataclass(frozen=True, eq=False)
class FittedRegressor:
    """A fitted probe for a score.

    Attributes:
        strength: the chosen L2 strength per row.
        scores: from (N, F) features to (N,) in the unit of the training labels.
    """

    strength: float
    scores: Callable[[npt.NDArray[np.floating]], Floats]

    def predict(self, features_NF: npt.NDArray[np.floating]) -> Floats:
        """Scores (N,)."""
        return self.scores(features_NF)


class FitClassifier(Protocol):
    """What every classification probe looks like."""

    def __call__(self, train: Examples, validation: Examples | None, *, seed: int) -> FittedClassifier:
        """Fit on training subjects, choose on validation subjects or on held-back training subjects."""
        ...


def linear_probe(
    train: Examples,
    validation: Examples | None = None,
    *,
    seed: int,
    strengths: Sequence[float] = CLASS_STRENGTHS,
    num_inner_folds: int = NUM_INNER_FOLDS,
) -> FittedClassifier:
    """Fit multinomial logistic regression with balanced class weights.

    Args:
        train: training subjects.
        validation: subjects that choose strength and threshold; None takes inner folds of the training subjects.
        seed: of the inner folds.
        strengths: L2 strengths per row to choose from, by log-loss in which every class weighs the same.
        num_inner_folds: at most; fewer where a class has fewer subjects.

    Raises:
        UsageError: one class only, a class of one subject and no validation, or a validation class never trained on.
    """
    classes_K = training_classes(train, validation)
    parts = [(train, validation)] if validation is not None else _inner_parts(train, num_inner_folds, seed)
    truth_M = np.concatenate([held.labels_N for _, held in parts])
    best = (float("inf"), strengths[0], np.empty((0, len(classes_K))))
    for strength in strengths:
        # Every part trains on every class, so columns agree.
        answers = [_fit_classes(fitted, strength).predict_proba(held.features_NF) for fitted, held in parts]
        probability_MK = np.concatenate(answers)
        loss = balanced_log_loss(truth_M, probability_MK, classes_K)
        if loss < best[0] - TIE:
            best = (loss, strength, probability_MK)
    _, strength, probability_MK = best
    model = _fit_classes(train, strength)
    return FittedClassifier(
        classes_K=classes_K,
        threshold=binary_threshold(truth_M, probability_MK, classes_K),
        chosen={"strength": strength},
        probabilities=lambda features_NF: np.asarray(model.predict_proba(features_NF), dtype=np.float64),
    )


def ridge_probe(
    train: Examples,
    validation: Examples | None = None,
    *,
    seed: int,
    strengths: Sequence[float] = RIDGE_STRENGTHS,
    num_inner_folds: int = NUM_INNER_FOLDS,
) -> FittedRegressor:
    """Fit ridge regression to a score; arguments as `linear_probe`, the strength is chosen by squared error.

    Args:
        train: training subjects with finite scores.
        validation: subjects that choose the strength; None takes inner folds of the training subjects.
        seed: of the inner folds.
        strengths: L2 strengths per row to choose from.
        num_inner_folds: at most; fewer where there are fewer subjects.

    Raises:
        UsageError: one training subject and no validation.
        ValueError: a score that is not finite.
    """
    for examples in (train, validation):
        if examples is not None and not np.isfinite(examples.labels_N.astype(np.float64)).all():
            raise ValueError("scores must be finite; leave out scans without a score")
    if validation is None:
        num_subjects = len(np.unique(train.subject_ids_N))
        if num_subjects < 2:
            raise UsageError("1 training subject; choosing a ridge penalty needs 2 or validation subjects")
        inner = GroupKFold(min(num_inner_folds, num_subjects), shuffle=True, random_state=seed)
        splits = inner.split(train.features_NF, groups=train.subject_ids_N)
        parts = [(train.take(fitted), train.take(held)) for fitted, held in splits]
    else:
        parts = [(train, validation)]
    truth_M = np.concatenate([held.labels_N for _, held in parts]).astype(np.float64)
    best_loss, best_strength = float("inf"), strengths[0]
    for strength in strengths:
        guess_M = np.concatenate([_fit_scores(fitted, strength).predict(held.features_NF) for fitted, held in parts])
        loss = float(((guess_M - truth_M) ** 2).mean())
        if loss < best_loss - TIE:
            best_loss, best_strength = loss, strength
    model = _fit_scores(train, best_strength)
    return FittedRegressor(best_strength, lambda features_NF: np.asarray(model.predict(features_NF), dtype=np.float64))


def preprocessing() -> list[tuple[str, BaseEstimator]]:
    """The steps in front of every probe, unfitted: median for what is missing, then mean 0 and sd 1."""
    return [("impute", SimpleImputer(strategy="median", keep_empty_features=True)), ("scale", StandardScaler())]


def training_classes(train: Examples, validation: Examples | None) -> Labels:
    """The sorted classes of the training labels.

    Raises:
        UsageError: one class only, or a validation class that is never trained on.
    """
    classes_K = np.unique(train.labels_N)
    if len(classes_K) < 2:
        raise UsageError(f"all {len(train)} training rows are of class {classes_K[0]}; a probe needs two classes")
    if validation is not None and not np.isin(validation.labels_N, classes_K).all():
        extra = np.setdiff1d(validation.labels_N, classes_K)
        raise UsageError(f"class {extra[0]} is in validation but not in training; divide subjects by class")
    return classes_K


def balanced_log_loss(labels_N: Labels, probability_NK: Floats, classes_K: Labels) -> float:
    """Mean over the classes present of the mean -log p of their rows, in nats.

    Args:
        labels_N: (N,) true classes, all in classes_K.
        probability_NK: (N, K).
        classes_K: (K,) sorted.
    """
    column_N = np.searchsorted(classes_K, labels_N)
    true_N = probability_NK[np.arange(len(column_N)), column_N].clip(np.finfo(np.float64).eps, 1.0)
    return float(np.mean([-np.log(true_N[column_N == column]).mean() for column in np.unique(column_N)]))


def binary_threshold(labels_N: Labels, probability_NK: Floats, classes_K: Labels) -> float | None:
    """`best_threshold` for the second of two classes; None where there are more, 0.5 where only one class occurs."""
    if len(classes_K) != 2:
        return None
    positive_N = labels_N == classes_K[1]
    return best_threshold(positive_N, probability_NK[:, 1]) if 0 < positive_N.sum() < len(positive_N) else 0.5


def best_threshold(positive_N: npt.ArrayLike, score_N: npt.ArrayLike) -> float:
    """The threshold with the highest sensitivity + specificity (Youden's index), midway between two scores.

    Args:
        positive_N: (N,) true where the row is of the positive class; both kinds occur.
        score_N: (N,) scores; rows at or above the threshold are called positive.

    Returns:
        Of equally good thresholds the one nearest 0.5; 0.5 where none does better than a constant answer.
    """
    false_T, true_T, threshold_T = roc_curve(positive_N, score_N, drop_intermediate=False)
    gain_T = (true_T - false_T)[1:-1]
    middle_T = (threshold_T[1:-1] + threshold_T[2:]) / 2
    if not gain_T.size or gain_T.max() <= TIE:
        return 0.5
    best_T = middle_T[gain_T >= gain_T.max() - TIE]
    return float(best_T[np.abs(best_T - 0.5).argmin()])


def _inner_parts(train: Examples, num_folds: int, seed: int) -> list[tuple[Examples, Examples]]:
    rarest, count = fewest_subjects(train.subject_ids_N, train.labels_N)
    if count < 2:
        raise UsageError(f"class {rarest} has 1 training subject; choosing a penalty needs 2 or validation subjects")
    folds = patient_folds(
        train.subject_ids_N, train.labels_N, num_folds=min(num_folds, count), num_repeats=1, seed=seed
    )
    return [(train.take(fold.train_K), train.take(fold.test_L)) for fold in folds]


def _fit_classes(train: Examples, strength: float) -> Pipeline:
    model = LogisticRegression(C=1 / (strength * len(train)), class_weight="balanced", max_iter=5000)
    return Pipeline([*preprocessing(), ("probe", model)]).fit(train.features_NF, train.labels_N)


def _fit_scores(train: Examples, strength: float) -> Pipeline:
    model = Ridge(alpha=strength * len(train))
    return Pipeline([*preprocessing(), ("probe", model)]).fit(train.features_NF, train.labels_N.astype(np.float64))
