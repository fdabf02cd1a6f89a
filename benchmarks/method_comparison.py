"""Several methods over several seeds in one table: mean, sd, t interval, and the paired difference to a baseline.

Pure: numbers in, frozen rows and text out. The interval over seeds holds what another training run would give on the
same subjects; it says nothing about other subjects, for which the interval of a single run is there. The paired
difference takes the seeds that both methods have. No correction for the number of methods is made.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from preprocess.errors import UsageError

Floats = npt.NDArray[np.float64]
Table = Mapping[str, Mapping[int, float]]
"""Method to seed to value."""


@dataclass(frozen=True, slots=True)
class SeedInterval:
    """A mean over seeds with its t interval.

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
    """

    method: str
    score: SeedInterval
    difference: SeedInterval | None
    by_seed: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class MethodComparison:
    """All methods by one metric.

    Attributes:
        metric: its name.
        baseline: the method that the others are compared with.
        higher_is_better: direction of the metric.
        chance: level of guessing; None where it has no meaning or differs between methods.
        level: coverage of the intervals.
        rows: in the order given.
    """

    metric: str
    baseline: str
    higher_is_better: bool
    chance: float | None
    level: float
    rows: tuple[MethodRow, ...]

    def standing(self, row: MethodRow) -> str:
        """`baseline`, `better`, `worse`, `not told apart`, or `too few seeds`: by the whole interval, nothing less."""
        if row.difference is None:
            return "baseline"
        if row.difference.low is None or row.difference.high is None:
            return "too few seeds"
        if row.difference.low <= 0 <= row.difference.high:
            return "not told apart"
        return "better" if (row.difference.low > 0) == self.higher_is_better else "worse"


def seed_interval(values_S: npt.ArrayLike, *, level: float = 0.95) -> SeedInterval:
    """Mean, sd and t interval of values over seeds.

    Args:
        values_S: (S,) one value a seed.
        level: coverage.

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
    reach = float(stats.t.ppf((1 + level) / 2, num - 1)) * sd / np.sqrt(num)
    return SeedInterval(mean, sd, mean - float(reach), mean + float(reach), num)


def compare_methods(
    values: Table,
    *,
    metric: str,
    baseline: str,
    higher_is_better: bool = True,
    chance: float | None = None,
    level: float = 0.95,
) -> MethodComparison:
    """Put methods beside a baseline by one metric.

    Args:
        values: method to seed to value.
        metric: name for the table.
        baseline: one of the methods.
        higher_is_better: direction of the metric.
        chance: level of guessing, if there is one for all methods.
        level: coverage of the intervals.

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
        rows.append(
            MethodRow(
                method=method,
                score=seed_interval(list(by_seed.values()), level=level),
                difference=None if method == baseline else seed_interval(difference_S, level=level),
                by_seed=tuple(sorted((int(seed), float(value)) for seed, value in by_seed.items())),
            )
        )
    return MethodComparison(metric, baseline, higher_is_better, chance, level, tuple(rows))


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
        f"| method | seeds | mean ± sd | {interval} | minus `{comparison.baseline}` | {interval} | |",
        "|---|---:|---:|---:|---:|---:|---|",
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
            comparison.standing(row),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _ends(interval: SeedInterval, how: str) -> str:
    return "" if interval.low is None else f"{interval.low:{how}} to {interval.high:{how}}"
