"""Pairs are earlier first by day, rescans are never change, and labels follow direction and threshold of the score."""

from dataclasses import replace
from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.manifest import OutcomeSpec
from trainer.data.cohort import Cohort
from trainer.data.pairs import NO_LABEL, progression_labels, rescan_pairs, tertile_threshold, visit_pairs

MMSE = OutcomeSpec(name="mmse", higher_is_better=True, threshold=2.0)
CDR = OutcomeSpec(name="cdr", higher_is_better=False, threshold=0.5)
NAN = float("nan")


def cohort_of(scans: list[tuple[str, float, float]]) -> Cohort:
    """A cohort from (subject, day, score), in the order that reading gives."""
    scans = sorted(scans, key=lambda scan: (scan[0], np.inf if np.isnan(scan[1]) else scan[1]))
    subjects, days, scores = zip(*scans, strict=True)
    return Cohort(
        rows_N=np.arange(len(scans)),
        subject_ids=subjects,
        days_N=np.array(days, dtype=float),
        scores_N=np.array(scores, dtype=float),
        scanners=("",) * len(scans),
        sessions=tuple(map(str, range(len(scans)))),
    )


days = st.one_of(st.integers(0, 4).map(float), st.just(NAN))
cohorts = st.lists(
    st.tuples(st.sampled_from("abcd"), days, st.one_of(st.integers(0, 30).map(float), st.just(NAN))), min_size=1
).map(cohort_of)


@given(cohorts)
def test_every_pair_of_different_days_of_a_subject_is_found_once_per_pair_of_days(cohort: Cohort) -> None:
    pairs = visit_pairs(cohort, MMSE, which="all")
    found = [
        (cohort.subject_ids[a], cohort.days_N[a], cohort.days_N[b])
        for a, b in zip(pairs.earlier_P, pairs.later_P, strict=True)
    ]
    expected = [
        (subject, *two)
        for subject in cohort.indices_by_subject
        for two in combinations(
            sorted({d for s, d in zip(cohort.subject_ids, cohort.days_N, strict=True) if s == subject and d == d}), 2
        )
    ]
    assert sorted(found) == sorted(expected)
    assert (pairs.gap_days_P > 0).all()


@given(cohorts)
def test_consecutive_pairs_have_no_visit_of_the_subject_between_them(cohort: Cohort) -> None:
    pairs = visit_pairs(cohort, MMSE, which="consecutive")
    for earlier, later in zip(pairs.earlier_P, pairs.later_P, strict=True):
        own = [d for s, d in zip(cohort.subject_ids, cohort.days_N, strict=True) if s == cohort.subject_ids[earlier]]
        assert cohort.subject_ids[earlier] == cohort.subject_ids[later]
        assert not any(cohort.days_N[earlier] < day < cohort.days_N[later] for day in own)
    num_days = [
        len({cohort.days_N[index] for index in indices if not np.isnan(cohort.days_N[index])})
        for indices in cohort.indices_by_subject.values()
    ]
    assert len(pairs) == sum(max(0, num - 1) for num in num_days)


@given(cohorts)
def test_rescans_are_exactly_the_pairs_of_one_subject_and_one_day(cohort: Cohort) -> None:
    pairs = rescan_pairs(cohort, MMSE)
    expected = {
        (first, second)
        for first, second in combinations(range(len(cohort)), 2)
        if cohort.subject_ids[first] == cohort.subject_ids[second] and cohort.days_N[first] == cohort.days_N[second]
    }
    assert set(zip(pairs.earlier_P.tolist(), pairs.later_P.tolist(), strict=True)) == expected
    assert len(pairs) == len(expected)
    assert (pairs.gap_days_P == 0).all()


def test_a_subject_with_one_visit_gives_no_pair() -> None:
    cohort = cohort_of([("a", 0.0, 20.0), ("a", 0.0, 20.0), ("b", 3.0, 25.0), ("c", NAN, 1.0), ("c", NAN, 1.0)])
    assert len(visit_pairs(cohort, MMSE, which="all")) == 0
    assert len(visit_pairs(cohort, MMSE, which="consecutive").labelled()) == 0


@pytest.mark.parametrize(
    ("outcome", "delta", "label"),
    [
        (MMSE, 2.0, 0), (MMSE, 1.99, 1), (MMSE, 0.0, 1), (MMSE, -1.99, 1), (MMSE, -2.0, 2), (MMSE, NAN, NO_LABEL),
        (CDR, -0.5, 0), (CDR, -0.49, 1), (CDR, 0.0, 1), (CDR, 0.49, 1), (CDR, 0.5, 2), (CDR, NAN, NO_LABEL),
    ],
)  # fmt: skip
def test_a_change_of_exactly_the_threshold_counts_in_the_direction_of_the_score(
    outcome: OutcomeSpec, delta: float, label: int
) -> None:
    assert progression_labels(np.array([delta]), outcome).tolist() == [label]


