"""The embedding space of held-out subjects: who is near whom, how far visits move, whether it collapsed.

Arrays in, frozen results out, float64 throughout; distances are cosine distances of preprocess/distances.py. A day of
NaN means that the source does not say: such a scan is never anybody's same-day repeat and takes no part in visit
order.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocess.distances import cosine_distances, unit_rows

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Names = npt.ArrayLike | Sequence[str]

TIE = 1e-9
"""Cosines closer than this are one: beyond float32 embeddings, and a collapsed model makes nothing but ties."""
QUERIES_AT_ONCE = 1024
"""Bounds the similarity matrix to 1024 x N float64: 80 MB at ten thousand scans."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Fraction of `num` queries whose nearest scan is of the same subject, and what a blind pick reaches."""

    value: float
    chance: float
    num: int


@dataclass(frozen=True, slots=True)
class QueryHits:
    """Retrieval query by query, for intervals: resample these, never the gallery, where a copy would find itself.

    Attributes:
        row_Q: which input row each query is.
        hit_Q: 1 when the nearest scan is of the same subject, 0 when not, a fraction when several are equally near.
        chance_Q: fraction of the query's gallery that is of its subject.
    """

    row_Q: Integers
    hit_Q: Floats
    chance_Q: Floats

    def summary(self) -> Retrieval:
        """Means over the queries."""
        return Retrieval(float(self.hit_Q.mean()), float(self.chance_Q.mean()), len(self.row_Q))


@dataclass(frozen=True, slots=True)
class WithinBetween:
    """Mean cosine distance between consecutive visits of a subject, beside that between subjects.

    Attributes:
        within: over `num_within` pairs of consecutive visits.
        between: over all `num_between` pairs of scans of different subjects.
        ratio: within / between; None when between is 0, which only a collapsed model gives.
        num_within: pairs behind `within`.
        num_between: pairs behind `between`.
    """

    within: float
    between: float
    ratio: float | None
    num_within: int
    num_between: int


def same_subject_hits(
    embeddings_NE: npt.ArrayLike, subject_ids: Names, day_N: npt.ArrayLike | None = None
) -> QueryHits:
    """Let each scan with another visit of its subject query all other scans; see `same_subject_retrieval`."""
    unit_NE = unit_rows(embeddings_NE)
    subject_N = _codes(subject_ids)
    num = len(unit_NE)
    if len(subject_N) != num:
        raise ValueError(f"{len(subject_N)} subject_ids for {num} embeddings; one each is needed")
    day = np.full(num, np.nan) if day_N is None else np.asarray(day_N, dtype=np.float64)
    rows, hits, chances = [], [], []
    for start in range(0, num, QUERIES_AT_ONCE):
        row_Q = np.arange(start, min(start + QUERIES_AT_ONCE, num))
        same = subject_N[row_Q, None] == subject_N[None, :]
        allowed = row_Q[:, None] != np.arange(num)[None, :]
        # The twin taken minutes later would be found trivially. NaN equals no day, so an unknown day excludes nothing.
        allowed &= ~(same & (day[row_Q, None] == day[None, :]))
        same &= allowed
        keep = same.any(1)
        if keep.any():
            hit_Q, chance_Q = _hits(unit_NE[row_Q[keep]] @ unit_NE.T, same[keep], allowed[keep])
            rows.append(row_Q[keep])
            hits.append(hit_Q)
            chances.append(chance_Q)
    if not rows:
        raise ValueError(f"none of {num} scans has another visit of its subject; retrieval needs two visits")
    return QueryHits(np.concatenate(rows), np.concatenate(hits), np.concatenate(chances))


def same_subject_retrieval(
    embeddings_NE: npt.ArrayLike, subject_ids: Names, day_N: npt.ArrayLike | None = None
) -> Retrieval:
    """Retrieval@1 where each scan with another visit of its subject queries all other scans, same-day repeats apart.

    Chance is the mean over queries of the fraction of the gallery that is of the query's subject: exactly what picking
    one scan blindly gives.

    Args:
        embeddings_NE: (N, E) held-out scans.
        subject_ids: (N,) who.
        day_N: (N,) acquisition day, NaN when unknown; None treats every scan as a visit of its own.

    Raises:
        ValueError: no scan has another visit of its subject.
    """
    return same_subject_hits(embeddings_NE, subject_ids, day_N).summary()


def consecutive_visits(subject_ids: Names, day: npt.ArrayLike) -> tuple[Integers, Integers]:
    """Rows of all pairs of scans from consecutive visits (distinct days) of a subject, earlier and later.

    Repeats within a day belong to one visit, so two visits with two scans each give four pairs.

    Args:
        subject_ids: (N,) who.
        day: (N,) acquisition day; scans of unknown day (NaN) are in no pair.
    """
    subject_N, day_N = _codes(subject_ids), np.asarray(day, dtype=np.float64)
    pairs = [
        (earlier, later)
        for visits in _visits(subject_N, day_N)
        for before, after in itertools.pairwise(visits)
        for earlier in before
        for later in after
    ]
    return _columns(pairs)


