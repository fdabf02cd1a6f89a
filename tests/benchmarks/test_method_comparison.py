"""Means, intervals and paired differences over seeds equal scipy's, and the table says no more than they do."""

import json

import numpy as np
import pytest
from scipy import stats

from benchmarks.method_comparison import compare_methods, methods_json, methods_table, seed_interval
from preprocess.errors import UsageError

VALUES = {
    "mse": {0: 0.40, 1: 0.42, 2: 0.41, 3: 0.39},
    "weighted": {0: 0.50, 1: 0.53, 2: 0.51, 3: 0.48},
    "contrastive": {0: 0.44, 1: 0.38, 2: 0.40, 3: 0.43},
    "broken": {0: 0.20, 1: 0.21, 2: 0.23, 3: 0.18},
    "new": {2: 0.60},
}


def test_mean_and_interval_over_seeds_equal_scipys() -> None:
    values = np.random.default_rng(0).normal(0.6, 0.05, 7)
    found = seed_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.mean, found.sd, found.num_seeds) == pytest.approx((np.mean(values), np.std(values, ddof=1), 7))
    assert seed_interval(values, level=0.8).high < found.high


def test_difference_to_the_baseline_is_paired_by_seed() -> None:
    # Out of order and with one more seed than the baseline: only equal seeds are paired.
    values = {"mse": VALUES["mse"], "weighted": {3: 0.48, 9: 0.9, 0: 0.50, 2: 0.51, 1: 0.53}}
    row = compare_methods(values, metric="macro_f1", baseline="mse").rows[1]
    expected = stats.ttest_rel([0.50, 0.53, 0.51, 0.48], [0.40, 0.42, 0.41, 0.39]).confidence_interval(0.95)
    assert (row.difference.low, row.difference.high) == pytest.approx((expected.low, expected.high))
    assert (row.score.num_seeds, row.difference.num_seeds) == (5, 4)
    assert row.by_seed[0] == (0, 0.50)


def test_standing_follows_the_whole_interval_and_the_direction_of_the_metric() -> None:
    higher = compare_methods(VALUES, metric="macro_f1", baseline="mse")
    standing = [higher.standing(row) for row in higher.rows]
    assert standing == ["baseline", "better", "not told apart", "worse", "too few seeds"]
    lower = compare_methods(VALUES, metric="mae", baseline="mse", higher_is_better=False)
    assert [lower.standing(row) for row in lower.rows][1:4] == ["worse", "not told apart", "better"]


def test_table_is_markdown_with_a_row_a_method() -> None:
    table = methods_table([compare_methods(VALUES, metric="macro_f1", baseline="mse", chance=1 / 3)], digits=2)
    lines = table.splitlines()
    assert lines[0] == "**macro_f1** (higher is better; chance 0.33)"
    assert lines[4].startswith("| `mse` | 4 | 0.41 ± 0.01 | 0.38 to 0.43 |  |  | baseline |")
    assert lines[5].startswith("| `weighted` | 4 | 0.51 ± 0.02 | 0.47 to 0.54 | +0.10 | +0.09 to +0.11 | better |")
    assert lines[8] == "| `new` | 1 | 0.60 |  | +0.19 |  | too few seeds |"
    assert {line.count("|") for line in lines[2:]} == {8}


def test_json_holds_the_same_numbers() -> None:
    comparison = compare_methods(VALUES, metric="macro_f1", baseline="mse")
    (read,) = json.loads(methods_json([comparison]))
    assert read["baseline"] == "mse"
    assert read["rows"][1]["score"]["mean"] == comparison.rows[1].score.mean
    assert read["rows"][1]["standing"] == "better"
    assert read["rows"][0]["difference"] is None
    assert {row["method"]: {int(s): v for s, v in row["by_seed"].items()} for row in read["rows"]} == VALUES


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"a": {0: 1.0}}, "baseline 'mse' is not among the methods a"),
        ({"mse": {0: 1.0}, "a": {}}, "'a' has no seed"),
        ({"mse": {0: 1.0}, "a": {0: float("nan")}}, "no finite value for seed 0"),
        ({"mse": {0: 1.0}, "a": {1: 1.0}}, "shares no seed with the baseline 'mse'"),
    ],
)
def test_tables_that_cannot_be_compared_are_refused_in_one_line(values: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        compare_methods(values, metric="macro_f1", baseline="mse")
    assert "\n" not in str(caught.value)


def test_no_values_are_refused() -> None:
    with pytest.raises(ValueError, match="vector of finite numbers"):
        seed_interval([])
