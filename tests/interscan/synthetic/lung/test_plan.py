"""The lung plan: visits and courses as designed, scores that scatter about the truth, nothing else that tells it."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from interscan.synthetic.lung.plan import describe_lung_cohort


def test_patients_have_three_to_five_days_of_three_zones() -> None:
    plan = describe_lung_cohort(num_subjects=200, seed=3)
    assert Counter(len(patient.days) for patient in plan).keys() == {3, 4, 5}
    for patient in plan:
        assert patient.days[0].day == 0
        assert {later.day - earlier.day for earlier, later in pairwise(patient.days)} <= {1, 2, 3}
        assert all([clip.run for clip in day.clips] == ["run-1", "run-2", "run-3"] for day in patient.days)
    assert all(len(patient.days) == 2 for patient in describe_lung_cohort(num_subjects=5, num_visits=2))


def test_patients_move_as_their_trajectory_says() -> None:
    plan = describe_lung_cohort(num_subjects=300, seed=4)
    counts = Counter(patient.trajectory for patient in plan)
    assert {kind: round(count / 30) for kind, count in counts.items()} == {"declining": 4, "stable": 3, "improving": 3}
    for patient in plan:
        steps = np.diff([day.sf_true for day in patient.days])
        if patient.trajectory == "stable":
            # The logistic curve is steepest in the middle: 400 / 4 points per unit of the logit.
            assert np.abs(steps).max() <= 0.03 * 3 * 100
        else:
            assert (steps > 0).all() == (patient.trajectory == "improving")
            assert (steps < 0).all() == (patient.trajectory == "declining")


def test_scores_scatter_about_the_truth_by_the_stated_noise_and_span_the_scale() -> None:
    days = [day for patient in describe_lung_cohort(num_subjects=400, seed=0) for day in patient.days]
    truth, seen = np.array([day.sf_true for day in days]), np.array([day.sf_ratio for day in days])
    assert truth.min() > 80
    assert truth.max() < 480
    assert np.percentile(truth, 5) < 130
    assert np.percentile(truth, 95) > 420
    assert np.std(seen / truth - 1) == pytest.approx(0.03, rel=0.08)


def test_b_lines_of_a_day_fall_with_the_true_ratio_and_zones_differ() -> None:
    plan = describe_lung_cohort(num_subjects=100, seed=5)
    days = [day for patient in plan for day in patient.days]
    means = [np.mean([clip.num_b_lines for clip in day.clips]) for day in days]
    assert stats.spearmanr([day.sf_true for day in days], means).statistic < -0.95
    numbers = np.array([clip.num_b_lines for day in days for clip in day.clips])
    assert set(numbers.tolist()) == set(range(7))
    assert np.mean([np.std([clip.zone_loss for clip in day.clips]) for day in days]) > 0.03


def test_the_machine_depth_and_wall_say_nothing_about_the_course() -> None:
    plan = describe_lung_cohort(num_subjects=600, seed=6)
    table = np.zeros((3, 2))
    kinds = ("declining", "stable", "improving")
    for patient in plan:
        table[kinds.index(patient.trajectory), patient.days[-1].probe] += 1
    assert stats.chi2_contingency(table).pvalue > 0.01
    for measure in (lambda p: p.wall.pleura_mm, lambda p: p.days[-1].setting.gain_db, lambda p: p.wall.slide_mm):
        groups = [[measure(p) for p in plan if p.trajectory == kind] for kind in kinds]
        assert stats.f_oneway(*groups).pvalue > 0.01
    assert sum(len({day.probe for day in patient.days}) == 2 for patient in plan) > 150
