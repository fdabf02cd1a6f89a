"""Repeated folds leak nothing from the tested side, and sum up as a loop with scikit-learn's scores does."""

import dataclasses

import numpy as np
import pytest
from sklearn import metrics as oracle

from trainer.evaluate.folds import Fold, corrected_resampled_t_test, patient_folds
from trainer.evaluate.mlp_probe import mlp_probe
from trainer.evaluate.probes import Examples, linear_probe
from trainer.evaluate.protocol import compare_repeated, repeated_binary_figures, repeated_figure, run_folds


def examples(seed: int = 0, num_subjects: int = 40) -> Examples:
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_subjects) % 2, 2)
    features = generator.normal(size=(len(labels), 4)) + 0.8 * labels[:, None]
    features[generator.random(features.shape) < 0.05] = np.nan
    return Examples(features, labels, np.repeat(np.arange(num_subjects), 2))


def short_mlp(train: Examples, validation: Examples | None, *, seed: int):
    return mlp_probe(train, validation, seed=seed, num_epochs=3)


@pytest.mark.parametrize("fit", [linear_probe, short_mlp])
def test_labels_and_features_of_test_subjects_change_nothing_that_was_fitted(fit) -> None:
    drawn = examples()
    fold = patient_folds(drawn.subject_ids_N, drawn.labels_N, num_folds=4, num_repeats=1, seed=0)[2]
    seen = []

    def spy(train: Examples, validation: Examples | None, *, seed: int):
        seen.append(fit(train, validation, seed=seed))
        return seen[-1]

    (plain,) = run_folds(drawn, [fold], spy, seed=1)
    labels = drawn.labels_N.copy()
    labels[fold.test_L] = 1 - labels[fold.test_L]
    (flipped,) = run_folds(dataclasses.replace(drawn, labels_N=labels), [fold], spy, seed=1)
    assert np.array_equal(plain.probability_LK, flipped.probability_LK)
    assert np.array_equal(plain.predicted_L, flipped.predicted_L)
    assert (plain.threshold, plain.chosen) == (flipped.threshold, flipped.chosen)
    wild = drawn.features_NF.copy()
    wild[fold.test_L] = 1e6
    run_folds(dataclasses.replace(drawn, features_NF=wild), [fold], spy, seed=1)
    asked = np.random.default_rng(9).normal(size=(50, 4))
    asked[::7, 1] = np.nan
    assert np.array_equal(seen[0].predict_proba(asked), seen[1].predict_proba(asked))
    assert np.array_equal(seen[0].predict_proba(asked), seen[2].predict_proba(asked))
    assert seen[0].threshold == seen[2].threshold
    # And the counter-proof: a training label does change it.
    labels[fold.train_K[0]] = 1 - labels[fold.train_K[0]]
    run_folds(dataclasses.replace(drawn, labels_N=labels), [fold], spy, seed=1)
    assert not np.array_equal(seen[0].predict_proba(asked), seen[3].predict_proba(asked))


def test_figures_equal_a_loop_over_the_folds_with_scikit_learns_scores() -> None:
    drawn = examples(num_subjects=30)
    folds = patient_folds(drawn.subject_ids_N, drawn.labels_N, num_folds=3, num_repeats=4, seed=2)
    outcomes = run_folds(drawn, folds, linear_probe, seed=0)
    figures = repeated_binary_figures(drawn.labels_N, outcomes)
    expected = {"balanced_accuracy": [], "auc": [], "sensitivity": [], "specificity": []}
    for fold, outcome in zip(folds, outcomes, strict=True):
        true = drawn.labels_N[fold.test_L]
        expected["balanced_accuracy"].append(oracle.balanced_accuracy_score(true, outcome.predicted_L))
        expected["auc"].append(oracle.roc_auc_score(true, outcome.probability_LK[:, 1]))
        expected["sensitivity"].append(oracle.recall_score(true, outcome.predicted_L))
        expected["specificity"].append(oracle.recall_score(true, outcome.predicted_L, pos_label=0))
        assert (outcome.num_train, outcome.num_test) == (20, 10)
    for name, by_fold in expected.items():
        repeats = np.reshape(by_fold, (4, 3)).mean(1)
        interval = corrected_resampled_t_test(by_fold, num_train=20, num_test=10)
        assert figures[name].by_fold_R == pytest.approx(tuple(by_fold))
        assert figures[name].value == pytest.approx(repeats.mean())
        assert figures[name].sd == pytest.approx(repeats.std(ddof=1))
        assert (figures[name].low, figures[name].high) == pytest.approx((interval.low, interval.high))
        assert figures[name].num_repeats == 4
    assert (figures["auc"].chance, figures["sensitivity"].chance) == (0.5, None)


