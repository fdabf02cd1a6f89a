"""Told changes against known ones: figures by hand, and the answers in the order of the truth."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.known_change import KnownPairs, measure, read_truth, table

NUM = 40


def made_up(*, told: float) -> KnownPairs:
    """Forty people, a pair each: half change by four points, and the told change is a share of the true one."""
    true_P = np.tile([4.0, -4.0, 0.0, 0.0], NUM // 4)
    probabilities_P3 = np.full((NUM, 3), 0.1)
    probabilities_P3[np.arange(NUM), np.where(true_P > 0, 0, np.where(true_P < 0, 2, 1))] = 0.8
    return KnownPairs(
        people_P=np.array([f"sub-{number:02d}" for number in range(NUM)]),
        told_P=told * true_P,
        true_P=true_P,
        observed_P=np.where(np.arange(NUM) % 8 == 2, 3.0, true_P),
        is_changed_P=np.arange(NUM) % 8 < 4,
        probabilities_P3=probabilities_P3,
        threshold=2.0,
    )


def test_slope_and_rank_are_those_of_the_told_changes() -> None:
    found = measure(made_up(told=0.5))

    assert found["slope, all"].value == pytest.approx(0.5)
    assert found["slope, scanner changed"].num == NUM // 2
    assert found["Spearman, same scanner"].value == pytest.approx(1.0)


def test_noise_of_the_test_costs_a_perfect_reader_as_much_as_the_model() -> None:
    found = measure(made_up(told=1.0))

    # Of 20 stable pairs 5 look improved: F1 of 2 * 10 / 25, 1 and 2 * 15 / 35.
    by_hand = np.mean([20 / 25, 30 / 35, 1.0])
    assert found["macro-F1 of a perfect reader against observed labels"].value == pytest.approx(by_hand)
    assert found["macro-F1 against observed labels"].value == pytest.approx(by_hand)
    assert found["macro-F1 against true labels"].value == 1.0
    assert "| slope, all | 1.00" in table(found)


def test_the_truth_is_read_by_subject_and_session(tmp_path: Path) -> None:
    (tmp_path / "truth.tsv").write_text("subject_id\tsession_id\tmmse_true\nsub-001\tses-01\t26.5\n")

    assert read_truth(tmp_path / "truth.tsv") == {("sub-001", "ses-01"): 26.5}
