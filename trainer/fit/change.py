"""Calibrates predicted changes of people whom the networks have not seen: probabilities, prediction sets, noise.

Pure: arrays in, frozen results out. Improvements are predicted changes of the score, positive where people got better.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit

from preprocess.types import PROGRESSIONS
from trainer.metrics.told_change import true_spread

Floats = npt.NDArray[np.float64]
COVERAGE = 0.9
"""Part of the pairs whose prediction set is meant to hold the true answer."""
FEW_PAIRS = 20
"""Pairs of a class from which on it has a threshold of its own."""
FEW_PEOPLE = 10
"""With fewer, nothing can be calibrated: a quantile at 90 % would be the largest value seen."""
LEAST_OFFSET = 0.8
"""At no predicted change stable must be the likeliest answer, whatever the labels. Without base rates an offset of ln 2
would do; with the share that `FEW_PEOPLE` people leave to them, and nobody stable, 0.75."""
_NUM_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What turns an improvement into probabilities; see `trainer.encoders.change_head.ChangeHead`.

    Attributes:
        steepness: per point of the score.
        offset: `LEAST_OFFSET` or more.
        share: weight of the base rates: one in (people + 2), Laplace's rule for an event that was never seen.
        rate: base rate of improved and declined together.
        gain: 1 over the slope of predicted against true change.
        num_people: people it was fitted on.
        num_pairs: their pairs.
    """

    steepness: float
    offset: float
    share: float
    rate: float
    gain: float
    num_people: int
    num_pairs: int

    def probabilities(self, improvements_P: npt.ArrayLike) -> Floats:
        """Probabilities (P, 3) in the order of `PROGRESSIONS`, as the head computes them."""
        scaled_P = self.steepness * np.asarray(improvements_P, dtype=np.float64)
        floor = self.share * self.rate / 2
        improved_P, declined_P = ((1 - self.share) * expit(x - self.offset) + floor for x in (scaled_P, -scaled_P))
        found = {"improved": improved_P, "stable": 1 - improved_P - declined_P, "declined": declined_P}
        return np.stack([found[progression] for progression in PROGRESSIONS], axis=1)


def calibrate(
    improvements_P: npt.ArrayLike,
    labels_P: npt.ArrayLike,
    true_P: npt.ArrayLike,
    people_P: Sequence[str],
    *,
    change_noise: float = 0.0,
) -> Calibrated:
    """Fit steepness and offset by maximum likelihood, each person with weight 1.

    Args:
        improvements_P: predicted by networks that have not seen the person.
        labels_P: 0, 1, 2 in the order of `PROGRESSIONS`.
        true_P: true improvements as the test shows them, in points of the score.
        people_P: whose pair it is.
        change_noise: variance of the test's own error in them; see `true_spread`.

    Raises:
        ValueError: no pair.
    """
    improvement_P = np.asarray(improvements_P, dtype=np.float64)
    label_P, true = np.asarray(labels_P, dtype=np.int64), np.asarray(true_P, dtype=np.float64)
    if not len(improvement_P):
        raise ValueError("there is no pair to calibrate on")
    names, person_P = np.unique(np.asarray(people_P), return_inverse=True)
    weight_P = 1.0 / np.bincount(person_P)[person_P]
    weight_P /= weight_P.sum()
    num_people = len(names)
    changed = float(weight_P @ (label_P != PROGRESSIONS.index("stable")))
    # One more of each kind, so that a rate of 0 or 1 is never believed.
    rate = (changed * num_people + 1) / (num_people + 2)
    share = 1 / (num_people + 2)
    scale = float(np.sqrt(weight_P @ improvement_P**2)) or 1.0

    def candidate(unbounded_2: Floats) -> Calibrated:
        steepness, offset = np.exp(np.clip(unbounded_2, -12, 6))
        return Calibrated(steepness / scale, LEAST_OFFSET + offset, share, rate, 1.0, num_people, len(label_P))

    def loss(unbounded_2: Floats) -> float:
        chosen_P = candidate(unbounded_2).probabilities(improvement_P)[np.arange(len(label_P)), label_P]
        return float(-(weight_P @ np.log(chosen_P)))

    # Two numbers from a smooth loss; the starts lie on both sides of steep, since far out it is flat.
    starts = [np.array([steep, 0.5]) for steep in (-2.0, 0.5, 2.0)]
    best = min((minimize(loss, start, method="Nelder-Mead") for start in starts), key=lambda found: float(found.fun))
    fitted = candidate(best.x)
    gain = _gain(improvement_P, true, weight_P, change_noise)
    return Calibrated(fitted.steepness, fitted.offset, share, rate, gain, num_people, len(label_P))


def cross_calibrated(
    improvements_P: npt.ArrayLike,
    labels_P: npt.ArrayLike,
    true_P: npt.ArrayLike,
    people_P: Sequence[str],
    *,
    seed: int,
    num_folds: int = _NUM_FOLDS,
) -> Floats:
    """Probabilities (P, 3) of each person's pairs, calibrated on other people.

    Args:
        improvements_P: predicted by networks that have not seen the person.
        labels_P: 0, 1, 2 in the order of `PROGRESSIONS`.
        true_P: true improvements, in points of the score.
        people_P: whose pair it is; at least two people.
        seed: divides people into folds.
        num_folds: at most; no more than there are people.
    """
    improvement_P, label_P = np.asarray(improvements_P, dtype=np.float64), np.asarray(labels_P)
    true = np.asarray(true_P, dtype=np.float64)
    people = np.asarray(people_P)
    names = np.random.default_rng([seed, 0xCA1B]).permutation(np.unique(people))
    found_P3 = np.empty((len(label_P), len(PROGRESSIONS)))
    for fold in np.array_split(names, min(num_folds, len(names))):
        held_P = np.isin(people, fold)
        fitted = calibrate(improvement_P[~held_P], label_P[~held_P], true[~held_P], people[~held_P].tolist())
        found_P3[held_P] = fitted.probabilities(improvement_P[held_P])
    return found_P3


def _gain(improvement_P: Floats, true_P: Floats, weight_P: Floats, change_noise: float) -> float:
    """1 over the slope of predicted against true change through 0; 1 where predictions do not follow the truth."""
    known_P = np.isfinite(true_P)
    slope = float(weight_P[known_P] @ (improvement_P * true_P)[known_P])
    spread = true_spread(float(weight_P[known_P] @ true_P[known_P] ** 2), change_noise)
    return spread / slope if slope > 0.1 * spread > 0 else 1.0
