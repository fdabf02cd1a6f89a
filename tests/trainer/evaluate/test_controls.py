"""Controls find a leak that is there, find none that is not, and are compared with the model pair by pair."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from trainer.evaluate.controls import PairTable, compare_with_controls, control_results, fit_controls, permute_labels
from trainer.metrics.progression import guessed_macro_f1


def pairs(seed: int, *, prefix: str, num: int = 240, leak: str = "none") -> PairTable:
    generator = np.random.default_rng(seed)
    earlier, later = generator.choice(["Prisma", "Achieva"], (2, num))
    gap = generator.uniform(100, 2000, num)
    label = generator.integers(0, 3, num)
    if leak == "scanner":
        label = np.where(earlier == later, 1, np.where(earlier == "Prisma", 2, 0))
    if leak == "gap_days":
        label = np.where((gap > 700) & (gap < 1300), 2, np.where(gap <= 700, 1, 0))
    ids = np.array([f"{prefix}-{n // 3}" for n in range(num)])
    return PairTable(ids, gap, earlier, later, label)


def scores(leak: str) -> dict[str, float]:
    train, test = pairs(0, prefix="train", leak=leak), pairs(1, prefix="test", leak=leak)
    return {control.name: control.macro_f1 for control in fit_controls(train, test, seed=0)}


@pytest.mark.parametrize("leak", ["scanner", "gap_days"])
def test_a_leak_is_found_by_its_control_alone(leak: str) -> None:
    found = scores(leak)
    assert found.pop(leak) > 0.95
    assert max(found.values()) < 0.55


def test_no_control_does_better_than_guessing_when_labels_are_independent() -> None:
    found = scores("none")
    assert list(found) == ["gap_days", "scanner", "majority"]
    # Standard error of macro-F1 on 240 pairs is about 0.03.
    assert max(found.values()) < 1 / 3 + 0.1


def test_majority_answers_the_most_common_training_class() -> None:
    train, test = pairs(0, prefix="train", leak="scanner"), pairs(1, prefix="test", leak="scanner")
    majority = fit_controls(train, test, seed=0)[2]
    assert set(majority.predicted_P.tolist()) == {int(np.bincount(train.label).argmax())}
    assert majority.macro_f1 == pytest.approx(
        f1_score(test.label, majority.predicted_P, average="macro", zero_division=0)
    )


def test_scanners_never_seen_in_training_are_scored_all_the_same() -> None:
    train, test = pairs(0, prefix="train"), pairs(1, prefix="test")
    unseen = np.full(len(test), "Vida")
    control = fit_controls(train, PairTable(test.subject_id, test.gap_days, unseen, unseen, test.label), seed=0)[1]
    assert len(set(control.predicted_P.tolist())) == 1


def test_test_labels_do_not_reach_the_fit() -> None:
    train, test = pairs(0, prefix="train"), pairs(1, prefix="test")
    turned = PairTable(test.subject_id, test.gap_days, test.scanner_earlier, test.scanner_later, 2 - test.label)
    for one, other in zip(fit_controls(train, test, seed=0), fit_controls(train, turned, seed=0), strict=True):
        assert np.array_equal(one.predicted_P, other.predicted_P)


def test_a_model_that_copies_a_control_has_no_lead_and_a_perfect_one_has_a_clear_lead() -> None:
    train, test = pairs(0, prefix="train"), pairs(1, prefix="test")
    controls = fit_controls(train, test, seed=0)
    copied = compare_with_controls(controls, test, controls[0].predicted_P, seed=0, num_resamples=200)[0]
    assert (copied.lead.value, copied.lead.low, copied.lead.high) == (0, 0, 0)
    perfect = compare_with_controls(controls, test, test.label, seed=0, num_resamples=200)
    for control, comparison in zip(controls, perfect, strict=True):
        assert comparison.name == control.name
        assert comparison.score.value == pytest.approx(control.macro_f1)
        assert comparison.lead.value == pytest.approx(1 - control.macro_f1)
        assert comparison.lead.low > 0.4


def test_shuffled_labels_give_what_guessing_with_the_same_frequencies_gives() -> None:
    test = pairs(1, prefix="test")
    shuffled = permute_labels(test.label, test.label, seed=0, num_shuffles=400)
    expected = guessed_macro_f1(test.label, np.bincount(test.label) / len(test))
    assert shuffled.mean == pytest.approx(expected, abs=0.01)
    assert shuffled.low < shuffled.mean < shuffled.high < 0.5
    assert shuffled.p_value == pytest.approx(1 / 401)


def test_p_value_of_predictions_without_meaning_is_uniform() -> None:
    generator = np.random.default_rng(0)
    values = [
        permute_labels(generator.integers(0, 3, 60), generator.integers(0, 3, 60), seed=n, num_shuffles=99).p_value
        for n in range(100)
    ]
    assert 0.4 < np.mean(values) < 0.6
    assert permute_labels([0, 1, 1], [1, 1, 1], seed=0, num_shuffles=9).p_value == 1


def test_tables_that_cannot_be_used_are_refused() -> None:
    train, test = pairs(0, prefix="same"), pairs(1, prefix="same")
    with pytest.raises(ValueError, match="80 subjects are in training and held-out"):
        fit_controls(train, test, seed=0)
    empty = PairTable(*(np.array([]) for _ in range(5)))
    with pytest.raises(ValueError, match="got 240 and 0"):
        fit_controls(train, empty, seed=0)
    with pytest.raises(ValueError, match="differ in shape"):
        PairTable(train.subject_id[:3], train.gap_days, train.scanner_earlier, train.scanner_later, train.label)
    with pytest.raises(ValueError, match="not finite"):
        PairTable(*(np.array([value]) for value in ("a", np.nan, "x", "y", 1)))
    with pytest.raises(ValueError, match="classes are 0 to 2"):
        PairTable(*(np.array([value]) for value in ("a", 1.0, "x", "y", 5)))


def test_results_for_the_report_keep_scores_leads_and_the_p_value() -> None:
    train, test = pairs(0, prefix="train"), pairs(1, prefix="test")
    controls = fit_controls(train, test, seed=0)
    compared = compare_with_controls(controls, test, test.label, seed=0, num_resamples=100)
    shuffled = permute_labels(test.label, test.label, seed=0, num_shuffles=50)
    results = control_results(controls, compared, shuffled, num=len(test))
    assert [one.name for one in results] == ["gap_days", "scanner", "majority", "shuffled_labels"]
    assert results[1].scores["macro_f1"].value == pytest.approx(controls[1].macro_f1)
    assert results[1].lead is not None
    assert (results[1].lead.low, results[1].lead.num_subjects) == (compared[1].lead.low, 80)
    assert (results[3].p_value, results[3].lead) == (shuffled.p_value, None)
