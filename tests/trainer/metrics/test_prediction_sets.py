"""Prediction sets hold the truth as often as they say, on pairs that set no threshold."""

import numpy as np
import pytest

from trainer.metrics.prediction_sets import fit_set_thresholds


def drawn(num: int, seed: int):
    draws = np.random.default_rng(seed)
    logits_P3 = draws.normal(scale=1.5, size=(num, 3))
    probability_P3 = np.exp(logits_P3) / np.exp(logits_P3).sum(axis=1, keepdims=True)
    labels_P = np.array([draws.choice(3, p=row) for row in probability_P3])
    # Overconfident, as networks are: the coverage must hold all the same.
    sharp_P3 = probability_P3**2
    return sharp_P3 / sharp_P3.sum(axis=1, keepdims=True), labels_P


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_coverage_holds_in_every_class_though_probabilities_are_too_sure(coverage: float) -> None:
    thresholds = fit_set_thresholds(*drawn(3000, 0), coverage=coverage)
    probability_P3, labels_P = drawn(20_000, 1)
    inside_P = thresholds.members(probability_P3)[np.arange(len(labels_P)), labels_P]
    assert thresholds.own_3 == (True, True, True)
    for label in range(3):
        assert inside_P[labels_P == label].mean() == pytest.approx(coverage, abs=0.025)


def test_mean_coverage_over_small_calibrations_is_not_below_what_was_promised() -> None:
    covered = []
    for seed in range(400):
        probability_P3, labels_P = drawn(30, seed)
        thresholds = fit_set_thresholds(probability_P3[:29], labels_P[:29], few_pairs=1000)
        covered.append(thresholds.members(probability_P3[29:])[0, labels_P[29]])
    assert np.mean(covered) >= 0.9 - 3 * np.sqrt(0.09 / 400)


def test_the_threshold_is_the_smallest_but_so_many() -> None:
    probability_P3 = np.stack([np.arange(1, 20) / 20, 1 - np.arange(1, 20) / 20, np.zeros(19)], axis=1)
    found = fit_set_thresholds(probability_P3, [0] * 19, coverage=0.9, few_pairs=1)
    assert found.least_3[0] == pytest.approx(2 / 20)  # floor(0.1 * 20) = 2
    assert found.own_3 == (True, False, False)


def test_too_few_pairs_rule_nothing_out_and_the_likeliest_answer_always_stays() -> None:
    few = fit_set_thresholds([[0.9, 0.05, 0.05]] * 5, [0] * 5)
    assert few.least_3 == (0.0, 0.0, 0.0)
    strict = fit_set_thresholds([[0.98, 0.01, 0.01]] * 50, [0] * 50)
    assert strict.members([[0.4, 0.35, 0.25]]).tolist() == [[True, False, False]]


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(0, 3\) for 0 labels"):
        fit_set_thresholds(np.zeros((0, 3)), [])
    with pytest.raises(ValueError, match="coverage is 1"):
        fit_set_thresholds([[1, 0, 0]], [0], coverage=1.0)
