"""Folds never split a patient, hold every class, and depend on their arguments only."""

import numpy as np
import pytest

from preprocess.errors import UsageError
from trainer.metrics.folds import fewest_subjects, patient_folds


def cohort(num_subjects: int, seed: int, *, mixed: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Subjects with one to four scans, whose labels agree within a subject unless mixed."""
    generator = np.random.default_rng(seed)
    subjects = np.repeat(
        [f"sub-{number:03d}" for number in range(num_subjects)], generator.integers(1, 5, num_subjects)
    )
    own = generator.choice(3, num_subjects, p=(0.2, 0.5, 0.3))
    labels = own[np.unique(subjects, return_inverse=True)[1]]
    return subjects, generator.permutation(labels) if mixed else labels


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_folds_test_each_row_once_a_repeat_and_never_a_trained_subject(seed: int, mixed: bool) -> None:
    subjects, labels = cohort(60, seed, mixed=mixed)
    folds = patient_folds(subjects, labels, num_folds=5, num_repeats=3, seed=seed)
    assert [(fold.repeat, fold.number) for fold in folds] == [(r, n) for r in range(3) for n in range(5)]
    for repeat in range(3):
        tested = np.concatenate([fold.test_L for fold in folds if fold.repeat == repeat])
        assert sorted(tested) == list(range(len(labels)))
    for fold in folds:
        assert sorted([*fold.train_K, *fold.test_L]) == list(range(len(labels)))
        assert not set(subjects[fold.train_K]) & set(subjects[fold.test_L])
        assert set(labels[fold.test_L]) == {0, 1, 2}


def test_subjects_of_one_scan_are_spread_over_the_folds_as_evenly_as_classes_allow() -> None:
    labels = np.repeat([0, 1, 2], [23, 50, 31])
    folds = patient_folds(np.arange(104), labels, num_folds=10, num_repeats=2, seed=0)
    counts = np.array([np.bincount(labels[fold.test_L], minlength=3) for fold in folds])
    assert (np.ptp(counts, axis=0) <= 1).all()


def test_same_arguments_give_the_same_folds_whatever_the_order_of_the_rows() -> None:
    subjects, labels = cohort(40, 7)

    def tested(order: np.ndarray, seed: int, num_repeats: int = 2) -> list[frozenset[str]]:
        folds = patient_folds(subjects[order], labels[order], num_folds=4, num_repeats=num_repeats, seed=seed)
        return [frozenset(subjects[order][fold.test_L]) for fold in folds]

    order = np.arange(len(labels))
    first = tested(order, 3)
    assert tested(order, 3) == first
    assert tested(np.random.default_rng(0).permutation(order), 3) == first
    assert tested(order, 3, num_repeats=5)[:8] == first
    assert tested(order, 4) != first
    assert set(first[:4]) != set(first[4:])


def test_a_class_with_fewer_subjects_than_folds_is_refused_however_many_scans_it_has() -> None:
    subjects = np.array([f"s{number}" for number in range(20)] + ["rare-1"] * 30 + ["rare-2"] * 30)
    labels = np.array(["common"] * 20 + ["rare"] * 60)
    assert fewest_subjects(subjects, labels) == ("rare", 2)
    with pytest.raises(UsageError, match="class rare has 2 subjects, fewer than the 5 folds; lower") as caught:
        patient_folds(subjects, labels, num_folds=5, num_repeats=1, seed=0)
    assert "\n" not in str(caught.value)
    assert len(patient_folds(subjects, labels, num_folds=2, num_repeats=1, seed=0)) == 2


def test_folds_that_cannot_each_hold_every_class_are_refused() -> None:
    # Three classes of two subjects each, as the sides of a triangle: two of its corners always share a fold.
    subjects = np.array(["x", "y", "y", "z", "z", "x"])
    labels = np.array(["a", "a", "b", "b", "c", "c"])
    with pytest.raises(UsageError, match="none of 50 shuffles"):
        patient_folds(subjects, labels, num_folds=2, num_repeats=1, seed=0)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: patient_folds([], [], num_folds=2, num_repeats=1, seed=0), "non-empty"),
        (lambda: patient_folds(["a"], [0, 1], num_folds=2, num_repeats=1, seed=0), "equal"),
        (lambda: patient_folds(["a", "b"], [0.5, 1.0], num_folds=2, num_repeats=1, seed=0), "bin a continuous"),
        (lambda: patient_folds(["a", "b"], [0, 1], num_folds=1, num_repeats=1, seed=0), "at least 2"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(call, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)