@pytest.mark.parametrize(("outcome", "label"), [(MMSE, 2), (CDR, 0)])
def test_a_falling_score_is_decline_or_improvement_by_the_scores_direction(outcome: OutcomeSpec, label: int) -> None:
    pairs = visit_pairs(cohort_of([("a", 300.0, 20.0), ("a", 0.0, 25.0)]), outcome, which="all")
    assert pairs.delta_P.tolist() == [-5.0]
    assert pairs.labels_P.tolist() == [label]
    assert pairs.gap_days_P.tolist() == [300.0]


def test_labelled_drops_the_pairs_whose_score_is_unknown_on_either_side() -> None:
    cohort = cohort_of([("a", 0.0, NAN), ("a", 1.0, 20.0), ("a", 2.0, 20.0), ("a", 3.0, NAN)])
    kept = visit_pairs(cohort, MMSE, which="consecutive").labelled()
    assert (kept.earlier_P.tolist(), kept.later_P.tolist(), kept.labels_P.tolist()) == ([1], [2], [1])


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=40, unique=True), st.lists(st.booleans(), min_size=40))
def test_without_equal_changes_the_tertile_threshold_is_numpys_quantile_and_leaves_a_third_stable(
    sizes: list[int], falls: list[bool]
) -> None:
    delta = np.array([-size if fall else size for size, fall in zip(sizes, falls, strict=False)], dtype=float)
    threshold = tertile_threshold(np.append(delta, NAN))
    assert threshold == np.quantile(np.abs(delta), 1 / 3, method="higher")
    for higher_is_better in (True, False):
        spec = OutcomeSpec(name="any", higher_is_better=higher_is_better, threshold=threshold)
        labels = progression_labels(delta, spec)
        assert abs((labels == 1).mean() - 1 / 3) <= 1 / (3 * len(sizes)) + 1e-12
        # Symmetric: exchanging the scans of every pair exchanges improved (0) and declined (2).
        assert progression_labels(-delta, spec).tolist() == (2 - labels).tolist()


@given(st.lists(st.integers(-4, 4), min_size=1, max_size=30).filter(any))
def test_with_equal_changes_no_other_observed_change_leaves_nearer_to_a_third_stable(changes: list[int]) -> None:
    def distance(threshold: float) -> Fraction:
        return abs(Fraction(sum(abs(one) < threshold for one in changes), len(changes)) - Fraction(1, 3))

    observed = sorted({abs(one) for one in changes} - {0})
    threshold = tertile_threshold(np.array(changes, dtype=float))
    assert threshold == min(observed, key=distance)  # the first, so the smaller of two equally near
    if 3 * changes.count(0) >= len(changes):
        assert threshold == observed[0]


def test_changes_that_differ_in_their_last_bits_only_are_one_change() -> None:
    delta = np.array([0.1, 0.3 - 0.2, 0.2, 0.3 - 0.1, 0.9 - 0.7, 0.5, 0.7])
    assert len(set(delta[:2])) == 2
    assert len(set(delta[2:5])) == 3
    threshold = tertile_threshold(delta)
    assert threshold == min(delta[2:5])
    assert progression_labels(delta, OutcomeSpec(name="any", higher_is_better=True, threshold=threshold)).tolist() == [
        1, 1, 0, 0, 0, 0, 0
    ]  # fmt: skip


@pytest.mark.parametrize("changes", [[], [NAN], [0.0, 0.0, NAN]])
def test_where_nothing_changed_there_is_no_tertile_threshold(changes: list[float]) -> None:
    assert tertile_threshold(np.array(changes, dtype=float)) is None


def test_scans_of_one_day_are_rescans_only_of_the_same_acquisition() -> None:
    """Two zones of a lung are no repeat of each other, and their difference no noise."""
    cohort = cohort_of([("a", 0.0, 1.0), ("a", 0.0, 1.0), ("a", 0.0, 1.0), ("a", 9.0, 1.0)])
    zones = replace(cohort, acquisitions=("zone-left", "zone-right", "zone-left", "zone-left"))
    repeats = rescan_pairs(zones, MMSE)
    assert list(zip(repeats.earlier_P, repeats.later_P, strict=True)) == [(0, 2)]
    assert len(rescan_pairs(cohort, MMSE)) == 3


@pytest.mark.parametrize("same", [True, False])
def test_days_that_are_not_known_make_neither_rescans_nor_gaps(same: bool) -> None:
    cohort = cohort_of([("a", NAN, 1.0), ("a", NAN, 2.0), ("b", NAN, 1.0), ("b", 3.0 if same else NAN, 1.0)])
    assert len(rescan_pairs(cohort, MMSE)) == 0
    assert len(visit_pairs(cohort, MMSE, which="all")) == 0
