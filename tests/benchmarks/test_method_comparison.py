"""Means, intervals and paired differences over seeds equal scipy's, and the table says no more than they do."""

import itertools
import json

import numpy as np
import pytest
from scipy import stats

from benchmarks.method_comparison import (
    Overlap,
    compare_methods,
    holm,
    methods_json,
    methods_table,
    seed_interval,
)
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


def test_scores_of_seeds_that_share_subjects_have_the_corrected_interval_and_p_value() -> None:
    overlap = Overlap(num_train=84, num_test=36)
    row = compare_methods(VALUES, metric="macro_f1", baseline="mse", overlap=overlap).rows[1]
    difference = np.array([0.10, 0.11, 0.10, 0.09])
    error = difference.std(ddof=1) * np.sqrt(1 / 4 + 36 / 84)
    reach = stats.t.ppf(0.975, 3) * error
    assert (row.difference.low, row.difference.high) == pytest.approx((0.1 - reach, 0.1 + reach))
    assert row.p_value == pytest.approx(2 * stats.t.sf(0.1 / error, 3))
    plain = compare_methods(VALUES, metric="macro_f1", baseline="mse").rows[1]
    assert plain.p_value == pytest.approx(stats.ttest_1samp(difference, 0).pvalue)
    assert row.difference.low < plain.difference.low
    assert row.p_value > plain.p_value
    assert row.score.low < plain.score.low


@pytest.mark.parametrize("seed", range(5))
def test_holms_values_are_those_of_testing_every_intersection_by_bonferroni(seed: int) -> None:
    p_values = np.random.default_rng(seed).uniform(0, 0.2, 6).tolist()
    subsets = [chosen for size in range(1, 7) for chosen in itertools.combinations(range(6), size)]
    closed = [
        max(min(1.0, len(chosen) * min(p_values[i] for i in chosen)) for chosen in subsets if one in chosen)
        for one in range(6)
    ]
    assert holm(p_values) == pytest.approx(closed)
    assert holm([*p_values, None])[:6] == pytest.approx(closed)
    assert holm([*p_values, None])[6] is None


def test_a_difference_that_is_clear_alone_can_be_lost_among_many() -> None:
    generator = np.random.default_rng(0)
    base = dict.fromkeys(range(5), 0.5)
    clear = {seed: 0.5 + value for seed, value in enumerate([0.03, 0.06, 0.04, 0.02, 0.05])}
    others = {f"arm {n}": {seed: 0.5 + generator.normal(0, 0.05) for seed in range(5)} for n in range(30)}
    alone = compare_methods({"base": base, "clear": clear}, metric="auc", baseline="base")
    among = compare_methods({"base": base, "clear": clear, **others}, metric="auc", baseline="base")
    assert alone.standing(alone.rows[1]) == "better"
    assert among.rows[1].p_value == alone.rows[1].p_value
    assert among.rows[1].difference.low > 0
    assert among.standing(among.rows[1]) == "not told apart"


def test_differences_that_do_not_vary_are_not_told_apart() -> None:
    same = {"mse": VALUES["mse"], "copy": dict(VALUES["mse"])}
    for overlap in (None, Overlap(84, 36)):
        comparison = compare_methods(same, metric="macro_f1", baseline="mse", overlap=overlap)
        assert comparison.standing(comparison.rows[1]) == "not told apart"


def test_standing_follows_the_corrected_p_value_and_the_direction_of_the_metric() -> None:
    higher = compare_methods(VALUES, metric="macro_f1", baseline="mse")
    standing = [higher.standing(row) for row in higher.rows]
    assert standing == ["baseline", "better", "not told apart", "worse", "too few seeds"]
    lower = compare_methods(VALUES, metric="mae", baseline="mse", higher_is_better=False)
    assert [lower.standing(row) for row in lower.rows][1:4] == ["worse", "not told apart", "better"]


def test_table_is_markdown_with_a_row_a_method() -> None:
    table = methods_table([compare_methods(VALUES, metric="macro_f1", baseline="mse", chance=1 / 3)], digits=2)
    lines = table.splitlines()
    assert lines[0] == "**macro_f1** (higher is better; chance 0.33)"
    assert lines[4].startswith("| `mse` | 4 | 0.41 ± 0.01 | 0.38 to 0.43 |  |  |  | baseline |")
    adjusted = 2 * stats.ttest_1samp([0.10, 0.11, 0.10, 0.09], 0).pvalue  # `broken` is clearer, `new` has one seed
    row = f"| `weighted` | 4 | 0.51 ± 0.02 | 0.47 to 0.54 | +0.10 | +0.09 to +0.11 | {adjusted:.2g} | better |"
    assert lines[5] == row
    assert lines[8] == "| `new` | 1 | 0.60 |  | +0.19 |  |  | too few seeds |"
    assert {line.count("|") for line in lines[2:]} == {9}


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
