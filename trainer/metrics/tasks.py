"""The metrics that the published systems report, each with an interval over subjects and what guessing reaches.

Those of docs/methods: change in three classes, two classes, a score by regression; severity is in severity.py.
Arrays in, frozen results out, float64. Scores by class average over the classes present in the labels, as in
progression.py. Within one function all intervals draw the same subjects.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from trainer.metrics.evaluation import Metric
from trainer.metrics.intervals import cluster_bootstrap
from trainer.metrics.progression import NUM_CLASSES

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Names = npt.ArrayLike | Sequence[str]
Statistic = Callable[[Integers], float | None]

BINARY_CHANCE = {"balanced_accuracy": 0.5, "auc": 0.5, "sensitivity": None, "specificity": None}
"""Guessing reaches any sensitivity it likes, at the price of specificity."""
MANY_ABOVE, FEW_BELOW = 100, 20
"""Training scans of a bin: above 100 many, below 20 few (Yang et al. 2021, deep imbalanced regression)."""


@dataclass(frozen=True, slots=True)
class BinaryMetrics:
    """Joint CMC + CSS on one held-out set; over repeated folds see repeated.py."""

    balanced_accuracy: Metric
    auc: Metric
    sensitivity: Metric
    specificity: Metric


@dataclass(frozen=True, slots=True)
class RegressionMetrics:
    """SupReMix: errors in the unit of the score; chance is the best constant on the training scores.

    Attributes:
        mae: mean absolute error; chance is that of the training median.
        mse: mean squared error; chance is that of the training mean.
        many_mae: over scans whose bin has many training scans.
        medium_mae: over the bins between.
        few_mae: over scans whose bin has few training scans or none.
    """

    mae: Metric
    mse: Metric
    many_mae: Metric
    medium_mae: Metric
    few_mae: Metric


def change_accuracy(
    labels_P: npt.ArrayLike, predicted_P: npt.ArrayLike, subject_ids_P: Names, *, seed: int, num_resamples: int = 2000
) -> Metric:
    """Accuracy of three-class change, which LEARNER reports beside macro-F1; chance is the share of the largest class.

    Args:
        labels_P: (P,) 0 improved, 1 stable, 2 declined.
        predicted_P: (P,) likewise.
        subject_ids_P: (P,) whose pair.
        seed: the bootstrap's seed; the same seed gives the same intervals.
        num_resamples: number of bootstrap resamples.

    Raises:
        ValueError: nothing to score, unequal lengths, or a class outside 0 to 2.
    """
    label_P, guess_P = checked_classes(labels_P, predicted_P, NUM_CLASSES)
    put = interval_maker(subject_ids_P, len(label_P), seed, num_resamples)
    right_P = (label_P == guess_P).astype(np.float64)
    return put(lambda rows: float(right_P[rows].mean()), float(np.bincount(label_P).max() / len(label_P)))


def binary_metrics(
    labels_N: npt.ArrayLike,
    probability_N: npt.ArrayLike,
    predicted_N: npt.ArrayLike,
    subject_ids_N: Names,
    *,
    seed: int,
    num_resamples: int = 2000,
) -> BinaryMetrics:
    """Score two classes of held-out scans.

    Args:
        labels_N: (N,) 1 or true for the positive class, else 0.
        probability_N: (N,) of the positive class.
        predicted_N: (N,) likewise 0 or 1, decided by a threshold from training subjects.
        subject_ids_N: (N,) who.
        seed: the bootstrap's seed; the same seed gives the same intervals.
        num_resamples: number of bootstrap resamples.

    Raises:
        ValueError: nothing to score, unequal lengths, labels other than 0 and 1, or one class only.
    """
    label_N, guess_N = checked_classes(labels_N, predicted_N, 2)
    score_N = finite_vector(probability_N, len(label_N), "probabilities")
    if binary_scores(label_N, score_N, guess_N) is None:
        raise ValueError(f"all {len(label_N)} labels are of one class; two are needed")
    put = interval_maker(subject_ids_N, len(label_N), seed, num_resamples)

    def make(name: str) -> Metric:
        def statistic(rows: Integers) -> float | None:
            scores = binary_scores(label_N[rows], score_N[rows], guess_N[rows])
            return None if scores is None else scores[name]

        return put(statistic, BINARY_CHANCE[name])

    return BinaryMetrics(make("balanced_accuracy"), make("auc"), make("sensitivity"), make("specificity"))


def regression_metrics(
    scores_N: npt.ArrayLike,
    predicted_N: npt.ArrayLike,
    subject_ids_N: Names,
    *,
    train_scores_T: npt.ArrayLike,
    bin_width: float,
    seed: int,
    many_above: int = MANY_ABOVE,
    few_below: int = FEW_BELOW,
    num_resamples: int = 2000,
) -> RegressionMetrics:
    """Score a regression on held-out scans, also by how often such a score was trained on.

    Args:
        scores_N: (N,) measured.
        predicted_N: (N,) predicted, same unit.
        subject_ids_N: (N,) who.
        train_scores_T: (T,) scores of the training scans.
        bin_width: width of the bins that training scans are counted in, same unit; bin k is [k, k + 1) * bin_width.
        seed: the bootstrap's seed; the same seed gives the same intervals.
        many_above: a bin with more training scans has many.
        few_below: a bin with fewer has few.
        num_resamples: number of bootstrap resamples.

    Raises:
        ValueError: nothing to score, unequal lengths, values that are not finite, or no width.
    """
    true_N = finite_vector(scores_N, None, "scores")
    guess_N = finite_vector(predicted_N, len(true_N), "predictions")
    train_T = finite_vector(train_scores_T, None, "training scores")
    if not bin_width > 0:
        raise ValueError(f"bin_width is {bin_width}; it must be above 0")
    bins, count = np.unique(np.floor(train_T / bin_width), return_counts=True)
    trained = dict(zip(bins.tolist(), count.tolist(), strict=True))
    trained_N = np.array([trained.get(own, 0) for own in np.floor(true_N / bin_width).tolist()])
    many_N, few_N = trained_N > many_above, trained_N < few_below
    subjects = np.asarray(subject_ids_N)
    error_N, median, mean = np.abs(true_N - guess_N), float(np.median(train_T)), float(train_T.mean())

    def put(chosen_N: npt.NDArray[np.bool_], value_N: Floats, constant_N: Floats) -> Metric:
        if not chosen_N.any():
            return Metric(value=None, num=0, note="no held-out scan in this group")
        value, chance = value_N[chosen_N], float(constant_N[chosen_N].mean())
        maker = interval_maker(subjects[chosen_N], len(value), seed, num_resamples)
        return maker(lambda rows: float(value[rows].mean()), chance)

    if subjects.shape != true_N.shape:
        raise ValueError(f"{subjects.shape} subject_ids for {len(true_N)} scores; one each is needed")
    everything, constant_N = np.ones(len(true_N), dtype=bool), np.abs(true_N - median)
    return RegressionMetrics(
        mae=put(everything, error_N, constant_N),
        mse=put(everything, error_N**2, (true_N - mean) ** 2),
        many_mae=put(many_N, error_N, constant_N),
        medium_mae=put(~many_N & ~few_N, error_N, constant_N),
        few_mae=put(few_N & ~many_N, error_N, constant_N),
    )


def binary_scores(
    labels_N: npt.ArrayLike, probability_N: npt.ArrayLike, predicted_N: npt.ArrayLike
) -> dict[str, float] | None:
    """Balanced accuracy, AUC, sensitivity and specificity of rows, by name; None where one class is missing.

    Args:
        labels_N: (N,) 1 or true for the positive class.
        probability_N: (N,) higher is more likely positive.
        predicted_N: (N,) 1 or true where called positive.
    """
    positive_N, called_N = np.asarray(labels_N, dtype=bool), np.asarray(predicted_N, dtype=bool)
    area = area_under_curve(positive_N, np.asarray(probability_N, dtype=np.float64))
    if area is None:
        return None
    sensitivity, specificity = float(called_N[positive_N].mean()), float((~called_N[~positive_N]).mean())
    balanced = (sensitivity + specificity) / 2
    return {"balanced_accuracy": balanced, "auc": area, "sensitivity": sensitivity, "specificity": specificity}


def area_under_curve(positive_N: npt.NDArray[np.bool_], score_N: Floats) -> float | None:
    """Area under the ROC curve by ranks (Mann-Whitney), ties half; None where one class is missing."""
    num_positive = int(positive_N.sum())
    num_pairs = num_positive * (len(positive_N) - num_positive)
    if num_pairs == 0:
        return None
    rank_N = stats.rankdata(score_N)
    return float((rank_N[positive_N].sum() - num_positive * (num_positive + 1) / 2) / num_pairs)


def spearman(first_N: Floats, second_N: Floats) -> float | None:
    """Spearman's rho of two vectors (N,); None when either is constant or there are fewer than 3 values."""
    if len(first_N) < 3 or np.ptp(first_N) == 0 or np.ptp(second_N) == 0:
        return None
    return float(stats.spearmanr(first_N, second_N).statistic)


