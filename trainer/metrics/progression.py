"""How well change in three classes is predicted, each metric with the chance level it must be read against.

Arrays in, frozen results out, float64. A function raises ValueError when there is nothing to score; it never answers
with a number that was not measured. Classes are 0, 1, 2 in the order of `preprocess.types.PROGRESSIONS`. Scores
average over the classes that occur in the labels.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import xlogy

from preprocess.types import PROGRESSIONS

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Labels = npt.ArrayLike
NUM_CLASSES = len(PROGRESSIONS)


@dataclass(frozen=True, slots=True)
class ProgressionScores:
    """How well three-class progression is predicted, on `num` pairs.

    Attributes:
        macro_f1: F1 averaged over the classes present in the labels.
        balanced_accuracy: recall averaged over the same classes.
        recall: per class; None for a class that no label has.
        brier: mean over pairs of the squared error summed over the three classes, 0 to 2.
        log_loss: mean negative log probability of the true class, in nats.
        calibration_error: expected calibration error of the winning class, ten equal bins.
        uniform_macro_f1: expected macro-F1 of guessing the present classes uniformly.
        frequency_macro_f1: expected macro-F1 of guessing by the frequencies of these labels.
        constant_macro_f1: macro-F1 of the best constant answer, which is the majority class.
        num: pairs scored.
    """

    macro_f1: float
    balanced_accuracy: float
    recall: tuple[float | None, ...]
    brier: float
    log_loss: float
    calibration_error: float
    uniform_macro_f1: float
    frequency_macro_f1: float
    constant_macro_f1: float
    num: int

    @property
    def macro_f1_chance(self) -> float:
        """The best that any of the three ways of guessing reaches."""
        return max(self.uniform_macro_f1, self.frequency_macro_f1, self.constant_macro_f1)


@dataclass(frozen=True, slots=True)
class ReliabilityBins:
    """Stated confidence against accuracy, per bin of the winning probability; empty bins are left out.

    Attributes:
        confidence_K: mean winning probability.
        accuracy_K: fraction right.
        count_K: pairs in the bin.
    """

    confidence_K: Floats
    accuracy_K: Floats
    count_K: Integers

    @property
    def expected_calibration_error(self) -> float:
        """Mean gap between confidence and accuracy, weighted by count (Guo et al. 2017, eq. 3)."""
        return float(np.average(np.abs(self.confidence_K - self.accuracy_K), weights=self.count_K))


def confusion_counts(labels: Labels, predicted: Labels) -> Integers:
    """Count pairs by true (row) and predicted (column) class.

    Args:
        labels: (P,) true classes 0, 1 or 2.
        predicted: (P,) predicted classes.

    Returns:
        (3, 3) counts.

    Raises:
        ValueError: nothing to score, unequal lengths, or a class outside 0 to 2.
    """
    true_P, guess_P = np.asarray(labels), np.asarray(predicted)
    if true_P.ndim != 1 or true_P.shape != guess_P.shape or true_P.size == 0:
        raise ValueError(f"labels {true_P.shape} and predictions {guess_P.shape} must be equal, non-empty vectors")
    for name, values in (("label", true_P), ("prediction", guess_P)):
        if not np.isin(values, range(NUM_CLASSES)).all():
            raise ValueError(f"{name}s hold {np.unique(values).tolist()}; classes are 0 to {NUM_CLASSES - 1}")
    cells = true_P.astype(np.int64) * NUM_CLASSES + guess_P.astype(np.int64)
    return np.bincount(cells, minlength=NUM_CLASSES**2).reshape(NUM_CLASSES, NUM_CLASSES).astype(np.int64)


def macro_f1(labels: Labels, predicted: Labels) -> float:
    """F1 averaged over the classes present in `labels`; a class never predicted counts 0.

    Args:
        labels: (P,) true classes.
        predicted: (P,) predicted classes.
    """
    counts = confusion_counts(labels, predicted)
    true_3, guess_3 = counts.sum(1), counts.sum(0)
    present = true_3 > 0
    f1_3 = 2 * np.diag(counts)[present] / (true_3 + guess_3)[present]
    return float(f1_3.mean())


def balanced_accuracy(labels: Labels, predicted: Labels) -> float:
    """Recall averaged over the classes present in `labels`.

    Args:
        labels: (P,) true classes.
        predicted: (P,) predicted classes.
    """
    counts = confusion_counts(labels, predicted)
    present = counts.sum(1) > 0
    return float((np.diag(counts)[present] / counts.sum(1)[present]).mean())


def guessed_macro_f1(labels: Labels, guess_probability_3: npt.ArrayLike) -> float:
    """Exact expected macro-F1 of guesses drawn independently of the scans, in three classes.

    Args:
        labels: (P,) true classes.
        guess_probability_3: (3,) probability of guessing each class, summing to 1.

    Raises:
        ValueError: nothing to score or a class outside 0 to 2.
    """
    return expected_macro_f1(confusion_counts(labels, labels).sum(1), guess_probability_3)


def expected_macro_f1(true_C: npt.ArrayLike, guess_probability_C: npt.ArrayLike) -> float:
    """Exact expected macro-F1, over the classes that occur, of guesses drawn independently of the scans.

    For a class with n_c of n labels, guessed with probability q, the number of guesses S is Binomial(n, q), and given
    S the hits are hypergeometric with mean S n_c / n, so E[F1] = sum_s P(S = s) 2 (s n_c / n) / (n_c + s).

    Args:
        true_C: (C,) labels of each class, at least one in all.
        guess_probability_C: (C,) probability of guessing each class, summing to 1.
    """
    counts_C = np.asarray(true_C, dtype=np.int64)
    num = int(counts_C.sum())
    guesses = np.arange(num + 1)
    expected = []
    for num_class, probability in zip(counts_C, np.asarray(guess_probability_C, dtype=np.float64), strict=True):
        if num_class:
            f1 = 2 * guesses * (num_class / num) / (num_class + guesses)
            expected.append(float(np.dot(stats.binom.pmf(guesses, num, probability), f1)))
    return float(np.mean(expected))


def losses(labels: Labels, probabilities_N3: npt.ArrayLike) -> Floats:
    """Negative log probability of the true class of each pair, (N,), in nats; finite for a probability of 0 too.

    Args:
        labels: (N,) true classes.
        probabilities_N3: (N, 3) rows summing to 1.
    """
    labels_N = np.asarray(labels)
    chosen_N = np.asarray(probabilities_N3, dtype=np.float64)[np.arange(len(labels_N)), labels_N]
    return np.asarray(-np.log(np.maximum(chosen_N, np.finfo(np.float64).tiny)))


def reliability_bins(labels: Labels, probabilities_N3: npt.ArrayLike, num_bins: int = 10) -> ReliabilityBins:
    """Group pairs by winning probability into equal bins of (0, 1].

    Args:
        labels: (N,) true classes.
        probabilities_N3: (N, 3) rows summing to 1.
        num_bins: how many equal bins.

    Raises:
        ValueError: as `progression_scores`.
    """
    labels_N, probability_N3 = _checked_probabilities(labels, probabilities_N3)
    confidence_N = probability_N3.max(1)
    right_N = probability_N3.argmax(1) == labels_N
    # (a, b] bins: certainty 1.0 falls into the last one. The 1e-9 keeps 0.7 * 10 = 7.000000000000001 in its bin.
    bin_N = np.clip(np.ceil(confidence_N * num_bins - 1e-9).astype(np.int64) - 1, 0, num_bins - 1)
    count = np.bincount(bin_N, minlength=num_bins).astype(np.int64)
    used = count > 0
    confidence = np.bincount(bin_N, weights=confidence_N, minlength=num_bins)[used] / count[used]
    accuracy = np.bincount(bin_N, weights=right_N, minlength=num_bins)[used] / count[used]
    return ReliabilityBins(confidence, accuracy, count[used])


def progression_scores(labels: Labels, probabilities_N3: npt.ArrayLike) -> ProgressionScores:
    """Score three-class probabilities, together with what guessing gives on the same labels.

    Args:
        labels: (N,) true classes 0, 1, 2.
        probabilities_N3: (N, 3) probabilities, rows summing to 1 within 1e-3.

    Raises:
        ValueError: nothing to score, unequal lengths, a class outside 0 to 2, or rows that are no probabilities.
    """
    labels_N, probability_N3 = _checked_probabilities(labels, probabilities_N3)
    predicted_N = probability_N3.argmax(1)
    counts = confusion_counts(labels_N, predicted_N)
    true_3 = counts.sum(1)
    present_3 = true_3 > 0
    rows = np.arange(len(labels_N))
    true_probability_N = np.clip(probability_N3[rows, labels_N], np.finfo(np.float64).eps, 1.0)
    return ProgressionScores(
        macro_f1=macro_f1(labels_N, predicted_N),
        balanced_accuracy=balanced_accuracy(labels_N, predicted_N),
        recall=tuple(float(counts[c, c] / true_3[c]) if true_3[c] else None for c in range(NUM_CLASSES)),
        brier=float(((probability_N3 - np.eye(NUM_CLASSES)[labels_N]) ** 2).sum(1).mean()),
        log_loss=float(-np.log(true_probability_N).mean()),
        calibration_error=reliability_bins(labels_N, probability_N3).expected_calibration_error,
        uniform_macro_f1=guessed_macro_f1(labels_N, present_3 / present_3.sum()),
        frequency_macro_f1=guessed_macro_f1(labels_N, true_3 / true_3.sum()),
        constant_macro_f1=macro_f1(labels_N, np.full_like(labels_N, true_3.argmax())),
        num=len(labels_N),
    )


def label_entropy(labels: Labels) -> float:
    """Log loss of always stating the label frequencies, in nats: the chance level of `log_loss`.

    Args:
        labels: (P,) true classes.
    """
    true_3 = confusion_counts(labels, labels).sum(1)
    frequency_3 = true_3 / true_3.sum()
    return float(-xlogy(frequency_3, frequency_3).sum())


def _checked_probabilities(labels: Labels, probabilities_N3: npt.ArrayLike) -> tuple[Integers, Floats]:
    probability_N3 = np.asarray(probabilities_N3, dtype=np.float64)
    labels_N = np.asarray(labels)
    if probability_N3.shape != (len(labels_N), NUM_CLASSES) or len(labels_N) == 0:
        raise ValueError(f"probabilities {probability_N3.shape} must be ({len(labels_N)}, {NUM_CLASSES}), not empty")
    sums_off = np.abs(probability_N3.sum(1) - 1).max()
    if not (sums_off <= 1e-3 and probability_N3.min() >= 0):
        raise ValueError(
            f"probability rows must be >= 0 and sum to 1 within 1e-3; off by {sums_off:.3g}; apply softmax"
        )
    confusion_counts(labels_N, labels_N)
    return labels_N.astype(np.int64), probability_N3 / probability_N3.sum(1, keepdims=True)
