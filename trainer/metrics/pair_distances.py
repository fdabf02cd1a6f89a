"""Distances of pairs of held-out scans: whether they follow the scores, and how far a scan lies from its repeat.

Between people this is LEARNER's plot as a number (docs/methods/learner.md). Its interval draws subjects: a pair counts
as often as both were drawn together, and a subject drawn twice is never a stranger to itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocess.distances import cosine_distances
from trainer.metrics.evaluation import Metric
from trainer.metrics.intervals import cluster_bootstrap
from trainer.metrics.tasks import spearman

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Names = npt.ArrayLike | Sequence[str]


@dataclass(frozen=True, slots=True)
class ChangeCorrelation:
    """Spearman's rho of |delta score| with distance; None when either is constant or fewer than 3 pairs have both."""

    rho: float | None
    num: int


@dataclass(frozen=True, slots=True)
class NoiseFloor:
    """Cosine distance of scan-rescan pairs: what no change at all looks like."""

    median: float
    percentile_95: float
    num: int


@dataclass(frozen=True, eq=False)
class ScoredPairs:
    """Pairs of scans of different subjects, with their distance and how far their scores lie apart.

    Attributes:
        first_P: row of one scan.
        second_P: row of the other.
        distance_P: cosine distance of the embeddings.
        difference_P: |score of one - score of the other|, finite.
    """

    first_P: Integers
    second_P: Integers
    distance_P: Floats
    difference_P: Floats

    def __len__(self) -> int:
        return len(self.first_P)


def change_correlation(distance: npt.ArrayLike, delta_score: npt.ArrayLike) -> ChangeCorrelation:
    """Spearman's rho of |delta score| with cosine distance: does the embedding move farther when the score does?

    Args:
        distance: (P,) cosine distance of each pair.
        delta_score: (P,) later minus earlier score; pairs where it is NaN are left out.

    Raises:
        ValueError: unequal lengths.
    """
    distance_P, delta_P = np.asarray(distance, dtype=np.float64), np.asarray(delta_score, dtype=np.float64)
    if distance_P.ndim != 1 or distance_P.shape != delta_P.shape:
        raise ValueError(f"distances {distance_P.shape} and score changes {delta_P.shape} must be equal vectors")
    known = np.isfinite(distance_P) & np.isfinite(delta_P)
    return ChangeCorrelation(spearman(distance_P[known], np.abs(delta_P[known])), int(known.sum()))


def noise_floor(scan_rescan_distances: npt.ArrayLike | Sequence[float]) -> NoiseFloor:
    """Median, 95th percentile and count of scan-rescan distances.

    Args:
        scan_rescan_distances: (P,) cosine distances of same-day pairs of one subject.

    Raises:
        ValueError: no pairs.
    """
    distances = np.asarray(scan_rescan_distances, dtype=np.float64)
    if distances.size == 0:
        raise ValueError("a noise floor needs at least one scan-rescan pair; got 0")
    median, high = np.quantile(distances, (0.5, 0.95))
    return NoiseFloor(float(median), float(high), int(distances.size))


