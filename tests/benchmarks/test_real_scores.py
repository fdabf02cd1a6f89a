"""Scores of a handful of real images against SciPy, scikit-learn and counting by hand."""

import itertools

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.real_scores import (
    age_scores,
    arrangements,
    clip_scores,
    exact,
    identity_scores,
    nearest_shares,
    verdict,
)
from trainer.metrics.embedding_space import same_subject_retrieval

PEOPLE = ("a", "a", "b", "b", "c", "d", "e", "f")
DAYS = np.array([0.0, 203.0, 0.0, 81.0, *[np.nan] * 4])
SOURCES = np.array([0, 0, 0, 0, 1, 1, 1, 1])
CLIPS = ("Cov", "Pneu", *["Reg"] * 6, "Vir", "Vir")


def two_pairs(*, swapped: bool = False) -> np.ndarray:
    """Second visits next to first ones, or each next to the other person's."""
    axes_88 = np.eye(8)
    visits = axes_88[[0, 0, 2, 2]] + [[0.1], [0.3], [0.1], [0.3]] * axes_88[[1, 1, 3, 3]]
    if swapped:
        visits[[1, 3]] = visits[[3, 1]]
    return np.concatenate([visits, axes_88[4:]])


@pytest.mark.parametrize("labels", ["", "a", "aab", "abcd", "aabbc", "aaaabb"])
def test_arrangements_are_the_distinct_permutations(labels: str) -> None:
    found = list(arrangements(list(labels)))
    assert len(found) == len(set(found))
    assert set(found) == set(itertools.permutations(labels))


@pytest.mark.parametrize("seed", range(4))
def test_nearest_label_agrees_with_leave_one_out_of_scikit_learn(seed: int) -> None:
    embeddings_NE = np.random.default_rng(seed).normal(size=(10, 5))
    nearest = KNeighborsClassifier(n_neighbors=1, metric="cosine")
    answers = cross_val_predict(nearest, embeddings_NE, np.array(CLIPS), cv=LeaveOneOut())
    found = clip_scores(embeddings_NE, CLIPS, {})
    assert found["nearest_accuracy"] == pytest.approx((answers == np.array(CLIPS)).mean())
    # A blind pick of one of the nine others: 6 * 5 + 2 * 1 of 90 pairs have one label.
    assert found["nearest_chance"] == pytest.approx(32 / 90)
    assert found["nearest_majority"] == 0.6
    assert (found["num_clips"], found["num_regular"]) == (10, 6)


@pytest.mark.parametrize("seed", range(6))
def test_auc_and_its_p_agree_with_scikit_learn_and_scipy(seed: int) -> None:
    generator = np.random.default_rng(seed)
    score_N, is_ill = generator.normal(size=10), np.array(CLIPS) != "Reg"
    found = clip_scores(generator.normal(size=(10, 3)), CLIPS, {"s": score_N})
    assert found["auc_s"] == pytest.approx(roc_auc_score(is_ill, score_N))
    expected = stats.mannwhitneyu(score_N[is_ill], score_N[~is_ill], method="exact", alternative="two-sided")
    assert found["p_auc_s"] == pytest.approx(expected.pvalue)


def test_equal_scores_are_half_right_and_show_nothing() -> None:
    found = clip_scores(np.eye(10), CLIPS, {"s": np.full(10, 3.0)})
    assert (found["auc_s"], found["p_auc_s"]) == (0.5, 1.0)


def test_clips_parted_without_error_give_the_least_p_of_210_arrangements() -> None:
    score_N = np.where(np.array(CLIPS) == "Reg", 0.0, 1.0) + 0.01 * np.arange(10)
    found = clip_scores(np.eye(10), CLIPS, {"right": score_N, "wrong": -score_N})
    assert (found["auc_right"], found["auc_wrong"]) == (1.0, 0.0)
    assert found["p_auc_right"] == found["p_auc_wrong"] == pytest.approx(2 / 210)