def f1_and_recall(labels_N: Integers, predicted_N: Integers) -> tuple[float, float]:
    """Macro-F1 and macro-recall over the classes present in the labels, any number of classes 0, 1, 2, ..."""
    num = int(max(labels_N.max(), predicted_N.max())) + 1
    true_C, guess_C = np.bincount(labels_N, minlength=num), np.bincount(predicted_N, minlength=num)
    hit_C = np.bincount(labels_N[labels_N == predicted_N], minlength=num)
    present = true_C > 0
    f1_C = 2 * hit_C[present] / (true_C + guess_C)[present]
    return float(f1_C.mean()), float((hit_C[present] / true_C[present]).mean())


def interval_maker(
    subject_ids: Names, num: int, seed: int, num_resamples: int
) -> Callable[[Statistic, float | None], Metric]:
    """What puts an interval over subjects, and a chance level, to a function of rows; always the same draws.

    Args:
        subject_ids: (num,) whose each row is.
        num: rows.
        seed: the bootstrap's seed; the same seed gives the same intervals.
        num_resamples: number of bootstrap resamples.

    Raises:
        ValueError: another number of subjects than of rows.
    """
    subjects = np.asarray(subject_ids)
    if subjects.shape != (num,):
        raise ValueError(f"subject_ids have shape {subjects.shape} for {num} rows; one each is needed")

    def put(statistic: Statistic, chance: float | None) -> Metric:
        interval = cluster_bootstrap(statistic, subjects, seed=seed, num_resamples=num_resamples)
        return Metric.from_interval(interval, num=num, chance=chance)

    return put