def stranger_pairs(
    embeddings_NE: npt.ArrayLike,
    scores_N: npt.ArrayLike,
    subject_ids_N: Names,
    *,
    seed: int,
    max_pairs: int = 20_000,
) -> ScoredPairs:
    """Pairs of scans of different subjects, all of them or as many drawn without replacement.

    Args:
        embeddings_NE: (N, E).
        scores_N: (N,) scores, NaN where unknown; such a scan is in no pair.
        subject_ids_N: (N,) who.
        seed: decides which pairs are drawn.
        max_pairs: drawn from all pairs of scans where there are more; those of one subject then fall out.

    Raises:
        ValueError: lengths differ.
    """
    score_N, subjects = np.asarray(scores_N, dtype=np.float64), np.asarray(subject_ids_N)
    num = len(np.asarray(embeddings_NE))
    if score_N.shape != (num,) or subjects.shape != (num,):
        raise ValueError(f"{score_N.shape} scores and {subjects.shape} subject_ids for {num} embeddings; one each")
    known = np.flatnonzero(np.isfinite(score_N))
    total = len(known) * (len(known) - 1) // 2
    code_P = np.arange(total)
    if total > max_pairs:
        code_P = np.sort(np.random.default_rng(seed).choice(total, max_pairs, replace=False))
    # Pair (i, j), i < j, has the number j (j - 1) / 2 + i; the root is exact enough far beyond any cohort.
    later_P = ((1 + np.sqrt(1 + 8.0 * code_P)) / 2).astype(np.int64)
    first_P, second_P = known[code_P - later_P * (later_P - 1) // 2], known[later_P]
    strangers = subjects[first_P] != subjects[second_P]
    first_P, second_P = first_P[strangers], second_P[strangers]
    distance_P = cosine_distances(embeddings_NE, first_P, second_P)
    return ScoredPairs(first_P, second_P, distance_P, np.abs(score_N[first_P] - score_N[second_P]))


def distance_correlation(pairs: ScoredPairs, subject_ids_N: Names, *, seed: int, num_resamples: int = 2000) -> Metric:
    """Spearman's rho of |difference of scores| with cosine distance, with an interval over subjects; chance is 0.

    Args:
        pairs: from `stranger_pairs`.
        subject_ids_N: (N,) the subjects of the scans that the pairs point to.
        seed: the bootstrap's seed; the same seed gives the same interval.
        num_resamples: number of bootstrap resamples.
    """
    if len(pairs) == 0:
        return Metric(value=None, chance=0.0, num=0, note="no pairs")
    ends_P2 = np.asarray(subject_ids_N)[np.column_stack([pairs.first_P, pairs.second_P])]
    names, code_2P = np.unique(ends_P2.T.ravel(), return_inverse=True)
    first_P, second_P = np.split(code_2P, 2)
    distance_P = np.unique(pairs.distance_P, return_inverse=True)[1]
    difference_P = np.unique(pairs.difference_P, return_inverse=True)[1]

    def rho(drawn: Integers) -> float | None:
        times_S = np.bincount(drawn, minlength=len(names))
        return _weighted_spearman(distance_P, difference_P, times_S[first_P] * times_S[second_P])

    interval = cluster_bootstrap(rho, np.arange(len(names)), seed=seed, num_resamples=num_resamples)
    return Metric.from_interval(interval, num=len(pairs), chance=0.0)


def _weighted_spearman(first_P: Integers, second_P: Integers, weight_P: Integers) -> float | None:
    """Spearman's rho of values given by their dense ranks, each pair counted as often as its weight says."""
    num = int(weight_P.sum())
    if num < 3:
        return None
    centred = []
    for code_P in (first_P, second_P):
        count_U = np.bincount(code_P, weights=weight_P)
        rank_U = np.cumsum(count_U) - (count_U - 1) / 2
        # Mid-ranks always average to (n + 1) / 2.
        centred.append(rank_U[code_P] - (num + 1) / 2)
    spread = float(weight_P @ centred[0] ** 2) * float(weight_P @ centred[1] ** 2)
    return float(weight_P @ (centred[0] * centred[1]) / np.sqrt(spread)) if spread > 0 else None


def exceeded_once_in_twenty(sizes_P: npt.ArrayLike) -> float:
    """The value that a new one of the same kind exceeds in one case of twenty at most.

    The ceil(0.95 (n + 1))-th smallest of n, as in split conformal prediction; the largest where that is beyond n. The
    interpolated 95th percentile of few values lies lower, and is exceeded more often.

    Args:
        sizes_P: at least one, finite.

    Raises:
        ValueError: no value.
    """
    size_P = np.sort(np.asarray(sizes_P, dtype=np.float64))
    if not len(size_P):
        raise ValueError("there is no value; give at least one")
    # Rounded first: 0.95 * 20 is 18.999999999999996.
    rank = int(np.ceil(round(0.95 * (len(size_P) + 1), 9)))
    return float(size_P[min(rank, len(size_P)) - 1])
