"""Intervals by cluster bootstrap: whole subjects are drawn, since scans of one person are not independent.

Percentile interval (Efron and Tibshirani 1993, chapter 13). The same seed gives the same interval. Where there are
too few subjects, the interval is None with the reason beside it, rather than a narrow lie.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Statistic = Callable[[Integers], float | None]

MIN_SUBJECTS = 5
"""Five subjects give 126 distinct resamples; with fewer the 2.5 % tails hold hardly any."""
MAX_UNDEFINED = 0.1
"""Above this share of resamples without a value, the tails are those of another statistic."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its interval over subjects.

    Attributes:
        value: the statistic on all rows; None when it is undefined there.
        low: lower end; None when no interval can be given.
        high: upper end; None likewise.
        num_subjects: subjects that were resampled.
        note: why there is no interval; empty when there is one.
    """

    value: float | None
    low: float | None
    high: float | None
    num_subjects: int
    note: str = ""


def cluster_bootstrap(
    statistic: Statistic,
    subject_ids: npt.ArrayLike | Sequence[str],
    *,
    seed: int,
    num_resamples: int = 2000,
    level: float = 0.95,
) -> Interval:
    """Put a percentile interval around a function of rows by resampling subjects.

    Args:
        statistic: from (K,) row indices, repeats allowed, to a number; None or NaN where it is undefined.
        subject_ids: (N,) the subject of each row.
        seed: decides which subjects are drawn; the same seed gives the same interval.
        num_resamples: how many; 2000 keeps the ends within about 2 % of the interval's width, 0 gives the value alone.
        level: requested coverage.

    Raises:
        ValueError: no rows.
    """
    code_N = np.unique(np.asarray(subject_ids), return_inverse=True)[1]
    if code_N.size == 0:
        raise ValueError("a bootstrap needs at least one row; got 0")
    by_subject = np.argsort(code_N, kind="stable").astype(np.int64)
    rows_S = np.split(by_subject, np.cumsum(np.bincount(code_N))[:-1])
    num_subjects = len(rows_S)
    value = _defined(statistic(np.arange(code_N.size, dtype=np.int64)))
    if value is None:
        return Interval(None, None, None, num_subjects, "not defined on these rows")
    if num_resamples == 0:
        return Interval(value, None, None, num_subjects, "no interval was asked for")
    if num_subjects < MIN_SUBJECTS:
        note = f"{num_subjects} subjects; an interval needs at least {MIN_SUBJECTS}"
        return Interval(value, None, None, num_subjects, note)
    generator = np.random.default_rng(seed)
    drawn = (generator.integers(0, num_subjects, num_subjects) for _ in range(num_resamples))
    values = [_defined(statistic(np.concatenate([rows_S[subject] for subject in draw]))) for draw in drawn]
    defined = [one for one in values if one is not None]
    if len(defined) < (1 - MAX_UNDEFINED) * num_resamples:
        share = 1 - len(defined) / num_resamples
        return Interval(value, None, None, num_subjects, f"undefined in {share:.0%} of the resamples")
    low, high = np.quantile(defined, ((1 - level) / 2, (1 + level) / 2))
    return Interval(value, float(low), float(high), num_subjects)


def _defined(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
