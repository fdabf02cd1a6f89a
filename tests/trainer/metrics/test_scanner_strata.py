"""Macro-F1 by scanner is scikit-learn's on the pairs of each kind, and what is missing has its reason."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from trainer.metrics.scanner_strata import scanner_strata


def cohort(num: int = 120) -> tuple[np.ndarray, ...]:
    generator = np.random.default_rng(0)
    label = generator.integers(0, 3, num)
    probabilities = generator.dirichlet(np.ones(3), num)
    earlier, later = generator.choice(["Prisma", "Vida", ""], (2, num), p=[0.45, 0.45, 0.1])
    return label, probabilities, earlier, later, np.arange(num) // 4


def test_each_group_is_scored_as_scikit_learn_scores_its_pairs() -> None:
    label, probabilities, earlier, later, subject = cohort()
    found = scanner_strata(label, probabilities, earlier, later, subject, seed=0, num_resamples=200)
    known = (earlier != "") & (later != "")
    for name, rows in (
        ("same_scanner_macro_f1", known & (earlier == later)),
        ("changed_scanner_macro_f1", known & (earlier != later)),
    ):
        truth = f1_score(label[rows], probabilities[rows].argmax(1), average="macro")
        metric = found[name]
        assert metric.value == pytest.approx(truth)
        assert (metric.num, metric.num_subjects) == (rows.sum(), len(np.unique(subject[rows])))
        assert metric.low is not None
        assert metric.high is not None
        assert metric.low < metric.value < metric.high
        constant = max(
            f1_score(label[rows], np.full(rows.sum(), c), average="macro", zero_division=0) for c in range(3)
        )
        assert metric.chance is not None
        assert metric.chance >= constant - 1e-12
        assert f"{(~known).sum()} of {len(label)} pairs left out" in metric.note


def test_a_model_that_reads_the_scanner_is_found_out_by_the_groups() -> None:
    generator = np.random.default_rng(1)
    earlier, later = generator.choice(["Prisma", "Vida"], (2, 200))
    label = np.where(earlier == later, 1, np.where(generator.random(200) < 0.9, 2, 0))
    guess = np.eye(3)[np.where(earlier == later, 1, 2)]  # declined wherever the scanner has changed
    found = scanner_strata(label, guess, earlier, later, np.arange(200), seed=0, num_resamples=100)
    changed = found["changed_scanner_macro_f1"]
    assert f1_score(label, guess.argmax(1), average="macro") > 0.6
    assert changed.low is not None
    assert changed.chance is not None
    assert changed.low <= changed.chance


def test_scanners_that_nobody_knows_and_scanners_that_nobody_changes_are_said() -> None:
    label, probabilities, earlier, _, subject = cohort()
    unknown = np.full(len(label), "")
    for metric in scanner_strata(label, probabilities, earlier, unknown, subject, seed=0).values():
        assert (metric.value, metric.num) == (None, 0)
        assert metric.note == "the scanners of both scans are known of no pair"
    one = np.full(len(label), "Prisma")
    found = scanner_strata(label, probabilities, one, one, subject, seed=0, num_resamples=0)
    assert found["same_scanner_macro_f1"].num == len(label)
    assert found["changed_scanner_macro_f1"].note == "no pair changes the scanner"
    other = np.full(len(label), "Vida")
    found = scanner_strata(label, probabilities, one, other, subject, seed=0, num_resamples=0)
    assert found["same_scanner_macro_f1"].note == "no pair has both scans from one scanner"


def test_columns_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="one each is needed"):
        scanner_strata([0, 1], np.eye(3)[:2], ["a"], ["a", "b"], ["x", "y"], seed=0)