def within_between(embeddings_NE: npt.ArrayLike, subject_ids: Names, day: npt.ArrayLike) -> WithinBetween:
    """Mean distance between consecutive visits of a subject, the mean between subjects, and their ratio.

    A low distance within means nothing alone: a collapsed model gives it too, together with a low one between.

    Args:
        embeddings_NE: (N, E).
        subject_ids: (N,) who.
        day: (N,) acquisition day, NaN when unknown.

    Raises:
        ValueError: no subject has two visits, or there is only one subject.
    """
    unit_NE = unit_rows(embeddings_NE)
    subject_N = _codes(subject_ids)
    earlier_P, later_P = consecutive_visits(subject_ids, day)
    if not earlier_P.size:
        raise ValueError("no subject has two visits on different known days")
    num_S = np.bincount(subject_N)
    num_between = (len(subject_N) ** 2 - int((num_S**2).sum())) // 2
    if num_between == 0:
        raise ValueError("one subject only; the distance between subjects needs two")
    # Similarities sum to |sum of all|^2 - sum over subjects |sum of theirs|^2, so the N x N matrix is never built.
    sum_SE = np.zeros((len(num_S), unit_NE.shape[1]))
    np.add.at(sum_SE, subject_N, unit_NE)
    total_E = sum_SE.sum(0)
    between = 1 - float(total_E @ total_E - (sum_SE**2).sum()) / 2 / num_between
    within = float(cosine_distances(unit_NE, earlier_P, later_P).mean())
    ratio = within / between if between > TIE else None
    return WithinBetween(within, between, ratio, len(earlier_P), num_between)


def between_distances(embeddings_NE: npt.ArrayLike, subject_ids: Names, *, num: int, seed: int) -> Floats:
    """Cosine distances of `num` random pairs of scans of different subjects, drawn with replacement, for a histogram.

    Args:
        embeddings_NE: (N, E).
        subject_ids: (N,) who.
        num: how many pairs.
        seed: decides which pairs are drawn.

    Raises:
        ValueError: one subject only.
    """
    subject_N = _codes(subject_ids)
    if len(np.unique(subject_N)) < 2:
        raise ValueError("one subject only; the distance between subjects needs two")
    generator = np.random.default_rng(seed)
    # Drawing a scan by the number of partners it has, then a partner, makes every pair equally likely.
    num_others_N = len(subject_N) - np.bincount(subject_N)[subject_N]
    first_P = generator.choice(len(subject_N), size=num, p=num_others_N / num_others_N.sum())
    by_subject = np.argsort(subject_N, kind="stable")
    start_S = np.searchsorted(subject_N[by_subject], np.arange(subject_N.max() + 1))
    index_P = generator.integers(0, num_others_N[first_P])
    own_P = subject_N[first_P]
    index_P = np.where(index_P >= start_S[own_P], index_P + np.bincount(subject_N)[own_P], index_P)
    return cosine_distances(embeddings_NE, first_P, by_subject[index_P])


def embedding_spread(embeddings_NE: npt.ArrayLike) -> float:
    """Mean over dimensions of the sd of normalised embeddings, times sqrt(E): near 1 is healthy, near 0 has collapsed.

    Args:
        embeddings_NE: (N, E).
    """
    unit_NE = unit_rows(embeddings_NE)
    return float(unit_NE.std(axis=0).mean() * np.sqrt(unit_NE.shape[1]))


def _codes(subject_ids: Names) -> Integers:
    """Number the subjects 0 to S-1."""
    return np.unique(np.asarray(subject_ids), return_inverse=True)[1].astype(np.int64)


def _hits(
    similarity_QG: Floats, same_QG: npt.NDArray[np.bool_], allowed_QG: npt.NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Share of the nearest scans that are of the same subject, and the share of the whole gallery that is."""
    similarity_QG = np.where(allowed_QG, similarity_QG, -np.inf)
    nearest_QG = similarity_QG >= similarity_QG.max(1, keepdims=True) - TIE
    return (nearest_QG & same_QG).sum(1) / nearest_QG.sum(1), (same_QG & allowed_QG).sum(1) / allowed_QG.sum(1)


def _visits(subject_N: Integers, day_N: Floats) -> list[list[list[int]]]:
    """Group rows by subject, then by known day in order."""
    known = np.flatnonzero(np.isfinite(day_N))
    groups: dict[int, dict[float, list[int]]] = {}
    for row in known[np.lexsort((day_N[known], subject_N[known]))]:
        groups.setdefault(int(subject_N[row]), {}).setdefault(float(day_N[row]), []).append(int(row))
    return [list(days.values()) for days in groups.values()]


def _columns(pairs: list[tuple[int, int]]) -> tuple[Integers, Integers]:
    table_P2 = np.asarray(pairs, dtype=np.int64).reshape(-1, 2)
    return table_P2[:, 0], table_P2[:, 1]