@pytest.mark.parametrize("seed", range(4))
def test_identity_agrees_with_the_evaluation_of_a_run(seed: int) -> None:
    embeddings_NE = np.random.default_rng(seed).normal(size=(8, 4))
    found = identity_scores(embeddings_NE, PEOPLE, DAYS, SOURCES)
    expected = same_subject_retrieval(embeddings_NE, PEOPLE, DAYS)
    assert found["retrieval_at_1"] == pytest.approx(expected.value)
    assert found["chance"] == pytest.approx(expected.chance) == pytest.approx(1 / 7)
    assert (found["num_scans"], found["num_queries"]) == (8, 4)


def test_even_perfect_retrieval_of_two_people_is_one_of_three_pairings_within_its_data_set() -> None:
    found = identity_scores(two_pairs(), PEOPLE, DAYS, SOURCES)
    assert found["retrieval_at_1"] == 1.0
    assert found["p_own_source"] == found["least_p_own_source"] == pytest.approx(1 / 3)
    # Two disjoint pairs of eight scans: 8! / (2! 2! 2! 4!) ways.
    assert found["p"] == pytest.approx(1 / 210)
    # (1, 0.1) and (1, 0.3) are the visits; people have nothing in common.
    assert found["within_between"] == pytest.approx(1 - 1.03 / np.sqrt(1.01 * 1.09))


def test_an_embedding_that_knows_only_the_data_set_finds_its_own_and_nobody() -> None:
    found = identity_scores(two_pairs(swapped=True), PEOPLE, DAYS, SOURCES)
    assert found["retrieval_at_1"] == 0.0
    assert found["p"] == found["p_own_source"] == 1.0
    one_point = np.ones((8, 3))
    collapsed = identity_scores(one_point, PEOPLE, DAYS, SOURCES)
    assert collapsed["retrieval_at_1"] == pytest.approx(1 / 7)
    assert "within_between" not in collapsed
    with pytest.raises(ValueError, match="none of 3 scans has a second visit"):
        identity_scores(np.eye(3), ("a", "b", "c"), DAYS[:3], SOURCES[:3])


def test_equally_near_images_share_one_vote() -> None:
    shares_NN = nearest_shares(np.array([[1.0, 0], [1, 0], [1, 0], [0, 1]]))
    assert shares_NN[0].tolist() == [0, 0.5, 0.5, 0]
    np.testing.assert_allclose(shares_NN.sum(axis=1), 1)


def test_labels_that_stay_are_not_exchanged() -> None:
    seen: list[str] = []

    def first_is_a(labels_N: np.ndarray) -> float:
        seen.append("".join(labels_N))
        return float(labels_N[0] == "a")

    found = exact(first_is_a, list("abz"), [0, 1])
    assert seen == ["abz", "abz", "baz"]
    assert (found.value, found.chance, found.p, found.least_p, found.num) == (1.0, 0.5, 0.5, 0.5, 2)


def test_errors_of_ages_and_the_p_of_flipped_signs() -> None:
    ages = np.array([20.0, 30.0, 40.0, 50.0])
    found = age_scores(ages + 2, ages, constant=70.0)
    assert (found["mae"], found["mae_constant"], found["mae_own_median"], found["gain"]) == (2.0, 35.0, 10.0, 33.0)
    assert (found["youngest_predicted"], found["oldest_predicted"]) == (22.0, 52.0)
    assert found["p"] == found["least_p"] == 0.125  # all four better: two of 16 signs
    gains = np.array([50.0, 40.0, 30.0, 20.0]) - [60.0, 1.0, 1.0, 1.0]
    mixed = age_scores(ages + np.array([60.0, 1.0, 1.0, 1.0]), ages, constant=70.0)
    expected = stats.permutation_test(
        (gains, np.zeros(4)), lambda a, b: np.mean(a - b), permutation_type="samples", alternative="two-sided"
    )
    assert mixed["p"] == pytest.approx(expected.pvalue)


@pytest.mark.parametrize(
    ("values", "p_values", "expected"),
    [
        ([0.9, 0.8], [0.01, 0.05], "better than guessing"),
        ([0.9, 0.8], [0.01, 0.06], "too few to tell"),
        ([0.1, 0.2], [0.01, 0.02], "worse than guessing"),
        ([0.1, 0.9], [0.01, 0.02], "seeds disagree"),
    ],
)
def test_a_verdict_needs_every_seed(values: list[float], p_values: list[float], expected: str) -> None:
    assert verdict(values, 0.5, p_values) == expected
