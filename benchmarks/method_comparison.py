"""Several methods over several seeds in one table: mean, sd, interval, and the paired difference to a baseline.

Pure: numbers in, frozen rows and text out. Each seed divides one cohort anew, so test sets of two seeds overlap and so
do training sets: scores vary together, and a plain t interval over seeds is too narrow. Intervals and p-values are
therefore those of the corrected resampled t-test (Nadeau and Bengio 2003; trainer/metrics/repeated.py), and the
p-values of a table, which has one metric and as many differences as methods beside the baseline, are corrected by Holm
(1979). The interval holds what other divisions and training runs on this cohort would give; it says nothing about
other subjects, for which the interval of a single run is there. The paired difference takes the seeds that both
methods have.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats

from preprocess.errors import UsageError
from trainer.metrics.repeated import corrected_interval, corrected_p_value

Floats = npt.NDArray[np.float64]
Table = Mapping[str, Mapping[int, float]]
"""Method to seed to value."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """How many subjects of one cohort every seed trains on and holds out: what makes scores of seeds vary together.

    Attributes:
        num_train: subjects that anything was fitted or chosen on, on average; those that validate count.
        num_test: held-out subjects, on average.
    """

    num_train: float
    num_test: float


@dataclass(frozen=True, slots=True)
class SeedInterval:
    """A mean over seeds with its interval.

    Attributes:
        mean: over seeds.
        sd: over seeds, with one degree of freedom less; None with one seed.
        low: lower end; None with one seed.
        high: upper end; None likewise.
        num_seeds: how many.
    """

    mean: float
    sd: float | None
    low: float | None
    high: float | None
    num_seeds: int


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One method.

    Attributes:
        method: its name.
        score: over all its seeds.
        difference: its score minus that of the baseline, over the seeds that both have; None for the baseline itself.
        by_seed: the values, by seed.
        p_value: two-sided, that the difference is 0; None for the baseline, with one seed, and where it does not vary.
        p_holm: the same, corrected for the number of differences in the table; the verdict is by this one.
    """

    method: str
    score: SeedInterval
    difference: SeedInterval | None
    by_seed: tuple[tuple[int, float], ...]
    p_value: float | None = None
    p_holm: float | None = None


@dataclass(frozen=True, slots=True)
class MethodComparison:
    """All methods by one metric.

    Attributes:
        metric: its name.
        baseline: the method that the others are compared with.
        higher_is_better: direction of the metric.
        chance: level of guessing; None where it has no meaning or differs between methods.
        level: coverage of the intervals; a verdict has the error rate 1 - level over all differences together.
        rows: in the order given.
        overlap: how the seeds share subjects; None where no subject is scored, as for minutes.
    """

    metric: str
    baseline: str
    higher_is_better: bool
    chance: float | None
    level: float
    rows: tuple[MethodRow, ...]
    overlap: Overlap | None = None

    def standing(self, row: MethodRow) -> str:
        """`baseline`, `better`, `worse`, `not told apart`, or `too few seeds`: by Holm's p-value, nothing less."""
        if row.difference is None:
            return "baseline"
        if row.difference.num_seeds < 2:
            return "too few seeds"
        if row.p_holm is None or row.p_holm >= 1 - self.level:
            return "not told apart"
        return "better" if (row.difference.mean > 0) == self.higher_is_better else "worse"


def seed_interval(values_S: npt.ArrayLike, *, level: float = 0.95, overlap: Overlap | None = None) -> SeedInterval:
    """Mean, sd and interval of values over seeds.

    Args:
        values_S: (S,) one value a seed.
        level: coverage.
        overlap: how the seeds share subjects; None gives the plain t interval, for values of independent runs.

    Raises:
        ValueError: no value, or one that is not finite.
    """
    value_S = np.asarray(values_S, dtype=np.float64)
    if value_S.ndim != 1 or not value_S.size or not np.isfinite(value_S).all():
        raise ValueError(f"values over seeds must be a vector of finite numbers; got {value_S.tolist()}")
    num, mean = len(value_S), float(value_S.mean())
    if num == 1:
        return SeedInterval(mean, None, None, None, 1)
    sd = float(value_S.std(ddof=1))
    if overlap is None:
        reach = float(stats.t.ppf((1 + level) / 2, num - 1) * sd / np.sqrt(num))
        return SeedInterval(mean, sd, mean - reach, mean + reach, num)
    low, high = corrected_interval(value_S, **asdict(overlap), level=level)
    return SeedInterval(mean, sd, low, high, num)


