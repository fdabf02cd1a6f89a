"""The linear probe equals scikit-learn's own estimator at the chosen penalty; thresholds are the best of all."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler

from trainer.evaluate.probes import (
    RIDGE_PENALTIES,
    Examples,
    best_threshold,
    ridge_probe,
)


def scores(num_subjects: int, seed: int) -> Examples:
    """Two scans a subject, whose score lies along the first of six features of different size."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(2 * num_subjects, 6)) * np.array([1, 10, 1, 0.1, 1, 5.0])
    measured = features[:, 0] * 3 + 20 + generator.normal(size=len(features))
    return Examples(features, measured, np.repeat([f"s{number}" for number in range(num_subjects)], 2))


def test_ridge_probe_is_scikit_learns_at_the_penalty_that_validation_likes_best() -> None:
    train, validation, test = (scores(30, seed) for seed in range(3))
    probe = ridge_probe(train, validation)
    scaler = StandardScaler().fit(train.features_NF)
    models = [
        Ridge(alpha=a * len(train)).fit(scaler.transform(train.features_NF), train.labels_N) for a in RIDGE_PENALTIES
    ]
    held = scaler.transform(validation.features_NF)
    errors = [((model.predict(held) - validation.labels_N) ** 2).mean() for model in models]
    best = int(np.argmin(errors))
    assert probe.penalty == RIDGE_PENALTIES[best]
    assert probe.predict(test.features_NF) == pytest.approx(models[best].predict(scaler.transform(test.features_NF)))


def test_missing_features_become_the_median_of_the_training_subjects() -> None:
    train, validation, test = scores(40, 0), scores(20, 3), scores(40, 1)
    holes = train.features_NF.copy()
    holes[::5, 2] = np.nan
    filled = holes.copy()
    filled[::5, 2] = np.nanmedian(holes[:, 2])
    queries, filled_queries = test.features_NF.copy(), test.features_NF.copy()
    queries[:, 2], filled_queries[:, 2] = np.nan, np.nanmedian(holes[:, 2])
    with_holes = ridge_probe(Examples(holes, train.labels_N, train.subject_ids_N), validation)
    without = ridge_probe(Examples(filled, train.labels_N, train.subject_ids_N), validation)
    assert with_holes.predict(queries) == pytest.approx(without.predict(filled_queries))


def test_scores_that_have_nothing_to_do_with_the_features_get_the_strongest_penalty() -> None:
    noise = [
        Examples(drawn.features_NF, np.random.default_rng(seed).normal(size=len(drawn)), drawn.subject_ids_N)
        for seed, drawn in enumerate((scores(40, 0), scores(40, 1)))
    ]
    assert ridge_probe(*noise).penalty == RIDGE_PENALTIES[0]
    assert ridge_probe(scores(40, 0), scores(40, 1)).penalty < RIDGE_PENALTIES[0]


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


def test_what_cannot_be_fitted_is_refused_in_one_line() -> None:
    train = scores(12, 0)
    for call, said in (
        (lambda: Examples(np.full((24, 2), np.inf), train.labels_N, train.subject_ids_N), "infinite"),
        (lambda: Examples(train.features_NF, train.labels_N[:-1], train.subject_ids_N), "shapes"),
        (
            lambda: ridge_probe(Examples(train.features_NF, np.full(24, np.nan), train.subject_ids_N), train),
            "scores must be finite",
        ),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)
