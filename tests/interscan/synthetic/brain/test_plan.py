"""The plan: trajectories, scores and scanners as designed, and earlier subjects untouched by later ones."""

import itertools

import numpy as np
import pytest
from scipy import stats

from interscan.synthetic.brain.plan import describe_brain_cohort, scan_stream, subject_anatomy
from interscan.synthetic.planning import TRAJECTORIES
from preprocess.errors import UsageError


def _visits(subject):
    return [session for session in subject.sessions if not session.rescan_of]


def test_more_subjects_or_visits_leave_earlier_ones_alone() -> None:
    small = describe_brain_cohort(num_subjects=7, num_visits=3, seed=5)
    assert describe_brain_cohort(num_subjects=19, num_visits=3, seed=5)[:7] == small
    longer = describe_brain_cohort(num_subjects=7, num_visits=5, seed=5)
    for subject, more in zip(small, longer, strict=True):
        assert more.sessions[: len(subject.sessions)] == subject.sessions
        assert more.trajectory == subject.trajectory


def test_other_seeds_plan_other_cohorts() -> None:
    assert describe_brain_cohort(seed=0) != describe_brain_cohort(seed=1)


@pytest.mark.parametrize("seed", range(5))
def test_ten_subjects_hold_four_three_three_and_the_first_three_one_each(seed: int) -> None:
    kinds = [subject.trajectory for subject in describe_brain_cohort(num_subjects=30, seed=seed)]
    for block in (
        itertools.batched(kinds, 10) if hasattr(itertools, "batched") else (kinds[:10], kinds[10:20], kinds[20:])
    ):
        assert [block.count(kind) for kind in TRAJECTORIES] == [4, 3, 3]
        assert set(block[:3]) == set(TRAJECTORIES)


def test_scores_move_as_the_trajectory_says() -> None:
    changes: dict[str, list[float]] = {kind: [] for kind in TRAJECTORIES}
    for subject in describe_brain_cohort(num_subjects=200, seed=3):
        for earlier, later in itertools.pairwise(_visits(subject)):
            changes[subject.trajectory].append(later.mmse_true - earlier.mmse_true)
    assert max(changes["declining"]) < -2
    assert np.mean(changes["declining"]) == pytest.approx(-4.5, abs=0.5)
    assert np.abs(changes["stable"]).max() < 0.5
    assert np.mean(np.array(changes["improving"]) > 2) > 0.95
    assert np.mean(changes["improving"]) == pytest.approx(4.5, abs=0.6)


def test_observed_scores_are_whole_within_range_and_scatter_by_the_stated_noise() -> None:
    visits = [v for subject in describe_brain_cohort(num_subjects=300, seed=1) for v in _visits(subject)]
    scores = np.array([v.mmse for v in visits])
    truth = np.array([v.mmse_true for v in visits])
    assert scores.min() >= 0
    assert scores.max() <= 30
    middle = (truth > 3) & (truth < 27)
    # 0.6 points of the test and 1/12 of rounding.
    assert (scores - truth)[middle].std() == pytest.approx(np.sqrt(0.36 + 1 / 12), rel=0.08)


def test_a_noisier_test_scatters_more_and_leaves_the_truth_alone() -> None:
    calm = describe_brain_cohort(num_subjects=300, seed=1)
    noisy = describe_brain_cohort(num_subjects=300, seed=1, score_noise=2.8)
    pairs = [
        (a, b) for one, two in zip(calm, noisy, strict=True) for a, b in zip(_visits(one), _visits(two), strict=True)
    ]
    assert all(a.mmse_true == b.mmse_true and a.day == b.day and a.scanner == b.scanner for a, b in pairs)
    errors = np.array([b.mmse - b.mmse_true for _, b in pairs if 10 < b.mmse_true < 20])
    assert errors.std() == pytest.approx(np.sqrt(2.8**2 + 1 / 12), rel=0.1)


@pytest.mark.parametrize("score_noise", [-0.1, 10.5, float("nan")])
def test_noise_of_the_test_beyond_its_limits_is_refused(score_noise: float) -> None:
    with pytest.raises(UsageError, match="score_noise is"):
        describe_brain_cohort(num_subjects=1, score_noise=score_noise)


def test_score_falls_strictly_with_atrophy() -> None:
    visits = [v for subject in describe_brain_cohort(num_subjects=50) for v in _visits(subject)]
    visits.sort(key=lambda v: v.atrophy)
    assert all(a.mmse_true >= b.mmse_true for a, b in itertools.pairwise(visits))
    assert stats.spearmanr([v.atrophy for v in visits], [v.mmse for v in visits]).statistic < -0.98
    assert all(0 <= v.atrophy <= 1 for v in visits)


def test_days_are_irregular_and_change_is_proportional_to_them() -> None:
    for subject in describe_brain_cohort(num_subjects=40, seed=2):
        visits = _visits(subject)
        gaps = np.diff([v.day for v in visits])
        assert visits[0].day == 0
        assert gaps.min() >= 180
        assert gaps.max() <= 400
        if subject.trajectory == "declining":
            assert np.ptp(np.diff([v.mmse_true for v in visits]) / gaps) < 1e-9


def test_the_scanner_does_not_depend_on_trajectory() -> None:
    plan = describe_brain_cohort(num_subjects=600, seed=4)
    table = np.zeros((3, 2))
    for subject in plan:
        table[TRAJECTORIES.index(subject.trajectory), _visits(subject)[-1].scanner] += 1
    assert stats.chi2_contingency(table).pvalue > 0.01
    assert sum(len({v.scanner for v in _visits(subject)}) == 2 for subject in plan) > 150
    assert sum(len({v.scanner for v in _visits(subject)}) == 1 for subject in plan) > 150


def test_anatomy_does_not_depend_on_trajectory() -> None:
    plan = describe_brain_cohort(num_subjects=300, seed=0)
    offsets = {
        kind: [subject_anatomy(0, s.number).ventricle_mm for s in plan if s.trajectory == kind] for kind in TRAJECTORIES
    }
    assert stats.f_oneway(*offsets.values()).pvalue > 0.01


def test_a_repeat_shares_day_truth_and_scanner_with_what_it_repeats_and_nothing_of_its_noise() -> None:
    plan = describe_brain_cohort(num_subjects=9)
    repeats = [(s, r) for s in plan for r in s.sessions if r.rescan_of]
    assert len(repeats) == 3
    for subject, repeat in repeats:
        original = next(v for v in subject.sessions if v.session_id == repeat.rescan_of)
        assert repeat.session_id == f"{original.session_id}r"
        for name in ("day", "atrophy", "mmse_true", "mmse", "scanner", "visit"):
            assert getattr(repeat, name) == getattr(original, name)
        assert scan_stream(0, subject.number, repeat).random() != scan_stream(0, subject.number, original).random()


@pytest.mark.parametrize(("name", "value"), [("num_subjects", 0), ("num_visits", 0), ("seed", -1)])
def test_a_number_below_its_limit_is_named(name: str, value: int) -> None:
    with pytest.raises(UsageError, match=rf"^{name} is {value}, below [01]; give [01] or more$"):
        describe_brain_cohort(**{name: value})
