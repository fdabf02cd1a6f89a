"""Compares runs of benchmarks/methods.py again from the figures in its result, without training anything.

python -m benchmarks.method_again benchmarks/results/methods.json [--only severity] [--baseline conpro]
    [--plots FOLDER] [--out FILE]

Intervals, p-values and verdicts are computed anew; the figures of each seed stay. Prints, for each case, one table with
a column a metric, as docs/methods has them, and one a metric. With --baseline other arms are held against another one.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.method_cases import CASES, Case
from benchmarks.method_cohorts import NUM_SUBJECTS, QUICK_SUBJECTS
from benchmarks.method_comparison import MethodComparison, SeedInterval, methods_json, methods_table
from benchmarks.method_overlap import compare_case, overlap_of
from benchmarks.method_plots import methods_plot


def main() -> None:
    """See the module."""
    options = _options()
    result = json.loads(options.result.read_text())
    for case in CASES:
        if case.name not in result or options.only not in ("", case.name):
            continue
        comparisons = compare_again(case, result, baseline=options.baseline)
        sys.stdout.write(f"### {case.name}\n\n{wide_table(comparisons)}\n{methods_table(comparisons)}\n")
        result[case.name]["metrics"] = json.loads(methods_json(comparisons))
        if options.plots is not None:
            options.plots.mkdir(parents=True, exist_ok=True)
            (options.plots / f"{case.name}.png").write_bytes(methods_plot(comparisons))
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n")


def compare_again(case: Case, result: dict[str, Any], *, baseline: str | None = None) -> list[MethodComparison]:
    """The comparisons of a case from the figures of each seed in a result.

    Args:
        case: one that the result has.
        result: what benchmarks/methods.py wrote.
        baseline: another arm than the case's to hold the others against.
    """
    values = {
        one["metric"]: {
            row["method"]: {int(seed): value for seed, value in row["by_seed"].items()} for row in one["rows"]
        }
        for one in result[case.name]["metrics"]
    }
    num_seeds = max(len(by_seed) for table in values.values() for by_seed in table.values())
    sizes = QUICK_SUBJECTS if result["settings"]["quick"] else NUM_SUBJECTS
    overlap = overlap_of(case, sizes[case.cohort], num_seeds=num_seeds)
    return compare_case(case, values, overlap, baseline=baseline)


def wide_table(comparisons: Sequence[MethodComparison]) -> str:
    """One Markdown table with a row a method and a column a metric; better and worse are against the baseline.

    Args:
        comparisons: by different metrics, of the same methods.
    """
    lines = [
        f"| method | {' | '.join(one.metric for one in comparisons)} |",
        f"|{'---|' * (1 + len(comparisons))}",
    ]
    for row in comparisons[0].rows:
        cells = [_cell(comparison, row.method) for comparison in comparisons]
        lines.append(f"| {row.method} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(comparison: MethodComparison, method: str) -> str:
    row = next(one for one in comparison.rows if one.method == method)
    standing = comparison.standing(row)
    return _mean(row.score) + (f", {standing}" if standing in ("better", "worse") else "")


def _mean(score: SeedInterval) -> str:
    ends = "" if score.low is None else f" ({score.low:.2f} to {score.high:.2f})"
    return f"{score.mean:.2f}{ends}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="what benchmarks/methods.py wrote")
    parser.add_argument("--only", default="", help="one comparison by name")
    parser.add_argument("--baseline", help="the arm that the others are held against, in place of the case's")
    parser.add_argument("--plots", type=Path, help="folder for pictures")
    parser.add_argument("--out", type=Path, help="file for the JSON with the new intervals and verdicts")
    return parser.parse_args()


if __name__ == "__main__":
    main()
