"""Prediction sets by split conformal prediction: which answers cannot be ruled out at a stated coverage.

Sadinle, Lei and Wasserman 2019 (least ambiguous sets): an answer is in the set where its probability is at least a
threshold, the k-th smallest probability that calibration pairs gave to their true answer, k = floor(alpha (n + 1)).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocess.types import PROGRESSIONS

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SetThresholds:
    """The least probability with which each answer is in the set.

    Attributes:
        least_3: by answer, in the order of `PROGRESSIONS`; 0 keeps an answer in every set.
        own_3: whether the threshold is of that class alone; else it is that of all pairs.
        coverage: part of the pairs whose set is meant to hold the truth.
        num_pairs: calibration pairs.
    """

    least_3: tuple[float, ...]
    own_3: tuple[bool, ...]
    coverage: float
    num_pairs: int

    def members(self, probabilities_P3: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Which answers are in the set of each pair, (P, 3); the likeliest always is."""
        probability_P3 = np.asarray(probabilities_P3, dtype=np.float64)
        inside_P3 = probability_P3 >= np.asarray(self.least_3)
        inside_P3[np.arange(len(probability_P3)), probability_P3.argmax(axis=1)] = True
        return inside_P3


def fit_set_thresholds(
    probabilities_P3: npt.ArrayLike, labels_P: npt.ArrayLike, *, coverage: float = 0.9, few_pairs: int = 20
) -> SetThresholds:
    """Thresholds from pairs whose probabilities were calibrated without them.

    Args:
        probabilities_P3: what the calibration pairs were answered.
        labels_P: their true classes.
        coverage: part of the pairs whose set is meant to hold the truth, between 0 and 1.
        few_pairs: a class with fewer has the threshold of all pairs.

    Raises:
        ValueError: no pair, unequal lengths, or a coverage outside 0 to 1.
    """
    probability_P3, label_P = np.asarray(probabilities_P3, dtype=np.float64), np.asarray(labels_P, dtype=np.int64)
    if probability_P3.shape != (len(label_P), len(PROGRESSIONS)) or not len(label_P):
        raise ValueError(
            f"probabilities have shape {probability_P3.shape} for {len(label_P)} labels; give (P, 3), P > 0"
        )
    if not 0 < coverage < 1:
        raise ValueError(f"coverage is {coverage}; it must lie between 0 and 1")
    true_P = probability_P3[np.arange(len(label_P)), label_P]
    own_3 = tuple(int((label_P == label).sum()) >= few_pairs for label in range(len(PROGRESSIONS)))
    common = _threshold(true_P, coverage)
    least_3 = tuple(
        _threshold(true_P[label_P == label], coverage) if is_own else common for label, is_own in enumerate(own_3)
    )
    return SetThresholds(least_3, own_3, coverage, len(label_P))


def cross_members(
    probabilities_P3: npt.ArrayLike,
    labels_P: npt.ArrayLike,
    people_P: Sequence[str],
    *,
    coverage: float,
    seed: int,
    num_folds: int = 5,
) -> npt.NDArray[np.bool_]:
    """Prediction sets (P, 3) of pairs that set thresholds too: each person's by thresholds of other people.

    Args:
        probabilities_P3: what the pairs were answered.
        labels_P: their true classes.
        people_P: whose pair it is; at least two people.
        coverage: part of the pairs whose set is meant to hold the truth.
        seed: divides people into folds.
        num_folds: at most; no more than there are people.
    """
    probability_P3, label_P, people = np.asarray(probabilities_P3), np.asarray(labels_P), np.asarray(people_P)
    names = np.random.default_rng([seed, 0x5E75]).permutation(np.unique(people))
    members_P3 = np.empty((len(label_P), len(PROGRESSIONS)), dtype=bool)
    for fold in np.array_split(names, min(num_folds, len(names))):
        held_P = np.isin(people, fold)
        thresholds = fit_set_thresholds(probability_P3[~held_P], label_P[~held_P], coverage=coverage)
        members_P3[held_P] = thresholds.members(probability_P3[held_P])
    return members_P3


def _threshold(true_P: Floats, coverage: float) -> float:
    """The floor((1 - coverage) (n + 1))-th smallest; 0 where there are too few pairs to rule anything out."""
    # Rounded first: (1 - 0.9) * 10 is 0.9999999999999998.
    rank = int(np.floor(round((1 - coverage) * (len(true_P) + 1), 9)))
    return float(np.sort(true_P)[rank - 1]) if rank >= 1 else 0.0
