"""Distances and their correlation equal scipy's over written-out pairs, in every resample as on the whole set."""

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cosine

from trainer.metrics.intervals import cluster_bootstrap
from trainer.metrics.pair_distances import (
    ScoredPairs,
    change_correlation,
    distance_correlation,
    exceeded_once_in_twenty,
    noise_floor,
    stranger_pairs,
)

SUBJECTS = np.repeat([f"s{number}" for number in range(12)], 3)


def scans(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings that turn with the score, and the scores, rounded so that differences tie."""
    generator = np.random.default_rng(seed)
    score = np.round(generator.normal(25, 3, 36))
    angle = score / 12
    embeddings = np.column_stack([np.cos(angle), np.sin(angle), np.zeros((36, 2))]) + generator.normal(0, 0.3, (36, 4))
    return embeddings, score


def test_stranger_pairs_are_all_pairs_of_different_subjects_with_known_scores() -> None:
    embeddings, score = scans(1)
    score[[4, 20]] = np.nan
    found = stranger_pairs(embeddings, score, SUBJECTS, seed=0)
    expected = {
        (a, b)
        for a, b in itertools.combinations(range(36), 2)
        if SUBJECTS[a] != SUBJECTS[b] and np.isfinite(score[[a, b]]).all()
    }
    assert set(zip(found.first_P.tolist(), found.second_P.tolist(), strict=True)) == expected
    assert len(found) == len(expected)
    for a, b, distance, difference in zip(
        found.first_P[::50], found.second_P[::50], found.distance_P[::50], found.difference_P[::50], strict=True
    ):
        assert distance == pytest.approx(cosine(embeddings[a], embeddings[b]))
        assert difference == abs(score[a] - score[b])


def test_stranger_pairs_drawn_from_many_are_different_pairs_and_repeat_for_a_seed() -> None:
    embeddings, score = scans(2)
    one, two, three = (stranger_pairs(embeddings, score, SUBJECTS, seed=seed, max_pairs=200) for seed in (0, 0, 1))
    pairs = list(zip(one.first_P.tolist(), one.second_P.tolist(), strict=True))
    # 36 of 630 pairs are of one subject and fall out: about 11 of 200.
    assert 170 < len(pairs) == len(set(pairs)) < 200
    assert all(SUBJECTS[a] != SUBJECTS[b] for a, b in pairs)
    assert np.array_equal(one.first_P, two.first_P)
    assert not np.array_equal(one.first_P, three.first_P[: len(one)])


def rho_by_hand(pairs: ScoredPairs, drawn: list[str]) -> float:
    """Scipy's rho over the pairs written out as often as their subjects were drawn."""
    rows = []
    for index, (a, b) in enumerate(zip(SUBJECTS[pairs.first_P], SUBJECTS[pairs.second_P], strict=True)):
        rows += [index] * (drawn.count(a) * drawn.count(b))
    return float(stats.spearmanr(pairs.difference_P[rows], pairs.distance_P[rows]).statistic)


def test_rho_equals_scipys_over_written_out_pairs_in_every_resample() -> None:
    embeddings, score = scans(4)
    pairs = stranger_pairs(embeddings, score, SUBJECTS, seed=0)
    names = np.unique(SUBJECTS)
    found = distance_correlation(pairs, SUBJECTS, seed=1, num_resamples=40)
    expected = cluster_bootstrap(lambda drawn: rho_by_hand(pairs, list(names[drawn])), names, seed=1, num_resamples=40)
    assert (found.value, found.low, found.high) == pytest.approx((expected.value, expected.low, expected.high))
    assert (found.num, found.num_subjects, found.chance) == (len(pairs), 12, 0)


def test_rho_is_undefined_without_pairs_or_without_differences() -> None:
    embeddings, _ = scans(5)
    alike = stranger_pairs(embeddings, np.full(36, 7.0), SUBJECTS, seed=0)
    assert distance_correlation(alike, SUBJECTS, seed=0, num_resamples=20).note == "not defined on these rows"
    none = stranger_pairs(embeddings, np.full(36, np.nan), SUBJECTS, seed=0)
    assert distance_correlation(none, SUBJECTS, seed=0).note == "no pairs"


def test_change_correlation_takes_the_size_of_the_change_and_leaves_out_unknown_scores() -> None:
    distance = np.array([0.1, 0.4, 0.2, 0.9, 0.5])
    delta = np.array([-1.0, 4.0, 2.0, np.nan, -5.0])
    result = change_correlation(distance, delta)
    assert result.num == 4
    assert result.rho == pytest.approx(stats.spearmanr([0.1, 0.4, 0.2, 0.5], [1, 4, 2, 5]).statistic)
    assert change_correlation([0.1, 0.2], [1.0, 2.0]).rho is None


def test_noise_floor_is_the_quantiles_of_the_distances() -> None:
    distances = np.random.default_rng(1).exponential(0.05, 33)
    floor = noise_floor(distances)
    assert (floor.median, floor.percentile_95) == pytest.approx(tuple(np.percentile(distances, (50, 95))))
    assert floor.num == 33


def test_lengths_and_cohorts_that_do_not_fit_are_refused_in_one_line() -> None:
    embeddings, score = scans(0)
    for call, said in (
        (lambda: stranger_pairs(embeddings, score[1:], SUBJECTS, seed=0), "36 embeddings"),
        (lambda: change_correlation([0.1], [1.0, 2.0]), "equal"),
        (lambda: noise_floor([]), "at least one"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_new_value_exceeds_the_level_in_one_case_of_twenty_at_most() -> None:
    assert exceeded_once_in_twenty(range(1, 20)) == 19  # ceil(0.95 * 20)
    assert exceeded_once_in_twenty(range(1, 101)) == 96
    assert exceeded_once_in_twenty([3.0]) == 3.0
    draws = np.random.default_rng(0)
    exceeded = [draws.normal() > exceeded_once_in_twenty(draws.normal(size=26)) for _ in range(20_000)]
    assert np.mean(exceeded) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 20_000)
    with pytest.raises(ValueError, match="no value"):
        exceeded_once_in_twenty([])
