"""Pairs are earlier first by day, rescans are never change, and labels follow direction and threshold of the score."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.manifest import OutcomeSpec
from trainer.data.cohort import Cohort
from trainer.data.pairs import NO_LABEL, progression_labels, rescan_pairs, visit_pairs

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
    wanted = [
        (subject, *two)
        for subject in cohort.places_by_subject
        for two in combinations(
            sorted({d for s, d in zip(cohort.subject_ids, cohort.days_N, strict=True) if s == subject and d == d}), 2
        )
    ]
    assert sorted(found) == sorted(wanted)
    assert (pairs.gap_days_P > 0).all()


@given(cohorts)
def test_consecutive_pairs_have_no_visit_of_the_subject_between_them(cohort: Cohort) -> None:
    pairs = visit_pairs(cohort, MMSE, which="consecutive")
    for earlier, later in zip(pairs.earlier_P, pairs.later_P, strict=True):
        own = [d for s, d in zip(cohort.subject_ids, cohort.days_N, strict=True) if s == cohort.subject_ids[earlier]]
        assert cohort.subject_ids[earlier] == cohort.subject_ids[later]
        assert not any(cohort.days_N[earlier] < day < cohort.days_N[later] for day in own)
    num_days = [
        len({cohort.days_N[place] for place in places if not np.isnan(cohort.days_N[place])})
        for places in cohort.places_by_subject.values()
    ]
    assert len(pairs) == sum(max(0, num - 1) for num in num_days)


@given(cohorts)
def test_rescans_are_exactly_the_pairs_of_one_subject_and_one_day(cohort: Cohort) -> None:
    pairs = rescan_pairs(cohort, MMSE)
    wanted = {
        (first, second)
        for first, second in combinations(range(len(cohort)), 2)
        if cohort.subject_ids[first] == cohort.subject_ids[second] and cohort.days_N[first] == cohort.days_N[second]
    }
    assert set(zip(pairs.earlier_P.tolist(), pairs.later_P.tolist(), strict=True)) == wanted
    assert len(pairs) == len(wanted)
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