def checked_classes(labels: npt.ArrayLike, predicted: npt.ArrayLike, num_classes: int) -> tuple[Integers, Integers]:
    """Labels and predictions as integers.

    Raises:
        ValueError: nothing to score, unequal lengths, or a class outside 0 to num_classes - 1.
    """
    label_N, guess_N = np.asarray(labels), np.asarray(predicted)
    if label_N.ndim != 1 or label_N.shape != guess_N.shape or label_N.size == 0:
        raise ValueError(f"labels {label_N.shape} and predictions {guess_N.shape} must be equal, non-empty vectors")
    for name, values in (("label", label_N), ("prediction", guess_N)):
        if not np.isin(values, range(num_classes)).all():
            raise ValueError(f"{name}s hold {np.unique(values).tolist()}; classes are 0 to {num_classes - 1}")
    return label_N.astype(np.int64), guess_N.astype(np.int64)


def finite_vector(values: npt.ArrayLike, num: int | None, name: str) -> Floats:
    """Values as float64.

    Raises:
        ValueError: no vector of `num` (None: any number but 0), or a value that is not finite.
    """
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0 or (num is not None and len(vector) != num):
        raise ValueError(f"{name} have shape {vector.shape}; a non-empty vector of {num or 'N'} is needed")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} must be finite; leave out scans without one")
    return vector