def p_value(differences_S: npt.ArrayLike, overlap: Overlap | None) -> float | None:
    """Two-sided p-value that the mean difference over seeds is 0; None with one seed, or where they do not vary."""
    difference_S = np.asarray(differences_S, dtype=np.float64)
    if len(difference_S) < 2 or np.ptp(difference_S) == 0:
        return None
    if overlap is None:
        return float(stats.ttest_1samp(difference_S, 0.0).pvalue)
    return corrected_p_value(difference_S, **asdict(overlap))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values corrected for their number by Holm's step-down; None stays None and counts for nothing.

    An adjusted value below alpha rejects its hypothesis while all together err with probability alpha at most, whatever
    the dependence (Holm 1979, "A simple sequentially rejective multiple test procedure").
    """
    known = sorted((value, index) for index, value in enumerate(p_values) if value is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    reached = 0.0
    for rank, (value, index) in enumerate(known):
        reached = max(reached, min(1.0, (len(known) - rank) * value))
        adjusted[index] = reached
    return adjusted


def compare_methods(
    values: Table,
    *,
    metric: str,
    baseline: str,
    higher_is_better: bool = True,
    chance: float | None = None,
    level: float = 0.95,
    overlap: Overlap | None = None,
) -> MethodComparison:
    """Put methods beside a baseline by one metric.

    Args:
        values: method to seed to value.
        metric: name for the table.
        baseline: one of the methods.
        higher_is_better: direction of the metric.
        chance: level of guessing, if there is one for all methods.
        level: coverage of the intervals.
        overlap: how the seeds share subjects; None for a metric of independent runs, as minutes are.

    Raises:
        UsageError: the baseline is not among the methods, a method has no seed, shares none with the baseline, or has a
            value that is not finite.
    """
    if baseline not in values:
        raise UsageError(f"baseline {baseline!r} is not among the methods {', '.join(values) or '(none)'}")
    for method, by_seed in values.items():
        if not by_seed:
            raise UsageError(f"{metric}: {method!r} has no seed; leave it out or run it")
        bad = [seed for seed, value in by_seed.items() if not np.isfinite(value)]
        if bad:
            raise UsageError(f"{metric}: {method!r} has no finite value for seed {bad[0]}; leave the seed out")
        if not by_seed.keys() & values[baseline].keys():
            raise UsageError(f"{metric}: {method!r} shares no seed with the baseline {baseline!r}; run equal seeds")
    rows = []
    for method, by_seed in values.items():
        shared = sorted(by_seed.keys() & values[baseline].keys())
        difference_S = [by_seed[seed] - values[baseline][seed] for seed in shared]
        is_baseline = method == baseline
        rows.append(
            MethodRow(
                method=method,
                score=seed_interval(list(by_seed.values()), level=level, overlap=overlap),
                difference=None if is_baseline else seed_interval(difference_S, level=level, overlap=overlap),
                by_seed=tuple(sorted((int(seed), float(value)) for seed, value in by_seed.items())),
                p_value=None if is_baseline else p_value(difference_S, overlap),
            )
        )
    adjusted = holm([row.p_value for row in rows])
    rows = [replace(row, p_holm=value) for row, value in zip(rows, adjusted, strict=True)]
    return MethodComparison(metric, baseline, higher_is_better, chance, level, tuple(rows), overlap)


def methods_table(comparisons: Sequence[MethodComparison], *, digits: int = 3) -> str:
    """Render comparisons as Markdown, one table a metric.

    Args:
        comparisons: from `compare_methods`.
        digits: after the point.
    """
    return "\n".join(_markdown(comparison, digits) for comparison in comparisons)


def methods_json(comparisons: Sequence[MethodComparison]) -> str:
    """Render comparisons as JSON: a list with what `MethodComparison` holds, and each row's standing.

    Args:
        comparisons: from `compare_methods`.
    """
    listed = []
    for comparison in comparisons:
        plain = asdict(comparison)
        for row, method in zip(plain["rows"], comparison.rows, strict=True):
            row["by_seed"] = {str(seed): value for seed, value in method.by_seed}
            row["standing"] = comparison.standing(method)
        listed.append(plain)
    return json.dumps(listed, indent=2, allow_nan=False)


def _markdown(comparison: MethodComparison, digits: int) -> str:
    direction = "higher" if comparison.higher_is_better else "lower"
    chance = "" if comparison.chance is None else f"; chance {comparison.chance:.{digits}f}"
    interval = f"{100 * comparison.level:g} % interval"
    lines = [
        f"**{comparison.metric}** ({direction} is better{chance})",
        "",
        f"| method | seeds | mean ± sd | {interval} | minus `{comparison.baseline}` | {interval} | p, Holm | |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row in comparison.rows:
        score, difference = row.score, row.difference
        spread = f"{score.mean:.{digits}f}" + ("" if score.sd is None else f" ± {score.sd:.{digits}f}")
        apart = "" if difference is None else f"{difference.mean:+.{digits}f}"
        cells = (
            f"`{row.method}`",
            str(score.num_seeds),
            spread,
            _ends(score, f".{digits}f"),
            apart,
            "" if difference is None else _ends(difference, f"+.{digits}f"),
            "" if row.p_holm is None else f"{row.p_holm:.2g}",
            comparison.standing(row),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _ends(interval: SeedInterval, how: str) -> str:
    return "" if interval.low is None else f"{interval.low:{how}} to {interval.high:{how}}"
