"""Pairs of one subject's scans, earlier first, with what changed between them; pure.

Visits are ordered by acquisition day. Two scans of one day are a scan-rescan pair: they show the noise floor, never
change. A subject with one visit gives no pair, and neither do scans without a day.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from preprocess.manifest import OutcomeSpec
from preprocess.types import PROGRESSIONS
from trainer.data.cohort import Cohort, Floats

Integers = npt.NDArray[np.int64]
NO_LABEL = -1
"""Label of a pair whose change in score is unknown."""


@dataclass(frozen=True)
class Pairs:
    """Pairs as indices in a cohort's arrays.

    Attributes:
        earlier_P: index of the earlier scan.
        later_P: index of the later scan.
        gap_days_P: days between them; 0 for scan-rescan.
        delta_P: later score minus earlier score, NaN where unknown.
        labels_P: 0 improved, 1 stable, 2 declined, -1 unknown.
    """

    earlier_P: Integers
    later_P: Integers
    gap_days_P: Floats
    delta_P: Floats
    labels_P: Integers

    def __len__(self) -> int:
        return len(self.earlier_P)

    def labelled(self) -> "Pairs":
        """The pairs whose label is known."""
        known = self.labels_P != NO_LABEL
        return Pairs(
            self.earlier_P[known],
            self.later_P[known],
            self.gap_days_P[known],
            self.delta_P[known],
            self.labels_P[known],
        )


def visit_pairs(cohort: Cohort, outcome: OutcomeSpec, *, which: Literal["consecutive", "all"]) -> Pairs:
    """Pairs of visits on different days; the first scan of a day stands for it.

    Args:
        cohort: ordered by subject and day.
        outcome: score, direction and threshold that make the label.
        which: neighbouring visits only, or every earlier with every later one.
    """
    chosen: list[tuple[int, int]] = []
    for indices in cohort.indices_by_subject.values():
        visits = [same_day[0] for same_day in _by_day(cohort, indices)]
        chosen.extend(pairwise(visits) if which == "consecutive" else combinations(visits, 2))
    return _pairs(cohort, outcome, chosen)


def rescan_pairs(cohort: Cohort, outcome: OutcomeSpec) -> Pairs:
    """All pairs of scans that one subject had on one day, of one acquisition: two zones of a lung are no repeat."""
    chosen: list[tuple[int, int]] = []
    for indices in cohort.indices_by_subject.values():
        for same_day in _by_day(cohort, indices):
            chosen.extend(pair for pair in combinations(same_day, 2) if _is_repeat(cohort, *pair))
    return _pairs(cohort, outcome, chosen)


def progression_labels(delta_P: Floats, outcome: OutcomeSpec) -> Integers:
    """Labels of changes in score: at least the threshold in the good or the bad direction, else stable; NaN unknown."""
    gain_P = delta_P if outcome.higher_is_better else -delta_P
    labels = np.full(len(delta_P), PROGRESSIONS.index("stable"), dtype=np.int64)
    labels[gain_P >= outcome.threshold] = PROGRESSIONS.index("improved")
    labels[gain_P <= -outcome.threshold] = PROGRESSIONS.index("declined")
    labels[np.isnan(delta_P)] = NO_LABEL
    return labels


def tertile_threshold(delta_P: Floats) -> float | None:
    """The change from which on pairs are not stable, such that a third of them is: the 1/3 quantile of |change|.

    Symmetric on purpose. Cutting the signed changes into thirds would give a rise another threshold than a fall, and
    then exchanging the two scans of a pair would not exchange improved and declined.

    Args:
        delta_P: changes in score, NaN where unknown.

    Returns:
        The observed |change| above 0 that leaves the share of smaller ones nearest to a third; of two equally near the
        smaller. Scores of few values have many equal changes, so the share may be far from a third: where a third or
        more did not change at all, it is the smallest change there is. None where nothing changed.
    """
    size_P = np.sort(np.abs(delta_P[~np.isnan(delta_P)]))
    # Differences of equal steps in decimals, such as 0.1, differ in the last bits; the least of them stands for all.
    level_U, num_below_U = np.unique(size_P.round(9), return_index=True)
    num_below_U = num_below_U[level_U > 0]
    if not len(num_below_U):
        return None
    # In whole numbers, so that a tie is one.
    nearest = np.abs(3 * num_below_U - len(size_P)).argmin()
    return float(size_P[num_below_U[nearest]])


def _by_day(cohort: Cohort, indices: Sequence[int]) -> list[list[int]]:
    """The indices grouped by acquisition day, earliest first; scans without a day are passed over."""
    groups: dict[float, list[int]] = {}
    for index in indices:
        day = float(cohort.days_N[index])
        if not np.isnan(day):
            groups.setdefault(day, []).append(index)
    return [groups[day] for day in sorted(groups)]


def _is_repeat(cohort: Cohort, first: int, second: int) -> bool:
    return cohort.acquisitions is None or cohort.acquisitions[first] == cohort.acquisitions[second]


def _pairs(cohort: Cohort, outcome: OutcomeSpec, chosen: Sequence[tuple[int, int]]) -> Pairs:
    earlier_P = np.array([earlier for earlier, _ in chosen], dtype=np.int64)
    later_P = np.array([later for _, later in chosen], dtype=np.int64)
    delta_P = cohort.scores_N[later_P] - cohort.scores_N[earlier_P]
    return Pairs(
        earlier_P=earlier_P,
        later_P=later_P,
        gap_days_P=cohort.days_N[later_P] - cohort.days_N[earlier_P],
        delta_P=delta_P,
        labels_P=progression_labels(delta_P, outcome),
    )
