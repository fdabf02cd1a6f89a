"""Published metrics agree with scikit-learn, chance levels with constants tried one by one, intervals by subject."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as oracle

from trainer.metrics.evaluation import Metric
from trainer.metrics.intervals import cluster_bootstrap
from trainer.metrics.tasks import (
    area_under_curve,
    binary_metrics,
    binary_scores,
    change_accuracy,
    f1_and_recall,
    regression_metrics,
    spearman,
)

SUBJECTS = np.repeat(np.arange(30), 3)


def guesses(labels: np.ndarray, num_classes: int, seed: int, right: float = 0.5) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return np.where(generator.random(len(labels)) < right, labels, generator.integers(0, num_classes, len(labels)))


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_of_change_equals_scikit_learns(seed: int) -> None:
    labels = np.random.default_rng(seed).choice(3, 90, p=(0.2, 0.5, 0.3))
    predicted = guesses(labels, 3, seed)
    found = change_accuracy(labels, predicted, SUBJECTS, seed=0, num_resamples=200)
    assert found.value == pytest.approx(oracle.accuracy_score(labels, predicted))
    assert found.chance == pytest.approx(max(oracle.accuracy_score(labels, [c] * 90) for c in range(3)))
    expected = cluster_bootstrap(
        lambda rows: oracle.accuracy_score(labels[rows], predicted[rows]), SUBJECTS, seed=0, num_resamples=200
    )
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert (found.num, found.num_subjects) == (90, 30)


@pytest.mark.parametrize("seed", range(3))
def test_binary_metrics_equal_those_of_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, 90)
    # Rounded, so that ties occur.
    probability = np.round((generator.random(90) + 0.4 * labels) / 1.4, 1)
    predicted = (probability >= 0.55).astype(int)
    found = binary_metrics(labels, probability, predicted, SUBJECTS, seed=0, num_resamples=200)
    assert found.balanced_accuracy.value == pytest.approx(oracle.balanced_accuracy_score(labels, predicted))
    assert found.auc.value == pytest.approx(oracle.roc_auc_score(labels, probability))
    assert found.sensitivity.value == pytest.approx(oracle.recall_score(labels, predicted))
    assert found.specificity.value == pytest.approx(oracle.recall_score(labels, predicted, pos_label=0))
    expected = cluster_bootstrap(
        lambda rows: oracle.roc_auc_score(labels[rows], probability[rows]), SUBJECTS, seed=0, num_resamples=200
    )
    assert (found.auc.low, found.auc.high) == pytest.approx((expected.low, expected.high))
    assert [found.auc.chance, found.balanced_accuracy.chance, found.sensitivity.chance] == [0.5, 0.5, None]


def test_scores_by_class_leave_out_classes_that_no_label_has() -> None:
    labels, predicted = np.array([0, 0, 3, 3, 3]), np.array([0, 2, 3, 4, 0])
    f1, recall = f1_and_recall(labels, predicted)
    assert f1 == pytest.approx(oracle.f1_score(labels, predicted, labels=[0, 3], average="macro"))
    assert recall == pytest.approx(oracle.recall_score(labels, predicted, labels=[0, 3], average="macro"))


def test_area_is_undefined_where_one_class_is_missing() -> None:
    assert area_under_curve(np.ones(4, dtype=bool), np.arange(4.0)) is None
    assert binary_scores([0, 0], [0.1, 0.2], [0, 1]) is None


def test_rank_correlation_is_scipys_and_undefined_where_a_side_is_constant() -> None:
    generator = np.random.default_rng(0)
    true = np.round(generator.normal(25, 3, 40))
    predicted = true + generator.normal(0, 2, 40)
    assert spearman(predicted, true) == pytest.approx(stats.spearmanr(predicted, true).statistic)
    assert spearman(np.full(40, 27.0), true) is None
    assert spearman(predicted[:2], true[:2]) is None


def test_regression_metrics_equal_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    true, train = generator.normal(60, 12, 90), generator.normal(62, 10, 400)
    predicted = true + generator.normal(1, 4, 90)
    found = regression_metrics(true, predicted, SUBJECTS, train_scores_T=train, bin_width=5, seed=0, num_resamples=200)
    assert found.mae.value == pytest.approx(oracle.mean_absolute_error(true, predicted))
    assert found.mse.value == pytest.approx(oracle.mean_squared_error(true, predicted))
    assert found.mae.chance == pytest.approx(oracle.mean_absolute_error(true, np.full(90, np.median(train))))
    assert found.mse.chance == pytest.approx(oracle.mean_squared_error(true, np.full(90, train.mean())))
    error = np.abs(true - predicted)
    expected = cluster_bootstrap(lambda rows: error[rows].mean(), SUBJECTS, seed=0, num_resamples=200)
    assert (found.mae.low, found.mae.high) == pytest.approx((expected.low, expected.high))


def test_errors_by_shot_follow_how_often_the_score_was_trained_on() -> None:
    # Bins of 10: [20, 30) has 101 training scans, [30, 40) has 100, [40, 50) has 20, [50, 60) has 19, [60, 70) none.
    train = np.concatenate([np.full(101, 25), np.full(100, 30), np.full(20, 49.9), np.full(19, 50)])
    true = np.array([20.0, 29.9, 39.9, 40.0, 50.0, 60.0])
    predicted = true + np.array([1, 2, 4, 8, 16, 32])
    found = regression_metrics(
        true, predicted, np.arange(6), train_scores_T=train, bin_width=10, seed=0, num_resamples=20
    )
    assert (found.many_mae.value, found.medium_mae.value, found.few_mae.value) == (1.5, 6.0, 24.0)
    assert (found.many_mae.num, found.medium_mae.num, found.few_mae.num) == (2, 2, 2)
    few = regression_metrics(
        true[:2], predicted[:2], np.arange(2), train_scores_T=train, bin_width=10, seed=0, num_resamples=20
    ).few_mae
    assert few == Metric(value=None, num=0, note="no held-out scan in this group")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: change_accuracy([], [], [], seed=0), "non-empty"),
        (lambda: change_accuracy([0, 3], [0, 1], ["a", "b"], seed=0), "classes are 0 to 2"),
        (lambda: change_accuracy([0, 1], [0, 1], ["a"], seed=0), "one each is needed"),
        (lambda: binary_metrics([0, 2], [0.1, 0.2], [0, 1], ["a", "b"], seed=0), "classes are 0 to 1"),
        (lambda: binary_metrics([1, 1], [0.1, 0.2], [0, 1], ["a", "b"], seed=0), "one class"),
        (lambda: binary_metrics([0, 1], [0.1, np.nan], [0, 1], ["a", "b"], seed=0), "finite"),
        (lambda: regression_metrics([1.0], [2.0], ["a"], train_scores_T=[1.0], bin_width=0, seed=0), "bin_width"),
        (lambda: regression_metrics([1.0], [2.0], [], train_scores_T=[1.0], bin_width=1, seed=0), "one each"),
        (lambda: regression_metrics([1.0], [2.0, 3.0], ["a"], train_scores_T=[1.0], bin_width=1, seed=0), "shape"),
        (lambda: regression_metrics([1.0], [2.0], ["a"], train_scores_T=[], bin_width=1, seed=0), "training scores"),
    ],
)
def test_what_cannot_be_scored_is_refused_in_one_line(call, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        call()
    assert "\n" not in str(caught.value)
