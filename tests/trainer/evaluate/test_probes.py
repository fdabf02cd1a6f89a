"""Probes equal scikit-learn's own estimators at the chosen penalty, and learn nothing from the held-out side."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.preprocessing import StandardScaler

from preprocess.errors import UsageError
from trainer.evaluate.probes import (
    CLASS_STRENGTHS,
    RIDGE_STRENGTHS,
    Examples,
    balanced_log_loss,
    best_threshold,
    linear_probe,
    ridge_probe,
)


def examples(num_subjects: int, seed: int, *, num_classes: int = 3, signal: float = 1.0) -> Examples:
    """Two scans a subject; class means lie `signal` apart along a direction of their own."""
    generator = np.random.default_rng(seed)
    own = np.arange(num_subjects) % num_classes
    labels = np.repeat(own, 2)
    features = generator.normal(size=(len(labels), 6)) * np.array([1, 10, 1, 0.1, 1, 5.0])
    features[:, :num_classes] += signal * 2 * np.eye(num_classes)[labels] * np.array([1, 10, 1])[:num_classes]
    return Examples(features, labels, np.repeat([f"s{number}" for number in range(num_subjects)], 2))


def scores(num_subjects: int, seed: int) -> Examples:
    drawn = examples(num_subjects, seed)
    noise = np.random.default_rng(seed + 1).normal(size=len(drawn))
    return Examples(drawn.features_NF, drawn.features_NF[:, 0] * 3 + 20 + noise, drawn.subject_ids_N)


def test_linear_probe_is_scikit_learns_at_the_penalty_that_validation_likes_best() -> None:
    train, validation, test = (examples(60, seed, signal=0.7) for seed in range(3))
    probe = linear_probe(train, validation, seed=0)
    scaler = StandardScaler().fit(train.features_NF)
    weight = np.bincount(validation.labels_N)[validation.labels_N]
    losses, models = [], []
    for strength in CLASS_STRENGTHS:
        model = LogisticRegression(C=1 / (strength * len(train)), class_weight="balanced", max_iter=5000)
        models.append(model.fit(scaler.transform(train.features_NF), train.labels_N))
        probability = model.predict_proba(scaler.transform(validation.features_NF))
        losses.append(log_loss(validation.labels_N, probability, sample_weight=1 / weight))
    best = int(np.argmin(losses))
    assert probe.chosen == {"strength": CLASS_STRENGTHS[best]}
    expected = models[best].predict_proba(scaler.transform(test.features_NF))
    assert probe.predict_proba(test.features_NF) == pytest.approx(expected)
    assert probe.threshold is None
    assert np.array_equal(probe.predict(test.features_NF), probe.classes_K[expected.argmax(1)])


def test_ridge_probe_is_scikit_learns_at_the_penalty_that_validation_likes_best() -> None:
    train, validation, test = (scores(30, seed) for seed in range(3))
    probe = ridge_probe(train, validation, seed=0)
    scaler = StandardScaler().fit(train.features_NF)
    models = [
        Ridge(alpha=a * len(train)).fit(scaler.transform(train.features_NF), train.labels_N) for a in RIDGE_STRENGTHS
    ]
    held = scaler.transform(validation.features_NF)
    errors = [((model.predict(held) - validation.labels_N) ** 2).mean() for model in models]
    best = int(np.argmin(errors))
    assert probe.strength == RIDGE_STRENGTHS[best]
    assert probe.predict(test.features_NF) == pytest.approx(models[best].predict(scaler.transform(test.features_NF)))


def test_probes_without_validation_choose_on_inner_folds_and_repeat_themselves() -> None:
    train, test = examples(40, 0, signal=0.0), examples(40, 1)
    noise = linear_probe(train, seed=4)
    # Labels that have nothing to do with the features: the strongest penalty generalises best.
    assert noise.chosen["strength"] == CLASS_STRENGTHS[0]
    again = linear_probe(train, seed=4)
    assert np.array_equal(noise.predict_proba(test.features_NF), again.predict_proba(test.features_NF))
    assert ridge_probe(scores(40, 0), seed=0).strength < RIDGE_STRENGTHS[0]


def test_missing_features_become_the_median_of_the_training_subjects() -> None:
    train, test = examples(40, 0), examples(40, 1)
    holes = train.features_NF.copy()
    holes[::5, 2] = np.nan
    filled = holes.copy()
    filled[::5, 2] = np.nanmedian(holes[:, 2])
    asked, asked_filled = test.features_NF.copy(), test.features_NF.copy()
    asked[:, 2], asked_filled[:, 2] = np.nan, np.nanmedian(holes[:, 2])
    with_holes = linear_probe(Examples(holes, train.labels_N, train.subject_ids_N), examples(20, 3), seed=0)
    without = linear_probe(Examples(filled, train.labels_N, train.subject_ids_N), examples(20, 3), seed=0)
    assert with_holes.predict_proba(asked) == pytest.approx(without.predict_proba(asked_filled))


def test_classes_may_be_names() -> None:
    drawn = examples(30, 0, num_classes=2, signal=3.0)
    named = Examples(drawn.features_NF, np.array(["normal", "abnormal"])[drawn.labels_N], drawn.subject_ids_N)
    probe = linear_probe(named, seed=0)
    assert probe.classes_K.tolist() == ["abnormal", "normal"]
    assert (probe.predict(named.features_NF) == named.labels_N).mean() > 0.9


@pytest.mark.parametrize("seed", range(5))
def test_best_threshold_is_the_best_of_all_thresholds(seed: int) -> None:
    generator = np.random.default_rng(seed)
    positive = generator.random(80) < 0.3
    score = np.round(generator.beta(2, 3, 80) + 0.2 * positive, 2)
    found = best_threshold(positive, score)
    reached = balanced_accuracy_score(positive, score >= found)
    every = [balanced_accuracy_score(positive, score >= one) for one in np.arange(-0.005, 1.3, 0.01)]
    assert reached == pytest.approx(max(every))


def test_threshold_lies_midway_between_separated_classes_and_is_a_half_where_scores_say_nothing() -> None:
    assert best_threshold([False, False, True, True], [0.1, 0.2, 0.4, 0.9]) == pytest.approx(0.3)
    assert best_threshold([False, True, False, True], [0.2, 0.2, 0.2, 0.2]) == 0.5
    assert best_threshold([True, True, False], [0.1, 0.2, 0.9]) == 0.5


def test_threshold_of_two_classes_comes_from_validation_and_decides() -> None:
    train, validation = examples(60, 0, num_classes=2, signal=0.5), examples(60, 1, num_classes=2, signal=0.5)
    probe = linear_probe(train, validation, seed=0)
    assert probe.threshold == best_threshold(
        validation.labels_N == 1, probe.predict_proba(validation.features_NF)[:, 1]
    )
    probability = probe.predict_proba(train.features_NF)[:, 1]
    assert np.array_equal(probe.predict(train.features_NF), (probability >= probe.threshold).astype(int))


def test_balanced_log_loss_is_scikit_learns_with_a_weight_a_class() -> None:
    generator = np.random.default_rng(0)
    labels, probability = generator.choice([2, 5, 9], 50, p=(0.1, 0.6, 0.3)), generator.dirichlet((1, 2, 1), 50)
    weight = np.array([1 / (labels == label).sum() for label in labels])
    expected = log_loss(labels, probability, labels=[2, 5, 9], sample_weight=weight)
    assert balanced_log_loss(labels, probability, np.array([2, 5, 9])) == pytest.approx(expected)


def test_what_cannot_be_fitted_is_refused_in_one_line() -> None:
    train = examples(12, 0)
    one_class = Examples(train.features_NF, np.zeros(24, dtype=int), train.subject_ids_N)
    lonely = Examples(train.features_NF, (train.subject_ids_N == "s3").astype(int), train.subject_ids_N)
    alone = Examples(train.features_NF, train.features_NF[:, 0], np.full(24, "s0"))
    unseen = Examples(train.features_NF, np.full(24, 7), train.subject_ids_N)
    for call, said in (
        (lambda: linear_probe(one_class, seed=0), "needs two classes"),
        (lambda: linear_probe(lonely, seed=0), "class 1 has 1 training subject"),
        (lambda: linear_probe(train, unseen, seed=0), "class 7 is in validation but not in training"),
        (lambda: ridge_probe(alone, seed=0), "1 training subject"),
    ):
        with pytest.raises(UsageError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="infinite"):
        Examples(np.full((24, 2), np.inf), train.labels_N, train.subject_ids_N)
    with pytest.raises(ValueError, match="shapes"):
        Examples(train.features_NF, train.labels_N[:-1], train.subject_ids_N)
    with pytest.raises(ValueError, match="scores must be finite"):
        ridge_probe(Examples(train.features_NF, np.full(24, np.nan), train.subject_ids_N), seed=0)
