"""Distances of pairs of held-out scans against what is known of them, subject and score, with intervals.

LEARNER's figure (docs/methods/learner.md), and within- beside between-subject distance (clinimcl.md). Intervals draw
subjects. A pair of two subjects counts as often as both were drawn together; a subject drawn twice is never a stranger
to itself.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.evaluate.evaluation import Metric
from trainer.evaluate.intervals import cluster_bootstrap
from trainer.evaluate.similarity import TIE, consecutive_visits, cosine_distances, unit_rows

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Names = npt.ArrayLike | Sequence[str]


@dataclass(frozen=True, slots=True)
class DistanceFigures:
    """Mean cosine distance between consecutive visits, between subjects, and their ratio, whose chance is 1."""

    within: Metric
    between: Metric
    ratio: Metric


@dataclass(frozen=True, eq=False)
class ScoredPairs:
    """Pairs of scans with their distance and how far their scores lie apart.

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


def distance_figures(
    embeddings_NE: npt.ArrayLike, subject_ids_N: Names, day_N: npt.ArrayLike, *, seed: int, num_resamples: int = 2000
) -> DistanceFigures:
    """Mean distance within and between subjects, as `similarity.within_between`, with intervals over subjects.

    Args:
        embeddings_NE: (N, E).
        subject_ids_N: (N,) who.
        day_N: (N,) acquisition day, NaN when unknown.
        seed: of the bootstrap.
        num_resamples: of the bootstrap.

    Raises:
        ValueError: no subject has two visits, there is one subject, or lengths differ.
    """
    unit_NE, (subject_N, num_S) = unit_rows(embeddings_NE), _subjects(subject_ids_N)
    if len(subject_N) != len(unit_NE):
        raise ValueError(f"{len(subject_N)} subject_ids for {len(unit_NE)} embeddings; one each is needed")
    earlier_P, later_P = consecutive_visits(subject_ids_N, day_N)
    if not earlier_P.size:
        raise ValueError("no subject has two visits on different known days")
    if len(num_S) < 2:
        raise ValueError("one subject only; the distance between subjects needs two")
    distance_P = cosine_distances(unit_NE, earlier_P, later_P)
    within_S = np.bincount(subject_N[earlier_P], weights=distance_P, minlength=len(num_S))
    pairs_S = np.bincount(subject_N[earlier_P], minlength=len(num_S))
    sum_SE = np.zeros((len(num_S), unit_NE.shape[1]))
    np.add.at(sum_SE, subject_N, unit_NE)
    own_S = (sum_SE**2).sum(1)

    def within(drawn_S: Integers) -> float | None:
        count = int(drawn_S @ pairs_S)
        return float(drawn_S @ within_S) / count if count else None

    def between(drawn_S: Integers) -> float | None:
        # As in similarity.within_between; a copy of a subject is the subject itself, hence the squares.
        count = (int(drawn_S @ num_S) ** 2 - int(drawn_S**2 @ num_S**2)) / 2
        total_E = drawn_S @ sum_SE
        return 1 - float(total_E @ total_E - drawn_S**2 @ own_S) / 2 / count if count else None

    def ratio(drawn_S: Integers) -> float | None:
        near, far = within(drawn_S), between(drawn_S)
        return near / far if near is not None and far is not None and far > TIE else None

    num_between = (len(subject_N) ** 2 - int((num_S**2).sum())) // 2
    parts: tuple[tuple[Callable[[Integers], float | None], int, float | None], ...] = (
        (within, len(earlier_P), None),
        (between, num_between, None),
        (ratio, len(earlier_P), 1.0),
    )
    made = [_over(len(num_S), statistic, num, chance, seed, num_resamples) for statistic, num, chance in parts]
    return DistanceFigures(*made)


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
        seed: of the draw.
        max_pairs: drawn from all pairs of scans where there are more; those of one subject then fall out.

    Raises:
        ValueError: lengths differ.
    """
    score_N, subject_N = _scores(embeddings_NE, scores_N, subject_ids_N)
    known = np.flatnonzero(np.isfinite(score_N))
    total = len(known) * (len(known) - 1) // 2
    code_P = np.arange(total)
    if total > max_pairs:
        code_P = np.sort(np.random.default_rng(seed).choice(total, max_pairs, replace=False))
    # Pair (i, j), i < j, has the number j (j - 1) / 2 + i; the root is exact enough far beyond any cohort.
    later_P = ((1 + np.sqrt(1 + 8.0 * code_P)) / 2).astype(np.int64)
    first_P, second_P = known[code_P - later_P * (later_P - 1) // 2], known[later_P]
    strangers = subject_N[first_P] != subject_N[second_P]
    return _scored(embeddings_NE, score_N, first_P[strangers], second_P[strangers])


def patient_pairs(
    embeddings_NE: npt.ArrayLike, scores_N: npt.ArrayLike, subject_ids_N: Names, day_N: npt.ArrayLike
) -> ScoredPairs:
    """All pairs of scans that one subject had on different known days, earlier first.

    Args:
        embeddings_NE: (N, E).
        scores_N: (N,) scores, NaN where unknown; such a scan is in no pair.
        subject_ids_N: (N,) who.
        day_N: (N,) acquisition day, NaN when unknown.

    Raises:
        ValueError: lengths differ.
    """
    score_N, subject_N = _scores(embeddings_NE, scores_N, subject_ids_N)
    days_N = np.asarray(day_N, dtype=np.float64)
    if days_N.shape != score_N.shape:
        raise ValueError(f"days {days_N.shape} and scores {score_N.shape} must be equal vectors")
    usable = np.isfinite(score_N) & np.isfinite(days_N)
    columns: list[tuple[Integers, Integers]] = []
    for subject in np.unique(subject_N):
        rows = np.flatnonzero(usable & (subject_N == subject))
        rows = rows[np.argsort(days_N[rows], kind="stable")]
        first, second = np.triu_indices(len(rows), 1)
        apart = days_N[rows[first]] < days_N[rows[second]]
        columns.append((rows[first[apart]], rows[second[apart]]))
    first_P, second_P = (np.concatenate(column).astype(np.int64) for column in zip(*columns, strict=True))
    return _scored(embeddings_NE, score_N, first_P, second_P)


def distance_correlation(pairs: ScoredPairs, subject_ids_N: Names, *, seed: int, num_resamples: int = 2000) -> Metric:
    """Spearman's rho of |difference of scores| with cosine distance, with an interval over subjects; chance is 0.

    Args:
        pairs: from `stranger_pairs` or `patient_pairs`.
        subject_ids_N: (N,) the subjects of the scans that the pairs point to.
        seed: of the bootstrap.
        num_resamples: of the bootstrap.
    """
    if len(pairs) == 0:
        return Metric(value=None, chance=0.0, num=0, note="no pairs")
    ends_P2 = np.asarray(subject_ids_N)[np.column_stack([pairs.first_P, pairs.second_P])]
    names, code_2P = np.unique(ends_P2.T.ravel(), return_inverse=True)
    first_P, second_P = np.split(code_2P, 2)
    same_P = first_P == second_P
    distance_P = np.unique(pairs.distance_P, return_inverse=True)[1]
    difference_P = np.unique(pairs.difference_P, return_inverse=True)[1]

    def rho(drawn_S: Integers) -> float | None:
        weight_P = np.where(same_P, drawn_S[first_P], drawn_S[first_P] * drawn_S[second_P])
        return _weighted_spearman(distance_P, difference_P, weight_P)

    return _over(len(names), rho, len(pairs), 0.0, seed, num_resamples)


def _over(
    num_subjects: int,
    statistic: Callable[[Integers], float | None],
    num: int,
    chance: float | None,
    seed: int,
    num_resamples: int,
) -> Metric:
    """Bootstrap a function of how often each subject was drawn."""
    interval = cluster_bootstrap(
        lambda drawn: statistic(np.bincount(drawn, minlength=num_subjects)),
        np.arange(num_subjects),
        seed=seed,
        num_resamples=num_resamples,
    )
    return Metric.from_interval(interval, num=num, chance=chance)


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


def _subjects(subject_ids_N: Names) -> tuple[Integers, Integers]:
    subject_N = np.unique(np.asarray(subject_ids_N), return_inverse=True)[1].astype(np.int64)
    return subject_N, np.bincount(subject_N).astype(np.int64)


def _scores(embeddings_NE: npt.ArrayLike, scores_N: npt.ArrayLike, subject_ids_N: Names) -> tuple[Floats, Integers]:
    score_N, subject_N = np.asarray(scores_N, dtype=np.float64), _subjects(subject_ids_N)[0]
    num = len(np.asarray(embeddings_NE))
    if score_N.shape != (num,) or subject_N.shape != (num,):
        raise ValueError(f"{score_N.shape} scores and {subject_N.shape} subject_ids for {num} embeddings; one each")
    return score_N, subject_N


def _scored(embeddings_NE: npt.ArrayLike, score_N: Floats, first_P: Integers, second_P: Integers) -> ScoredPairs:
    distance_P = cosine_distances(embeddings_NE, first_P, second_P)
    return ScoredPairs(first_P, second_P, distance_P, np.abs(score_N[first_P] - score_N[second_P]))
