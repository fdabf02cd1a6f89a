"""Controls find a leak that is there, find none that is not, and are compared with the model pair by pair."""

import itertools

import numpy as np
import pytest
from sklearn.metrics import f1_score

from trainer.evaluate.controls import (
    Control,
    PairTable,
    compare_with_controls,
    control_results,
    fit_controls,
    permute_labels,
)
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


def test_the_lead_in_log_loss_is_that_of_the_true_classes_probabilities() -> None:
    test = pairs(1, prefix="test")
    rows = np.arange(len(test))
    half, most = (np.full((len(test), 3), (1 - value) / 2) for value in (0.5, 0.8))
    half[rows, test.label], most[rows, test.label] = 0.5, 0.8
    control = Control("half", test.label, 1.0, 1.0, probabilities_P3=half)

    (found,) = compare_with_controls([control], test, test.label, seed=0, num_resamples=200, probabilities_P3=most)
    assert found.loss_lead is not None
    assert found.loss_lead.value == pytest.approx(np.log(0.8 / 0.5))
    (result,) = control_results([control], [found], None, labels=test.label)
    assert result.leads["log_loss"].low == pytest.approx(np.log(0.8 / 0.5))
    (without,) = compare_with_controls([control], test, test.label, seed=0, num_resamples=200)
    assert without.loss_lead is None


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
    shuffled = permute_labels(test.label, test.label, test.subject_id, seed=0, num_shuffles=400)
    assert shuffled is not None
    expected = guessed_macro_f1(test.label, np.bincount(test.label) / len(test))
    assert shuffled.mean == pytest.approx(expected, abs=0.01)
    assert shuffled.low < shuffled.mean < shuffled.high < 0.5
    assert shuffled.p_value == pytest.approx(1 / 401)


def habits(seed: int, *, num_people: int = 24, num_pairs: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels and predictions without any link, each of which stays the same over most pairs of a person."""
    generator = np.random.default_rng(seed)
    kept = generator.random((2, num_people, num_pairs)) < 0.9
    own = generator.integers(0, 3, (2, num_people, 1))
    label_SP, guess_SP = np.where(kept, own, generator.integers(0, 3, (2, num_people, num_pairs)))
    return label_SP.ravel(), guess_SP.ravel(), np.repeat(np.arange(num_people), num_pairs)


def test_the_p_value_is_valid_for_people_with_many_pairs_where_shuffling_pairs_is_not() -> None:
    cohorts = [habits(seed) for seed in range(200)]
    people = [permute_labels(*cohort, seed=n, num_shuffles=99) for n, cohort in enumerate(cohorts)]
    p_values = np.array([one.p_value for one in people if one is not None])
    assert len(p_values) == 200
    # 5 % of 200 with three standard errors, 3 * sqrt(0.05 * 0.95 / 200).
    assert (p_values <= 0.05).mean() <= 0.05 + 0.047
    assert 0.4 < p_values.mean() < 0.6
    alone = [
        permute_labels(label, guess, np.arange(len(label)), seed=0, num_shuffles=99) for label, guess, _ in cohorts
    ]
    assert np.mean([one.p_value <= 0.05 for one in alone if one is not None]) > 0.15


def test_the_p_value_is_that_of_all_exchanges_of_people_with_equally_many_pairs() -> None:
    label_P, guess_P = np.array([0, 1, 2, 0, 1, 1, 2, 0, 1, 2]), np.array([0, 1, 2, 1, 1, 1, 2, 0, 0, 2])
    person_P = np.array(["a", "a", "b", "b", "c", "c", "d", "e", "e", "e"])
    scores = []
    for first, second, third in itertools.permutations([[0, 1], [2, 3], [4, 5]]):  # d and e have nobody to exchange
        exchanged = label_P[[*first, *second, *third, 6, 7, 8, 9]]
        scores.append(f1_score(exchanged, guess_P, average="macro"))
    exact = np.mean(np.array(scores) >= scores[0] - 1e-12)
    found = permute_labels(label_P, guess_P, person_P, seed=0, num_shuffles=20_000)
    assert found is not None
    # Three standard errors of a share of 20,000 draws are at most 0.011.
    assert found.p_value == pytest.approx(exact, abs=0.011)
    assert found.mean == pytest.approx(np.mean(scores), abs=0.005)
    assert (found.num_people, found.num_fixed) == (5, 2)
    assert "2 of 5 people keep theirs" in found.note


def test_pairs_that_are_listed_in_another_order_of_people_give_the_same_p_value() -> None:
    label_P, guess_P, person_P = habits(3)
    order = np.argsort(np.arange(len(label_P)) % 6, kind="stable")
    listed, mixed = (
        permute_labels(label_P[rows], guess_P[rows], person_P[rows], seed=0, num_shuffles=50)
        for rows in (np.arange(len(label_P)), order)
    )
    assert listed == mixed


def test_people_of_whom_no_two_have_equally_many_pairs_have_nothing_to_exchange() -> None:
    assert permute_labels([0, 1, 2], [0, 1, 2], ["a", "a", "b"], seed=0) is None
    constant = permute_labels([0, 1, 1], [1, 1, 1], ["a", "b", "c"], seed=0, num_shuffles=9)
    assert constant is not None
    assert constant.p_value == 1
    with pytest.raises(ValueError, match="one each is needed"):
        permute_labels([0, 1], [0, 1], ["a"], seed=0)


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
    shuffled = permute_labels(test.label, test.label, test.subject_id, seed=0, num_shuffles=50)
    results = control_results(controls, compared, shuffled, labels=test.label)
    assert [one.name for one in results] == ["gap_days", "scanner", "majority", "shuffled_labels"]
    assert results[1].scores["macro_f1"].value == pytest.approx(controls[1].macro_f1)
    assert results[1].lead is not None
    assert (results[1].lead.low, results[1].lead.num_subjects) == (compared[1].lead.low, 80)
    assert shuffled is not None
    assert (results[3].p_value, results[3].lead) == (shuffled.p_value, None)
    assert results[3].scores["macro_f1"].num_subjects == 80
    assert [one.name for one in control_results(controls, compared, None, labels=test.label)][-1] == "majority"
