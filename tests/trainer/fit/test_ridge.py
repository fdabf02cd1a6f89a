"""Ridge on differences against scikit-learn, with a penalty that people who were left out choose."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge as Reference

from trainer.fit.ridge import PENALTIES, fit_ridge


def cohort(num_people: int, noise: float, seed: int = 0):
    draws = np.random.default_rng(seed)
    truth_F = draws.normal(size=8)
    person_NF = np.repeat(draws.normal(scale=5, size=(num_people, 8)), 2, axis=0)
    change_NF = np.where(np.arange(2 * num_people)[:, None] % 2, draws.normal(size=(2 * num_people, 8)), 0)
    features_NF = person_NF + change_NF
    # What people bring along has nothing to do with the score; their change has.
    scores_N = (
        change_NF @ truth_F + np.repeat(draws.normal(size=num_people), 2) + noise * draws.normal(size=2 * num_people)
    )
    earlier_P = np.arange(0, 2 * num_people, 2)
    return features_NF, scores_N, earlier_P, earlier_P + 1, truth_F


def test_weights_are_those_of_scikit_learn_on_the_differences() -> None:
    features_NF, scores_N, earlier_P, later_P, _ = cohort(40, noise=1.0)
    changes_P = scores_N[later_P] - scores_N[earlier_P]
    found = fit_ridge(features_NF, scores_N, earlier_P, later_P, changes_P, [str(p) for p in earlier_P], seed=0)
    assert found is not None
    assert found.penalty in PENALTIES
    difference_PF = features_NF[later_P] - features_NF[earlier_P]
    alpha = found.penalty * float((difference_PF**2).sum()) / len(difference_PF)
    reference = Reference(alpha=alpha, fit_intercept=False).fit(difference_PF, changes_P)
    np.testing.assert_allclose(found.weight_F, reference.coef_, rtol=1e-8)
    assert found.scores(features_NF).mean() == pytest.approx(scores_N.mean())


def test_changes_without_noise_are_recovered_and_noise_takes_a_larger_penalty() -> None:
    clean = cohort(60, noise=0.0)
    features_NF, scores_N, earlier_P, later_P, truth_F = clean
    people = [str(p) for p in earlier_P]
    exact = fit_ridge(
        features_NF, scores_N, earlier_P, later_P, scores_N[later_P] - scores_N[earlier_P], people, seed=0
    )
    assert exact is not None
    np.testing.assert_allclose(exact.weight_F, truth_F, atol=0.02)
    shuffled = np.random.default_rng(1).permutation(scores_N[later_P] - scores_N[earlier_P])
    unrelated = fit_ridge(features_NF, scores_N, earlier_P, later_P, shuffled, people, seed=0)
    assert unrelated is not None
    assert unrelated.penalty > exact.penalty


def test_nothing_can_be_fitted_to_one_person_or_to_equal_scans() -> None:
    features_NF, scores_N, earlier_P, later_P, _ = cohort(10, noise=0.0)
    changes_P = scores_N[later_P] - scores_N[earlier_P]
    assert fit_ridge(features_NF, scores_N, earlier_P, later_P, changes_P, ["one"] * 10, seed=0) is None
    same = np.ones_like(features_NF)
    assert fit_ridge(same, scores_N, earlier_P, later_P, changes_P, [str(p) for p in earlier_P], seed=0) is None
