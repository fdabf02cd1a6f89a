"""The severity plan: grades as rare as designed, two eyes that mostly agree, and nothing else that tells the grade."""

import numpy as np
import pytest
from scipy import stats

from interscan.synthetic.eyes.plan import describe_severity_cohort


@pytest.mark.parametrize("seed", range(5))
def test_grades_are_as_rare_as_in_published_sets_or_equally_frequent(seed: int) -> None:
    for balanced, shares in ((False, (0.73, 0.07, 0.15, 0.025, 0.025)), (True, (0.2,) * 5)):
        plan = describe_severity_cohort(num_subjects=400, seed=seed, balanced=balanced)
        grades = np.bincount([eye.grade for person in plan for eye in person.eyes], minlength=5)
        np.testing.assert_allclose(grades / 800, shares, atol=0.02)


def test_every_grade_is_there_in_a_cohort_of_the_default_size() -> None:
    for seed in range(10):
        grades = {eye.grade for person in describe_severity_cohort(seed=seed) for eye in person.eyes}
        assert grades == {0, 1, 2, 3, 4}


def test_both_eyes_of_a_person_are_there_and_mostly_agree() -> None:
    plan = describe_severity_cohort(num_subjects=400, seed=0, balanced=True)
    assert all([eye.side for eye in person.eyes] == ["right", "left"] for person in plan)
    eyes = np.array([[eye.severity for eye in person.eyes] for person in plan])
    # A normal copula of correlation r has the rank correlation 6/pi asin(r/2): 0.84 for 0.85; normals tie at 0.
    assert stats.spearmanr(eyes).statistic == pytest.approx(6 / np.pi * np.arcsin(0.85 / 2), abs=0.04)
    assert 0.1 < np.mean(eyes[:, 0].astype(int) != eyes[:, 1].astype(int)) < 0.6
    runs = [[image.run for eye in person.eyes for image in eye.images] for person in plan]
    assert all(names == [f"run-{number + 1}" for number in range(len(names))] for names in runs)
    twice = np.mean([len(eye.images) == 2 for person in plan for eye in person.eyes])
    assert twice == pytest.approx(0.15, abs=0.04)


def test_the_camera_and_pigment_say_nothing_about_the_grade() -> None:
    plan = describe_severity_cohort(num_subjects=600, seed=4, balanced=True)
    table = np.zeros((5, 2))
    for person in plan:
        table[person.eyes[0].grade, person.eyes[0].images[0].camera] += 1
    assert stats.chi2_contingency(table).pvalue > 0.01
    groups = [[p.person.pigment for p in plan if p.eyes[0].grade == grade] for grade in range(5)]
    assert stats.f_oneway(*groups).pvalue > 0.01
