"""Severity scores agree with scikit-learn and scipy; a perfect MAEE is 1, and chance is the best way to guess."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle

from preprocess.errors import UsageError
from trainer.metrics.progression import guessed_macro_f1
from trainer.metrics.severity import normal_indices, severity_metrics


def drawn(seed: int, num_grades: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    grades = generator.integers(0, num_grades, 80)
    predicted = np.clip(grades + generator.integers(-1, 2, 80), 0, num_grades - 1)
    # Rounded, so that ties occur.
    distance = np.round(0.1 * grades + 0.2 * generator.random(80), 2)
    return grades, predicted, distance, np.repeat(np.arange(40), 2)


@pytest.mark.parametrize("seed", range(3))
def test_severity_metrics_equal_those_of_scikit_learn_and_scipy(seed: int) -> None:
    grades, predicted, distance, subjects = drawn(seed)
    found = severity_metrics(grades, predicted, distance, subjects, num_grades=5, seed=0, num_resamples=50)
    abnormal = grades > 0
    assert found.macro_f1.value == pytest.approx(oracle.f1_score(grades, predicted, average="macro"))
    assert found.macro_recall.value == pytest.approx(oracle.recall_score(grades, predicted, average="macro"))
    off = [np.exp(abs(true - guess)) for true, guess in zip(grades, predicted, strict=True)]
    assert found.maee.value == pytest.approx(np.mean(off))
    assert found.tau_b.value == pytest.approx(stats.kendalltau(distance, grades, variant="b").statistic)
    expected = stats.kendalltau(distance[abnormal], grades[abnormal], variant="b").statistic
    assert found.tau_b_abnormal.value == pytest.approx(expected)
    assert found.auc_abnormal.value == pytest.approx(oracle.roc_auc_score(abnormal, distance))
    for metric in (found.macro_f1, found.maee, found.tau_b, found.tau_b_abnormal, found.auc_abnormal):
        assert metric.low < metric.value < metric.high
        assert metric.num_subjects == 40


def test_a_perfect_answer_has_an_maee_of_one() -> None:
    grades, _, distance, subjects = drawn(0)
    found = severity_metrics(grades, grades, distance, subjects, num_grades=5, seed=0, num_resamples=50)
    assert (found.maee.value, found.macro_f1.value) == (1, 1)


def test_chance_is_the_best_way_to_guess() -> None:
    grades, predicted, distance, subjects = drawn(1, num_grades=3)
    found = severity_metrics(grades, predicted, distance, subjects, num_grades=3, seed=0, num_resamples=50)
    constants = [np.mean(np.exp(np.abs(grades - grade))) for grade in range(3)]
    ways = [oracle.f1_score(grades, np.full(80, grade), average="macro", zero_division=0) for grade in range(3)]
    ways += [guessed_macro_f1(grades, (1 / 3, 1 / 3, 1 / 3)), guessed_macro_f1(grades, np.bincount(grades) / 80)]
    assert found.maee.chance == pytest.approx(min(constants))
    assert found.macro_f1.chance == pytest.approx(max(ways))
    assert found.macro_recall.chance == pytest.approx(1 / 3)
    assert (found.tau_b.chance, found.auc_abnormal.chance) == (0, 0.5)


def test_order_is_undefined_without_normals_or_without_distances_that_differ() -> None:
    grades, predicted, distance, subjects = drawn(2)
    ill = np.maximum(grades, 1)
    found = severity_metrics(ill, predicted, distance, subjects, num_grades=5, seed=0, num_resamples=50)
    assert (found.auc_abnormal.value, found.auc_abnormal.note) == (None, "not defined on these rows")
    flat = severity_metrics(grades, predicted, np.full(80, 0.3), subjects, num_grades=5, seed=0, num_resamples=50)
    assert flat.tau_b.value is None
    assert flat.auc_abnormal.value == 0.5


def test_what_cannot_be_scored_is_refused_in_one_line() -> None:
    for given, said in (
        (([5], [1], [0.1], ["a"]), "labels hold \\[5\\]; classes are 0 to 4"),
        (([1, 2], [1, 2], [0.1], ["a", "b"]), "distances have shape"),
        (([1, 2], [1, 2], [0.1, 0.2], ["a"]), "one each is needed"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            severity_metrics(*given, num_grades=5, seed=0)
        assert "\n" not in str(caught.value)


def test_normal_scans_are_those_with_that_score_and_there_has_to_be_one() -> None:
    assert normal_indices([1.0, np.nan, 0.0, 1.0], 1.0).tolist() == [0, 3]
    with pytest.raises(UsageError, match=r"^no training scan has the score 2, which the recipe calls normal"):
        normal_indices([1.0, np.nan], 2.0)
