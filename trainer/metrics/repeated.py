"""A metric over repeated folds: its mean by repeat, with an interval that allows for what folds share.

Folds share training subjects, so their scores vary together. Scores are computed fold by fold, averaged within a
repeat, and then over repeats (docs/methods/joint.md). The sd over repeats is far smaller than the interval and says
only how much the division into folds matters.
Source of the interval: Nadeau and Bengio 2003, "Inference for the generalization error", eq. 12; for repeated
cross-validation Bouckaert and Frank 2004.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats


@dataclass(frozen=True, slots=True)
class FoldSize:
    """How many subjects a fold trained on and tested.

    Attributes:
        repeat: which repeat it belongs to, from 0.
        num_train: subjects that anything was fitted or chosen on.
        num_test: subjects that were scored.
    """

    repeat: int
    num_train: int
    num_test: int


@dataclass(frozen=True, slots=True)
class RepeatedMetric:
    """One metric over repeated folds.

    Attributes:
        value: mean over repeats of the mean over a repeat's folds.
        sd: over repeats; None with one repeat.
        low: lower end of the corrected resampled t interval over all folds; None where the score does not vary.
        high: upper end; None likewise.
        chance: level of guessing; None where guessing has no meaning.
        by_fold_R: the score of each fold, repeat by repeat.
        num_repeats: repeats.
        num_train: training subjects of a fold, on average.
        num_test: test subjects of a fold, on average.
    """

    value: float
    sd: float | None
    low: float | None
    high: float | None
    chance: float | None
    by_fold_R: tuple[float, ...]
    num_repeats: int
    num_train: float
    num_test: float


def summed_up(
    by_fold_R: Sequence[float], sizes: Sequence[FoldSize], *, chance: float | None, level: float = 0.95
) -> RepeatedMetric:
    """Sum up a score that each fold has, by repeat.

    Args:
        by_fold_R: (R,) the score of each fold.
        sizes: repeat and numbers of subjects of each fold, in the same order.
        chance: level of guessing, if any.
        level: coverage of the interval.

    Raises:
        ValueError: fewer than two folds, or another number of scores.
    """
    if len(by_fold_R) != len(sizes):
        raise ValueError(f"{len(by_fold_R)} scores for {len(sizes)} folds; one each is needed")
    num_train = float(np.mean([size.num_train for size in sizes])) if sizes else 0.0
    num_test = float(np.mean([size.num_test for size in sizes])) if sizes else 0.0
    low, high = corrected_interval(by_fold_R, num_train=num_train, num_test=num_test, level=level)
    score_R = np.asarray(by_fold_R, dtype=np.float64)
    repeat_R = np.array([size.repeat for size in sizes])
    by_repeat = [float(score_R[repeat_R == repeat].mean()) for repeat in np.unique(repeat_R)]
    return RepeatedMetric(
        value=float(np.mean(by_repeat)),
        sd=float(np.std(by_repeat, ddof=1)) if len(by_repeat) > 1 else None,
        low=low,
        high=high,
        chance=chance,
        by_fold_R=tuple(float(score) for score in by_fold_R),
        num_repeats=len(by_repeat),
        num_train=num_train,
        num_test=num_test,
    )


def corrected_interval(
    scores_R: npt.ArrayLike, *, num_train: float, num_test: float, level: float = 0.95
) -> tuple[float, float] | tuple[None, None]:
    """Interval of a mean over resamples that share training subjects: the corrected resampled t interval.

    Scores of such resamples vary together, and the plain t interval is too narrow for them. The variance of the mean is
    taken as (1/R + num_test/num_train) s^2, with R - 1 degrees of freedom.

    Args:
        scores_R: (R,) one score a fold, R at least 2.
        num_train: training subjects of a fold; the mean where folds differ.
        num_test: test subjects of a fold; likewise.
        level: coverage of the interval.

    Returns:
        Lower and upper end; None twice where the scores do not vary.

    Raises:
        ValueError: fewer than two scores, one that is not finite, or counts not above 0.
    """
    score_R, error = _checked(scores_R, num_train, num_test)
    if error == 0:
        return None, None
    mean = float(score_R.mean())
    reach = float(stats.t.ppf((1 + level) / 2, len(score_R) - 1)) * error
    return mean - reach, mean + reach


def corrected_p_value(scores_R: npt.ArrayLike, *, num_train: float, num_test: float) -> float | None:
    """Two-sided p-value of the corrected resampled t-test that the mean is 0.

    It is below 0.05 where the 95 % interval does not hold 0.

    Args:
        scores_R: (R,) one score a fold, or one difference; R at least 2.
        num_train: training subjects of a fold; the mean where folds differ.
        num_test: test subjects of a fold; likewise.

    Returns:
        None where the scores do not vary.

    Raises:
        ValueError: as `corrected_interval`.
    """
    score_R, error = _checked(scores_R, num_train, num_test)
    return None if error == 0 else float(2 * stats.t.sf(abs(score_R.mean()) / error, len(score_R) - 1))


def _checked(scores_R: npt.ArrayLike, num_train: float, num_test: float) -> tuple[npt.NDArray[np.float64], float]:
    """The scores, and the corrected standard error of their mean; 0 where they do not vary."""
    score_R = np.asarray(scores_R, dtype=np.float64)
    if score_R.ndim != 1 or len(score_R) < 2 or not np.isfinite(score_R).all():
        raise ValueError(f"scores must be a vector of at least 2 finite numbers; got shape {score_R.shape}")
    if num_train <= 0 or num_test <= 0:
        raise ValueError(f"num_train is {num_train} and num_test is {num_test}; both must be above 0")
    if np.ptp(score_R) == 0:
        return score_R, 0.0
    return score_R, float(score_R.std(ddof=1)) * float(np.sqrt(1 / len(score_R) + num_test / num_train))
