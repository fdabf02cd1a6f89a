"""Scores agree with scikit-learn and scipy, and chance levels with every possible guess written out."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle

from trainer.metrics.progression import (
    balanced_accuracy,
    confusion_counts,
    guessed_macro_f1,
    label_entropy,
    macro_f1,
    progression_scores,
    reliability_bins,
)


def drawn(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.choice(3, num, p=(0.2, 0.5, 0.3)), generator.dirichlet((1.0, 1.5, 1.0), num)


@pytest.mark.parametrize("seed", range(5))
def test_progression_scores_equal_those_of_scikit_learn(seed: int) -> None:
    labels, probabilities = drawn(60, seed)
    predicted = probabilities.argmax(1)
    scores = progression_scores(labels, probabilities)
    assert scores.num == 60
    assert scores.macro_f1 == pytest.approx(oracle.f1_score(labels, predicted, average="macro"))
    assert scores.balanced_accuracy == pytest.approx(oracle.balanced_accuracy_score(labels, predicted))
    assert scores.recall == pytest.approx(tuple(oracle.recall_score(labels, predicted, average=None)))
    assert np.array_equal(confusion_counts(labels, predicted), oracle.confusion_matrix(labels, predicted))
    assert scores.log_loss == pytest.approx(oracle.log_loss(labels, probabilities))
    assert scores.brier == pytest.approx(oracle.brier_score_loss(labels, probabilities, scale_by_half=False))


def test_classes_missing_from_the_labels_do_not_enter_the_average() -> None:
    labels, predicted = np.array([0, 0, 1, 1, 1]), np.array([0, 2, 1, 1, 0])
    expected = oracle.f1_score(labels, predicted, average="macro", labels=[0, 1])
    assert macro_f1(labels, predicted) == pytest.approx(expected)
    assert balanced_accuracy(labels, predicted) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert progression_scores(labels, np.eye(3)[predicted]).recall == (0.5, pytest.approx(2 / 3), None)


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 2, 1], [1, 1, 1, 0, 0], [2, 2, 2]])
@pytest.mark.parametrize("probability", [(1 / 3, 1 / 3, 1 / 3), (0.1, 0.2, 0.7), (0.0, 1.0, 0.0)])
def test_guessed_macro_f1_is_the_mean_over_every_possible_guess(labels: list[int], probability: tuple[float]) -> None:
    present = sorted(set(labels))
    expected = 0.0
    for guess in itertools.product(range(3), repeat=len(labels)):
        score = oracle.f1_score(labels, guess, average="macro", labels=present, zero_division=0)
        expected += np.prod([probability[one] for one in guess]) * score
    assert guessed_macro_f1(labels, probability) == pytest.approx(expected)


def test_chance_is_the_best_of_three_ways_to_guess() -> None:
    labels = np.array([1] * 18 + [0, 2])
    scores = progression_scores(labels, np.full((20, 3), 1 / 3))
    constants = [oracle.f1_score(labels, [c] * 20, average="macro", zero_division=0) for c in range(3)]
    assert scores.constant_macro_f1 == pytest.approx(max(constants))
    assert scores.frequency_macro_f1 == pytest.approx(guessed_macro_f1(labels, (0.05, 0.9, 0.05)))
    assert scores.uniform_macro_f1 == pytest.approx(guessed_macro_f1(labels, (1 / 3, 1 / 3, 1 / 3)))
    parts = (scores.constant_macro_f1, scores.frequency_macro_f1, scores.uniform_macro_f1)
    assert scores.macro_f1_chance == max(parts)


def test_calibration_error_equals_a_loop_over_the_bins_and_edges_belong_to_the_lower_bin() -> None:
    labels, probabilities = drawn(200, seed=9)
    probabilities[:3] = [(0.7, 0.2, 0.1), (1.0, 0.0, 0.0), (0.4, 0.3, 0.3)]
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    expected = 0.0
    for number in range(10):
        low, high = round(number / 10, 1), round((number + 1) / 10, 1)
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            expected += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    bins = reliability_bins(labels, probabilities)
    assert bins.expected_calibration_error == pytest.approx(expected)
    assert bins.count_K.sum() == 200
    assert progression_scores(labels, probabilities).calibration_error == pytest.approx(expected)


def test_a_confidence_on_an_edge_stays_in_the_lower_bin_whatever_its_last_digit() -> None:
    for tenth in range(4, 11):
        edge = [tenth / 10, 0.6 * (1 - tenth / 10), 0.4 * (1 - tenth / 10)]
        inside = [tenth / 10 - 0.04, 0.54 - 0.05 * tenth, 0.5 - 0.05 * tenth]
        above = [np.nextafter(tenth / 10, 1), *edge[1:]]
        rows = np.array([edge, inside, above])
        assert reliability_bins([0, 0, 0], rows / rows.sum(1, keepdims=True)).count_K.tolist() == [3]


def test_log_loss_chance_is_the_entropy_of_the_labels() -> None:
    labels, _ = drawn(50, seed=3)
    assert label_entropy(labels) == pytest.approx(stats.entropy(np.bincount(labels)))
    assert label_entropy([1, 1]) == 0


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: confusion_counts([], []), "non-empty"),
        (lambda: confusion_counts([0, 1], [0]), "equal"),
        (lambda: confusion_counts([0, 3], [0, 1]), r"labels hold \[0, 3\]"),
        (lambda: confusion_counts([0, 1], [0, -1]), "predictions hold"),
        (lambda: progression_scores([0], [[0.5, 0.1, 0.1]]), "apply softmax"),
        (lambda: progression_scores([0], [[np.nan, 0.5, 0.5]]), "sum to 1"),
        (lambda: progression_scores([0, 1], [[0.2, 0.3, 0.5]]), "must be"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(call, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)
