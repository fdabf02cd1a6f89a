"""Planned folds test every scored subject once a repeat, none that they fit or choose on, and are alike in outcome."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocess.errors import UsageError
from tests.support.cohorts import MODALITY, default_scans, tiny_recipe, write_store
from tests.support.stores import with_index
from trainer.data.cohort import Cohort, read_cohort
from trainer.data.splits import SPLITS
from trainer.evaluate.fold_plan import MAX_BINS, PlannedFold, plan_folds, score_bins
from trainer.fit.run_plan import RunPlan

NAN = float("nan")


def cohort_of(scores_by_subject: dict[str, list[float]]) -> Cohort:
    """Scans of these subjects in order, one a year."""
    rows = [
        (subject, year * 365.0, score)
        for subject in sorted(scores_by_subject)
        for year, score in enumerate(scores_by_subject[subject])
    ]
    num = len(rows)
    return Cohort(
        rows_N=np.arange(num),
        subject_ids=tuple(subject for subject, _, _ in rows),
        days_N=np.array([day for _, day, _ in rows]),
        scores_N=np.array([score for _, _, score in rows]),
        scanners=("",) * num,
        sessions=("",) * num,
    )


def graded(num_subjects: int = 40, num_grades: int = 2) -> Cohort:
    """One scan a subject, grades in turn, and two subjects without a grade."""
    scores = {f"sub-{number:02d}": [float(number % num_grades)] for number in range(num_subjects)}
    return cohort_of({**scores, "sub-x": [NAN], "sub-y": [NAN, NAN]})


def measured(num_subjects: int = 40) -> Cohort:
    """Two scans a subject with a continuous score, one of them unknown now and then."""
    generator = np.random.default_rng(3)
    scores = {
        f"sub-{number:02d}": [
            float(generator.normal(20, 5)),
            NAN if number % 7 == 0 else float(generator.normal(20, 5)),
        ]
        for number in range(num_subjects)
    }
    return cohort_of({**scores, "sub-x": [NAN]})


def planned(cohort: Cohort, **changes: Any) -> tuple[PlannedFold, ...]:
    settings = {
        "outcome": "score", "task": "classification", "num_folds": 5, "num_repeats": 3, "validation": 0.2, "seed": 4
    }  # fmt: skip
    return plan_folds(cohort, **{**settings, **changes})


@pytest.mark.parametrize(
    ("cohort", "task"),
    [
        (graded(), "classification"),
        (graded(num_grades=4), "severity"),
        (measured(), "regression"),
        (measured(), "progression"),
    ],
)
def test_each_scored_subject_is_tested_once_a_repeat_and_never_where_it_trains_or_validates(
    cohort: Cohort, task: str
) -> None:
    folds = planned(cohort, task=task)
    scored, everyone = set(cohort.scored().subject_ids), set(cohort.subject_ids)
    assert [(fold.repeat, fold.number) for fold in folds] == [(r, n) for r in range(3) for n in range(5)]
    for repeat in range(3):
        tested = Counter(subject for fold in folds if fold.repeat == repeat for subject in fold.split.test)
        assert tested == Counter(scored)
    for fold in folds:
        train, validation, test = (fold.split.of(part) for part in ("train", "validation", "test"))
        assert not train & validation
        assert not (train | validation) & test
        assert train | validation | test == everyone
        assert everyone - scored <= train
        assert len(validation) == pytest.approx(0.2 * (len(scored) - len(test)), abs=2.5)
        assert (fold.size.num_train, fold.size.num_test) == (len(scored) - len(test), len(test))
        assert fold.size.repeat == fold.repeat
    assert len({fold.seed for fold in folds}) == len({fold.split_sha256 for fold in folds}) == 15


def test_classes_are_shared_out_evenly_among_test_and_validation_subjects() -> None:
    cohort = cohort_of({f"sub-{number:03d}": [float(number % 4 == 0)] for number in range(80)})
    rare = {f"sub-{number:03d}" for number in range(0, 80, 4)}
    for fold in planned(cohort):
        assert len(fold.split.of("test") & rare) == 4
        assert len(fold.split.of("test")) == 16
        assert len(fold.split.of("validation") & rare) == round(0.2 * 16)
        assert len(fold.split.of("validation") - rare) == round(0.2 * 48)


def test_every_fifth_of_a_continuous_score_is_in_every_fold() -> None:
    cohort = measured(50)
    by_subject: dict[str, list[float]] = {}
    for subject, score in zip(cohort.subject_ids, cohort.scores_N, strict=True):
        by_subject.setdefault(subject, []).append(score)
    mean = {subject: float(np.nanmean(scores)) for subject, scores in by_subject.items() if subject != "sub-x"}
    rank = {subject: index for index, subject in enumerate(sorted(mean, key=lambda subject: mean[subject]))}
    for fold in planned(cohort, task="regression"):
        fifths = Counter(rank[subject] // 10 for subject in fold.split.test)
        assert fifths == dict.fromkeys(range(5), 2)


@pytest.mark.parametrize(("num_subjects", "num_bins"), [(60, 5), (30, 3), (12, 1), (3, 1)])
def test_bins_are_as_many_as_hold_a_subject_for_every_fold(num_subjects: int, num_bins: int) -> None:
    scores = {f"sub-{number}": float((number * 7) % num_subjects) for number in range(num_subjects)}
    bins = score_bins(scores, outcome="mmse", num_folds=10)
    counts = Counter(bins.values())
    assert len(counts) == num_bins <= MAX_BINS
    assert max(counts.values()) - min(counts.values()) <= 1
    ordered = sorted(scores, key=lambda subject: scores[subject])
    assert list(dict.fromkeys(bins[subject] for subject in ordered)) == list(dict.fromkeys(bins.values()))
    low, high = scores[ordered[0]], max(s for subject, s in scores.items() if bins[subject] == bins[ordered[0]])
    assert bins[ordered[0]] == f"mmse {low:g} to {high:g}"


def test_folds_depend_on_outcome_and_seed_and_more_repeats_leave_the_first_as_they_were() -> None:
    once, thrice, other = planned(graded(), num_repeats=1), planned(graded()), planned(graded(), seed=5)
    assert thrice[:5] == once
    assert {fold.split.test for fold in once}.isdisjoint({fold.split.test for fold in other})
    wider = planned(graded(), validation=0.3)
    assert [fold.split.test for fold in wider] == [fold.split.test for fold in thrice]


def test_a_part_of_the_training_subjects_may_train() -> None:
    for fold, half in zip(planned(graded()), planned(graded(), train=0.5), strict=True):
        assert set(half.split.train) < set(fold.split.train)
        assert (half.split.validation, half.split.test) == (fold.split.validation, fold.split.test)
        assert half.size.num_train == len((half.split.of("train") - {"sub-x", "sub-y"}) | half.split.of("validation"))


def test_a_subject_whose_scans_differ_stays_whole() -> None:
    generator = np.random.default_rng(1)
    cohort = cohort_of({f"sub-{n:02d}": generator.integers(0, 3, 3).astype(float).tolist() for n in range(40)})
    for fold in planned(cohort, task="severity"):
        tested = cohort.of_subjects(fold.split.of("test"))
        assert set(tested.scores_N) == {0.0, 1.0, 2.0}


@pytest.mark.parametrize(
    ("cohort", "changes", "said"),
    [
        (graded(8), {}, "class score 0 has 4 subjects, fewer than the 5 folds; lower the number of folds to 4"),
        (measured(3), {"task": "regression"}, r"class score .* to .* has 3 subjects, fewer than the 5 folds"),
        (graded(num_grades=3), {}, "task is 'classification' and score has 3 values"),
        (cohort_of({"a": [NAN], "b": [NAN]}), {}, "no subject of the store has score"),
        (graded(), {"num_folds": 1}, "1 folds and 3 repeats; at least 2 folds and 1 repeat"),
        (graded(4), {"num_folds": 2}, "to validate"),
    ],
)
def test_what_cannot_be_divided_is_refused_in_one_line(cohort: Cohort, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        planned(cohort, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_people_who_share_equal_scans_are_tested_together_and_none_of_them_trains_then(task: str) -> None:
    cohort = graded() if task == "classification" else measured()
    together = (frozenset({"sub-00", "sub-01", "sub-02"}), frozenset({"sub-10", "sub-x"}))
    shared = replace(cohort, together=together)
    folds = planned(shared, task=task)
    for fold in folds:
        sides = [fold.split.of(name) for name in ("train", "validation", "test")]
        for group in together:
            assert sum(bool(group & side) for side in sides) == 1
    tested = Counter(subject for fold in folds for subject in fold.split.test)
    scored = set(cohort.scored().subject_ids)
    assert tested == dict.fromkeys(scored, 3)
    assert planned(cohort, task=task) == planned(replace(cohort, together=()), task=task)


def test_no_content_of_a_store_is_on_two_sides_of_a_run_or_of_a_fold(tmp_path: Path) -> None:
    """The digests of the store are held against the splits, those of copies that no cohort reads included."""
    store = write_store(tmp_path, default_scans(num_subjects=24, rescans=False, odd=False))
    records = list(store.records)
    rows = {(record.subject_id, record.day): row for row, record in enumerate(records)}
    for n in range(6):  # 00 and 08, 08 and 16 share a scan, so 00 and 16 belong together through 08
        for day, one, other in ((0.0, n, n + 8), (365.0, n + 8, n + 16)):
            original = records[rows[f"sub-{one:02d}", day]].content_sha256
            row = rows[f"sub-{other:02d}", day]
            records[row] = replace(records[row], content_sha256=original)
    store = with_index(store, records)
    people_by_content: dict[str, set[str]] = {}
    for record in store.records:
        people_by_content.setdefault(record.content_sha256, set()).add(record.person)
    shared = [people for people in people_by_content.values() if len(people) > 1]
    assert len(shared) == 12
    cohort = read_cohort(store, MODALITY, "mmse")
    splits = [RunPlan.of(tiny_recipe(seed=seed), cohort).split for seed in range(20)]
    folds = plan_folds(
        replace(cohort, scores_N=np.array([int(name[-2:]) % 2.0 for name in cohort.subject_ids])),
        outcome="odd",
        task="classification",
        num_folds=3,
        num_repeats=3,
        validation=0.2,
        seed=0,
    )
    for split in (*splits, *(fold.split for fold in folds)):
        for people in shared:
            assert sum(bool(people & split.of(name)) for name in SPLITS) == 1