def test_two_methods_are_compared_on_the_same_folds() -> None:
    drawn = examples(1)
    folds = patient_folds(drawn.subject_ids_N, drawn.labels_N, num_folds=4, num_repeats=2, seed=0)
    blind = dataclasses.replace(drawn, features_NF=np.random.default_rng(3).normal(size=(80, 4)))
    seeing = repeated_binary_figures(drawn.labels_N, run_folds(drawn, folds, linear_probe, seed=0))["auc"]
    guessing = repeated_binary_figures(drawn.labels_N, run_folds(blind, folds, linear_probe, seed=0))["auc"]
    found = compare_repeated(seeing, guessing)
    expected = corrected_resampled_t_test(np.subtract(seeing.by_fold_R, guessing.by_fold_R), num_train=30, num_test=10)
    assert found == expected
    assert found.p_value < 0.05
    assert guessing.low < 0.5 < guessing.high
    with pytest.raises(ValueError, match="8 folds against 7"):
        compare_repeated(seeing, dataclasses.replace(guessing, by_fold_R=guessing.by_fold_R[:-1]))


def test_an_encoder_may_be_trained_anew_for_each_fold() -> None:
    drawn = examples(3)
    folds = patient_folds(drawn.subject_ids_N, drawn.labels_N, num_folds=4, num_repeats=2, seed=0)
    asked = []

    def embed(fold: Fold) -> np.ndarray:
        asked.append((fold.repeat, fold.number))
        return np.nan_to_num(drawn.features_NF) - np.nanmean(drawn.features_NF[fold.train_K], axis=0)

    outcomes = run_folds(drawn, folds, linear_probe, seed=0, embed=embed)
    assert asked == [(fold.repeat, fold.number) for fold in folds]
    for fold, outcome in zip(folds, outcomes, strict=True):
        by_hand = dataclasses.replace(drawn, features_NF=embed(fold))
        (expected,) = run_folds(by_hand, [fold], linear_probe, seed=0)
        assert np.array_equal(outcome.probability_LK, expected.probability_LK)
    with pytest.raises(ValueError, match="shapes"):
        run_folds(drawn, folds, linear_probe, seed=0, embed=lambda fold: drawn.features_NF[fold.train_K])


def test_same_seed_gives_the_same_outcomes() -> None:
    drawn = examples(2)
    folds = patient_folds(drawn.subject_ids_N, drawn.labels_N, num_folds=4, num_repeats=1, seed=0)
    first, again, other = (run_folds(drawn, folds, short_mlp, seed=seed) for seed in (5, 5, 6))
    pairs = list(zip(first, again, other, strict=True))
    assert all(np.array_equal(one.probability_LK, two.probability_LK) for one, two, _ in pairs)
    assert not any(np.array_equal(one.probability_LK, three.probability_LK) for one, _, three in pairs)


def test_what_cannot_be_scored_is_refused_in_one_line() -> None:
    drawn = examples()
    torn = Fold(0, 0, np.arange(0, 80, 2), np.arange(1, 80, 2))
    folds = patient_folds(drawn.subject_ids_N, drawn.labels_N, num_folds=4, num_repeats=1, seed=0)
    outcomes = run_folds(drawn, folds, linear_probe, seed=0)
    for call, said in (
        (lambda: run_folds(drawn, [torn], linear_probe, seed=0), "40 subjects are trained on and tested"),
        (lambda: repeated_binary_figures(np.arange(80) % 3, outcomes), "3 classes"),
        (lambda: repeated_binary_figures(np.arange(80) // 79, outcomes), "tests one class only"),
        (lambda: repeated_figure([0.5], outcomes, chance=None), "1 scores for 4 folds"),
        (lambda: repeated_binary_figures(drawn.labels_N, outcomes[:1]), "at least 2"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)
