"""Identity by verification: is a distance that of two visits of one person, or that of two people?

Retrieval@1 asks who is nearest, and grows harder with every person held out; verification asks about one pair, and
means the same in cohorts of any size. The area under the ROC curve is the probability that a person's own visits lie
nearer to each other than two strangers; the equal error rate is the share of mistakes where as many own pairs are
refused as strangers are accepted (ISO/IEC 19795-1). float64; equal distances count half.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocess.distances import cosine_distances
from trainer.metrics.evaluation import Metric
from trainer.metrics.intervals import cluster_bootstrap

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Names = npt.ArrayLike | Sequence[str]

CHANCE = 0.5
"""What both metrics are for an embedding that knows nobody, and for one that maps all scans to one point."""
_DECIMALS = 9
"""Distances that agree so far are equal: beyond float32 embeddings, and a collapsed model gives nothing but ties."""


@dataclass(frozen=True, eq=False)
class VerificationPairs:
    """Pairs of scans to be told apart: two visits of one person, or scans of two people.

        pairs = verification_pairs(cohort.subject_ids, cohort.groups, cohort.days_N, seed=0)
        metrics = verification_metrics(embeddings_NE, pairs, seed=0)

    Attributes:
        first_P: row of one scan.
        second_P: row of the other.
        own_P: whether both are of one person.
        group_N: whole number of each scan's group, what intervals draw.
    """

    first_P: Integers
    second_P: Integers
    own_P: npt.NDArray[np.bool_]
    group_N: Integers

    @property
    def reason(self) -> str:
        """Why nothing can be told apart; empty where it can."""
        if not self.own_P.any():
            return "nobody has scans of two visits"
        return "" if not self.own_P.all() else "no pair of scans of different people"

    @property
    def note(self) -> str:
        """How many pairs of either kind."""
        num_own = int(self.own_P.sum())
        return f"{num_own} pairs of one person, {len(self.own_P) - num_own} of two"


def verification_pairs(
    subject_ids: Names, groups: Names, day: npt.ArrayLike, *, seed: int, max_strangers: int = 10_000
) -> VerificationPairs:
    """All pairs of two visits of one person, and all pairs of strangers or as many drawn without replacement.

    Scans of one person on one known day are no two visits. People who share a group, since scans of theirs have equal
    content, are neither one person nor strangers.

    Args:
        subject_ids: (N,) who.
        groups: (N,) what is drawn as one, see `Cohort.groups`.
        day: (N,) acquisition day, NaN when unknown.
        seed: decides which pairs of strangers are drawn.
        max_strangers: drawn from all pairs of scans where there are more; those of one group then fall out.

    Raises:
        ValueError: unequal lengths.
    """
    subject_N = np.unique(np.asarray(subject_ids), return_inverse=True)[1].astype(np.int64)
    group_N = np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)
    day_N = np.asarray(day, dtype=np.float64)
    if not subject_N.shape == group_N.shape == day_N.shape:
        raise ValueError(f"{subject_N.shape} subject_ids, {group_N.shape} groups and {day_N.shape} days; one each")
    rows_S = np.split(np.argsort(subject_N, kind="stable"), np.cumsum(np.bincount(subject_N))[:-1])
    own_2P = np.concatenate([rows[np.stack(np.triu_indices(len(rows), k=1))] for rows in rows_S], axis=1)
    first_P, second_P = own_2P.astype(np.int64)
    visits = day_N[first_P] != day_N[second_P]  # NaN equals no day, so scans of unknown day are two visits
    first_P, second_P = first_P[visits], second_P[visits]
    one_Q, other_Q = _scan_pairs(len(subject_N), max_strangers, seed)
    strangers = group_N[one_Q] != group_N[other_Q]
    own_P = np.repeat((True, False), (len(first_P), int(strangers.sum())))
    first_P = np.concatenate([first_P, one_Q[strangers]])
    return VerificationPairs(first_P, np.concatenate([second_P, other_Q[strangers]]), own_P, group_N)


def verification_metrics(
    embeddings_NE: npt.ArrayLike, pairs: VerificationPairs, *, seed: int, num_resamples: int = 2000
) -> dict[str, Metric]:
    """Area under the ROC curve and equal error rate of cosine distances, with intervals over people.

    Args:
        embeddings_NE: (N, E).
        pairs: what is told apart.
        seed: the bootstrap's seed; the same seed gives the same intervals.
        num_resamples: number of bootstrap resamples.

    Returns:
        `verification_auc` and `verification_eer`; where a kind of pair is lacking they have no value, and the reason.
    """
    if pairs.reason:
        missing = Metric(value=None, num=0, chance=CHANCE, note=pairs.reason)
        return {"verification_auc": missing, "verification_eer": missing}
    curve = _Curve.of(embeddings_NE, pairs)
    groups = np.arange(int(pairs.group_N.max()) + 1)

    def put(statistic: Callable[[Integers], float | None]) -> Metric:
        interval = cluster_bootstrap(
            lambda drawn: statistic(np.bincount(drawn, minlength=len(groups))),
            groups,
            seed=seed,
            num_resamples=num_resamples,
        )
        metric = Metric.from_interval(interval, num=len(pairs.own_P), chance=CHANCE)
        return metric.model_copy(update={"note": "; ".join(filter(None, [pairs.note, metric.note]))})

    return {"verification_auc": put(curve.area), "verification_eer": put(curve.equal_error)}


def verification_lead(
    model_NE: npt.ArrayLike,
    control_NE: npt.ArrayLike,
    pairs: VerificationPairs,
    *,
    seed: int,
    num_resamples: int = 2000,
) -> Metric:
    """Area under the ROC curve of one embedding minus that of another, on the same pairs and the same drawn people.

    Args:
        model_NE: (N, E) one embedding of the scans.
        control_NE: (N, F) the other.
        pairs: what is told apart.
        seed: the bootstrap's seed; the same seed gives the same interval.
        num_resamples: number of bootstrap resamples.
    """
    if pairs.reason:
        return Metric(value=None, num=0, chance=0.0, note=pairs.reason)
    model, control = _Curve.of(model_NE, pairs), _Curve.of(control_NE, pairs)

    def lead(drawn: Integers) -> float | None:
        times_G = np.bincount(drawn, minlength=len(groups))
        one, other = model.area(times_G), control.area(times_G)
        return None if one is None or other is None else one - other

    groups = np.arange(int(pairs.group_N.max()) + 1)
    interval = cluster_bootstrap(lead, groups, seed=seed, num_resamples=num_resamples)
    return Metric.from_interval(interval, num=len(pairs.own_P), chance=0.0)


@dataclass(frozen=True, eq=False)
class _Curve:
    """The ROC curve of some distances, ready to be made anew for people drawn with replacement.

    Its corners lie at the distances of own pairs alone: between two of them only strangers come in. A pair of strangers
    counts as often as both were drawn together; a group that was drawn twice is no stranger to itself.

    Attributes:
        own_O: group of each own pair, by distance.
        own_end_T: own pairs within each of their T different distances.
        first_Q: group of one scan of each pair of strangers, by distance.
        second_Q: group of the other.
        nearer_T: strangers nearer than each of those distances.
        within_T: strangers as near or nearer.
    """

    own_O: Integers
    own_end_T: Integers
    first_Q: Integers
    second_Q: Integers
    nearer_T: Integers
    within_T: Integers

    @classmethod
    def of(cls, embeddings_NE: npt.ArrayLike, pairs: VerificationPairs) -> "_Curve":
        distance_P = cosine_distances(embeddings_NE, pairs.first_P, pairs.second_P).round(_DECIMALS)
        order_P = np.argsort(distance_P, kind="stable")
        own_O, other_Q = order_P[pairs.own_P[order_P]], order_P[~pairs.own_P[order_P]]
        corner_T = np.unique(distance_P[own_O])
        return cls(
            own_O=pairs.group_N[pairs.first_P[own_O]],
            own_end_T=np.searchsorted(distance_P[own_O], corner_T, side="right"),
            first_Q=pairs.group_N[pairs.first_P[other_Q]],
            second_Q=pairs.group_N[pairs.second_P[other_Q]],
            nearer_T=np.searchsorted(distance_P[other_Q], corner_T, side="left"),
            within_T=np.searchsorted(distance_P[other_Q], corner_T, side="right"),
        )

    def area(self, times_G: Integers) -> float | None:
        """Probability that an own pair lies nearer than one of strangers, ties half; None where a kind is lacking."""
        corners = self._corners(times_G)
        return None if corners is None else float(np.trapezoid(corners[1], corners[0]))

    def equal_error(self, times_G: Integers) -> float | None:
        """Where the refused own pairs are as many as the accepted strangers, on the line between two corners."""
        corners = self._corners(times_G)
        if corners is None:
            return None
        strangers_C, own_C = corners
        excess_C = strangers_C + own_C - 1  # ascending, from -1 to 1
        after = int(np.searchsorted(excess_C, 0.0))
        below, above = excess_C[after - 1], excess_C[after]
        return float(strangers_C[after] - (strangers_C[after] - strangers_C[after - 1]) * above / (above - below))

    def _corners(self, times_G: Integers) -> tuple[Floats, Floats] | None:
        """Accepted share of strangers and of own pairs at the corners, from none to all."""
        own_O = np.concatenate([[0], np.cumsum(times_G[self.own_O])])
        strangers_Q = np.concatenate([[0], np.cumsum(times_G[self.first_Q] * times_G[self.second_Q])])
        if own_O[-1] == 0 or strangers_Q[-1] == 0:
            return None
        own_T = own_O[self.own_end_T] / own_O[-1]
        # At each distance two corners: strangers that are nearer come in before the own pairs do, equal ones with them.
        own_C = np.concatenate([np.column_stack([np.concatenate([[0.0], own_T[:-1]]), own_T]).ravel(), [1.0]])
        reached_C = np.column_stack([strangers_Q[self.nearer_T], strangers_Q[self.within_T]]).ravel() / strangers_Q[-1]
        return np.concatenate([[0.0], reached_C, [1.0]]), np.concatenate([[0.0], own_C])


def _scan_pairs(num: int, most: int, seed: int) -> tuple[Integers, Integers]:
    """Rows of all pairs of `num` scans, or of as many drawn without replacement; the first row is the smaller."""
    total = num * (num - 1) // 2
    code_Q = np.arange(total) if total <= most else np.random.default_rng(seed).choice(total, most, replace=False)
    # Pair (i, j), i < j, has the number j (j - 1) / 2 + i; the root is exact enough far beyond any cohort.
    later_Q = ((1 + np.sqrt(1 + 8.0 * code_Q)) / 2).astype(np.int64)
    return code_Q - later_Q * (later_Q - 1) // 2, later_Q
