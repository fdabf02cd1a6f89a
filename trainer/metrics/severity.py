"""ConPrO's metrics: grades predicted by a head, and the order that the distance from the normal anchor gives by itself.

See docs/methods/conpro.md. Arrays in, frozen results out, float64; intervals over subjects.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from preprocess.errors import UsageError
from trainer.metrics.evaluation import Metric
from trainer.metrics.progression import expected_macro_f1
from trainer.metrics.tasks import (
    Floats,
    Integers,
    Names,
    area_under_curve,
    checked_classes,
    f1_and_recall,
    finite_vector,
    interval_maker,
)


@dataclass(frozen=True, slots=True)
class SeverityMetrics:
    """ConPrO: grades predicted by the head, and order by the distance from the normal anchor alone.

    Attributes:
        macro_f1: F1 averaged over the grades present. Chance is the best of three ways to guess, see progression.py.
        macro_recall: recall averaged over them.
        maee: mean of exp(|grade - predicted|); 1 is perfect. Chance is the best constant grade on these labels.
        tau_b: Kendall's tau-b of distance with grade, all scans.
        tau_b_abnormal: the same among abnormal scans, which is what preference adds to contrast.
        auc_abnormal: that an abnormal scan lies farther from the anchor than a normal one.
    """

    macro_f1: Metric
    macro_recall: Metric
    maee: Metric
    tau_b: Metric
    tau_b_abnormal: Metric
    auc_abnormal: Metric


def severity_metrics(
    grades_N: npt.ArrayLike,
    predicted_N: npt.ArrayLike,
    anchor_distance_N: npt.ArrayLike,
    subject_ids_N: Names,
    *,
    num_grades: int,
    seed: int,
    num_resamples: int = 2000,
) -> SeverityMetrics:
    """Score severity on held-out scans.

    Args:
        grades_N: (N,) 0 normal up to num_grades - 1 worst.
        predicted_N: (N,) likewise.
        anchor_distance_N: (N,) from `preprocess.distances.distances_from_mean`.
        subject_ids_N: (N,) who.
        num_grades: how many grades there are.
        seed: the bootstrap's seed; the same seed gives the same intervals.
        num_resamples: number of bootstrap resamples.

    Raises:
        ValueError: nothing to score, unequal lengths, or a grade outside the range.
    """
    grade_N, guess_N = checked_classes(grades_N, predicted_N, num_grades)
    distance_N = finite_vector(anchor_distance_N, len(grade_N), "distances")
    put = interval_maker(subject_ids_N, len(grade_N), seed, num_resamples)
    off_N = np.exp(np.abs(grade_N - guess_N).astype(np.float64))
    constants = [np.full_like(grade_N, grade) for grade in range(num_grades)]
    best_maee = min(float(np.exp(np.abs(grade_N - constant)).mean()) for constant in constants)
    best_f1 = max(*(f1_and_recall(grade_N, constant)[0] for constant in constants), *_guessed_f1(grade_N))

    def abnormal_tau(rows: Integers) -> float | None:
        abnormal = rows[grade_N[rows] > 0]
        return _tau_b(distance_N[abnormal], grade_N[abnormal])

    return SeverityMetrics(
        macro_f1=put(lambda rows: f1_and_recall(grade_N[rows], guess_N[rows])[0], best_f1),
        macro_recall=put(lambda rows: f1_and_recall(grade_N[rows], guess_N[rows])[1], 1 / len(np.unique(grade_N))),
        maee=put(lambda rows: float(off_N[rows].mean()), best_maee),
        tau_b=put(lambda rows: _tau_b(distance_N[rows], grade_N[rows]), 0.0),
        tau_b_abnormal=put(abnormal_tau, 0.0),
        auc_abnormal=put(lambda rows: area_under_curve(grade_N[rows] > 0, distance_N[rows]), 0.5),
    )


def normal_indices(scores_N: npt.ArrayLike, normal: float) -> Integers:
    """Indices (K,) of the normal scans among training scans.

    Args:
        scores_N: (N,) scores of the training scans, NaN where unknown.
        normal: score of a normal scan.

    Raises:
        UsageError: there is none.
    """
    indices_K = np.flatnonzero(np.asarray(scores_N) == normal)
    if not len(indices_K):
        raise UsageError(
            f"no training scan has the score {normal:g}, which the recipe calls normal, so there is no anchor to "
            "measure severity from; train with `normal` set to the score of a normal scan"
        )
    return indices_K


def _guessed_f1(grade_N: Integers) -> list[float]:
    """Expected macro-F1 of guessing the present grades uniformly and by frequency."""
    true_C = np.bincount(grade_N)
    true_C = true_C[true_C > 0]
    uniform_C, frequency_C = np.full(len(true_C), 1 / len(true_C)), true_C / len(grade_N)
    return [expected_macro_f1(true_C, probability_C) for probability_C in (uniform_C, frequency_C)]


def _tau_b(distance_N: Floats, grade_N: Integers) -> float | None:
    if len(grade_N) < 3 or np.ptp(distance_N) == 0 or np.ptp(grade_N) == 0:
        return None
    return float(stats.kendalltau(distance_N, grade_N).statistic)
