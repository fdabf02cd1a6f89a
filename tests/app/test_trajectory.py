"""The line through visits against numpy's polyfit, closed forms and simulated people."""

import math

import numpy as np
import pytest

from app.trajectory import fit_line, ordinal, require_visits
from preprocess.errors import UsageError

DAYS = np.array([0.0, 200.0, 365.25, 731.0, 1100.0])
TOLD = np.array([0.0, -0.4, 0.3, -2.1, -3.3])


def fitted(days=DAYS, told=TOLD, error_sd=0.5):
    line = fit_line(days, told, error_sd=error_sd)
    assert line is not None
    return line


def test_slope_and_scatter_are_those_of_polyfit():
    line = fitted()
    (slope, intercept), residuals, *_ = np.polyfit(DAYS / 365.25, TOLD, 1, full=True)

    assert line.slope == pytest.approx(slope)
    assert line.intercept == pytest.approx(intercept)
    assert line.scatter == pytest.approx(math.sqrt(residuals[0] / 3))
    assert line.at(400.0) == pytest.approx(np.polyval((slope, intercept), 400 / 365.25))


def test_the_interval_by_hand_takes_the_larger_of_stated_error_and_scatter():
    # 0, 1 and 2 years with residuals 0.5, -1, 0.5: S = 2, scatter^2 = 1.5 / 1.
    days, told = np.array([0, 1, 2]) * 365.25, np.array([0.5, -2.0, -1.5])
    careful, sure = fitted(days, told, error_sd=4.0), fitted(days, told, error_sd=0.5)

    assert careful.slope == sure.slope == pytest.approx(-1.0)
    assert careful.spread == pytest.approx(2.0)
    assert careful.scatter == pytest.approx(math.sqrt(1.5))
    assert careful.margin == pytest.approx(1.96 * (4.0 / math.sqrt(2)) / math.sqrt(2))
    assert sure.margin == pytest.approx(1.96 * math.sqrt(1.5) / math.sqrt(2))


def test_two_visits_give_the_change_interval_and_floor_of_the_pair_over_the_gap():
    line = fitted([0, 2 * 365.25], [0.0, -3.0], error_sd=1.6)

    assert line.slope == pytest.approx(-1.5)
    assert line.scatter is None
    assert line.margin == pytest.approx(1.96 * 1.6 / 2)
    assert line.floor(1.4) == pytest.approx(1.4 / 2)
    np.testing.assert_allclose(line.weights_V, [-1.0, 1.0])


def test_time_reversed_changes_the_sign_and_a_constant_or_another_first_day_nothing():
    line, back = fitted(), fitted(DAYS[::-1].max() - DAYS, TOLD)
    moved = fitted(DAYS + 500, TOLD + 7.0)

    assert back.slope == pytest.approx(-line.slope)
    assert back.margin == pytest.approx(line.margin)
    assert (moved.slope, moved.margin) == (pytest.approx(line.slope), pytest.approx(line.margin))
    assert moved.at(900.0) == pytest.approx(line.at(400.0) + 7.0)


def test_the_fitted_change_over_the_span_is_a_contrast_of_the_visits():
    line = fitted()

    assert line.weights_V.sum() == pytest.approx(0.0, abs=1e-12)
    assert line.weights_V @ TOLD == pytest.approx(line.slope * 1100 / 365.25)
    # No visit is special: any of them may stand for zero.
    for zero in TOLD:
        assert fitted(told=TOLD - zero).slope == pytest.approx(line.slope)


def test_a_rescan_at_each_end_divides_the_error_by_the_root_of_two():
    once, twice = fitted([0, 365], [0.0, 1.0]), fitted([0, 0, 365, 365], [0.0, 0.0, 1.0, 1.0])

    assert twice.slope == pytest.approx(once.slope)
    assert twice.margin == pytest.approx(once.margin / math.sqrt(2))
    assert twice.floor(1.0) == pytest.approx(once.floor(1.0) / math.sqrt(2))


def test_of_simulated_people_95_percent_lie_in_their_interval_and_below_the_floor():
    rng, true_slope, visit_sd = np.random.default_rng(0), -0.8, 1.1
    # The change of two repeats that is exceeded once in twenty.
    percentile_95 = 1.96 * math.sqrt(2) * visit_sd
    inside = below = 0
    for _ in range(4000):
        noise = rng.normal(0, visit_sd, len(DAYS))
        line = fitted(told=noise + true_slope * DAYS / 365.25, error_sd=visit_sd * math.sqrt(2))
        inside += abs(line.slope - true_slope) <= line.margin
        below += abs(fitted(told=noise).slope) <= line.floor(percentile_95)

    assert 0.95 <= inside / 4000 <= 0.98  # wider where a person's own scatter is larger
    assert below / 4000 == pytest.approx(0.95, abs=0.012)


@pytest.mark.parametrize("days", [[5, 5], [0, 0, 0], [0, 0.5]])
def test_scans_of_one_day_give_no_line(days):
    assert fit_line(days, np.arange(len(days), dtype=float), error_sd=1.0) is None


def test_vectors_that_do_not_match_are_refused():
    for days, told in (([0, 1], [0.0]), ([0], [0.0]), ([[0, 1]], [[0.0, 1.0]])):
        with pytest.raises(ValueError, match="equal vectors of two or more"):
            fit_line(days, told, error_sd=1.0)


@pytest.mark.parametrize(
    ("num", "days", "age", "message"),
    [
        (1, [0], None, "1 scan; a trajectory takes 2 to 16"),
        (17, list(range(17)), None, "17 scans; a trajectory takes 2 to 16"),
        (3, [0, 1], None, "2 days for 3 scans; give one day for each scan"),
        (2, [0, math.nan], None, "day nan is not between"),
        (2, [20200305, 20210305], None, "day 20200305 is not between -40000 and 40000.*no dates"),
        (2, [0, 1], -1, "age -1 is not between 0 and 120"),
        (2, [0, 1], math.nan, "age nan is not between"),
    ],
)
def test_visits_that_make_no_trajectory_are_refused_in_one_line(num, days, age, message):
    with pytest.raises(UsageError, match=message) as caught:
        require_visits(num, days, age)
    assert "\n" not in str(caught.value)


def test_visits_that_make_one_pass():
    require_visits(2, [-30, 0], None)
    require_visits(16, list(range(16)), 120)


def test_positions_in_words():
    expected = ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "16th", "21st"]
    assert [ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 16, 21)] == expected
