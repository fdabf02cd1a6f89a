"""Metrics over repeated folds sum up as a loop does, and the interval is the published one and as wide as it says."""

import numpy as np
import pytest
from scipy import integrate, optimize, special

from trainer.metrics.repeated import FoldSize, corrected_interval, corrected_p_value, summed_up


def two_sided_tail(t: float, freedom: int) -> float:
    """Student's density integrated numerically from |t| on, twice."""
    scale = special.gamma((freedom + 1) / 2) / (np.sqrt(freedom * np.pi) * special.gamma(freedom / 2))
    return 2 * integrate.quad(lambda x: scale * (1 + x * x / freedom) ** (-(freedom + 1) / 2), abs(t), np.inf)[0]


def test_interval_is_the_formula_of_nadeau_and_bengio() -> None:
    score = np.random.default_rng(5).normal(0.02, 0.05, 30)
    low, high = corrected_interval(score, num_train=90, num_test=10)
    variance = sum((one - score.mean()) ** 2 for one in score) / 29
    error = (variance * (1 / 30 + 10 / 90)) ** 0.5
    # The t beyond which 5 % of Student's density lie.
    reach = optimize.brentq(lambda t: two_sided_tail(t, 29) - 0.05, 1, 5)
    assert (low, high) == pytest.approx((score.mean() - reach * error, score.mean() + reach * error), rel=1e-6)


def test_the_p_value_is_the_level_at_which_the_interval_ends_at_zero() -> None:
    score = np.random.default_rng(6).normal(0.03, 0.05, 8)
    found = corrected_p_value(score, num_train=84, num_test=36)
    error = score.std(ddof=1) * (1 / 8 + 36 / 84) ** 0.5
    assert found == pytest.approx(two_sided_tail(score.mean() / error, 7), rel=1e-6)
    low, _ = corrected_interval(score, num_train=84, num_test=36, level=1 - found)
    assert low == pytest.approx(0, abs=1e-9)
    assert corrected_p_value(-score, num_train=84, num_test=36) == pytest.approx(found)
    assert corrected_p_value([0.1, 0.1], num_train=84, num_test=36) is None


def test_corrected_interval_misses_no_more_often_than_asked_where_the_plain_one_does() -> None:
    # Scores of resamples share training subjects: modelled with the correlation n_test / (n_test + n_train) that the
    # correction assumes, under which its t is exactly Student's. The true mean is 0.
    generator = np.random.default_rng(0)
    correlation, num, trials = 0.1, 20, 2000
    shared = generator.normal(0, correlation**0.5, (trials, 1))
    scores = shared + generator.normal(0, (1 - correlation) ** 0.5, (trials, num))

    def misses(num_train: float, num_test: float) -> float:
        ends = [corrected_interval(row, num_train=num_train, num_test=num_test) for row in scores]
        return float(np.mean([not low <= 0 <= high for low, high in ends]))

    # Binomial(2000, 0.05): 0.035 to 0.065 is three standard deviations.
    assert 0.035 < misses(90, 10) < 0.065
    assert misses(1e12, 1) > 0.2


def test_a_metric_is_averaged_within_repeats_and_then_over_them() -> None:
    score = np.random.default_rng(2).uniform(0.4, 0.9, 12)
    sizes = [FoldSize(index // 3, 20 + index % 3, 10 - index % 3) for index in range(12)]
    found = summed_up(score.tolist(), sizes, chance=0.5)
    repeats = score.reshape(4, 3).mean(axis=1)
    assert found.by_fold_R == pytest.approx(tuple(score))
    assert found.value == pytest.approx(repeats.mean())
    assert found.sd == pytest.approx(repeats.std(ddof=1))
    assert (found.low, found.high) == corrected_interval(score, num_train=21, num_test=9)
    assert (found.num_repeats, found.num_train, found.num_test, found.chance) == (4, 21, 9, 0.5)
    assert summed_up([0.5, 0.7], [FoldSize(0, 9, 3)] * 2, chance=None).sd is None


def test_scores_that_do_not_vary_have_no_interval() -> None:
    found = summed_up([0.5] * 4, [FoldSize(0, 9, 3)] * 4, chance=None)
    assert (found.value, found.low, found.high) == (0.5, None, None)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: corrected_interval([0.1], num_train=9, num_test=1), "at least 2"),
        (lambda: corrected_interval([0.1, np.nan], num_train=9, num_test=1), "finite"),
        (lambda: corrected_interval([0.1, 0.2], num_train=0, num_test=1), "above 0"),
        (lambda: summed_up([0.5], [FoldSize(0, 9, 3)] * 4, chance=None), "1 scores for 4 folds"),
        (lambda: summed_up([], [], chance=None), "at least 2"),
    ],
)
def test_what_cannot_be_summed_up_is_refused_in_one_line(call, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)
