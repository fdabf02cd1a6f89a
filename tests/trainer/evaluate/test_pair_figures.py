"""Distances and their correlation equal scipy's over written-out pairs, in every resample as on the whole set."""

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cosine

from trainer.evaluate.intervals import cluster_bootstrap
from trainer.evaluate.pair_figures import (
    ScoredPairs,
    distance_correlation,
    distance_figures,
    patient_pairs,
    stranger_pairs,
)
from trainer.evaluate.similarity import within_between

SUBJECTS = np.repeat([f"s{number}" for number in range(12)], 3)
DAYS = np.tile([200.0, 0.0, 90.0], 12)


def scans(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings that turn with the score, and the scores, rounded so that differences tie."""
    generator = np.random.default_rng(seed)
    score = np.round(generator.normal(25, 3, 36))
    angle = score / 12
    embeddings = np.column_stack([np.cos(angle), np.sin(angle), np.zeros((36, 2))]) + generator.normal(0, 0.3, (36, 4))
    return embeddings, score


def distances_by_hand(embeddings: np.ndarray, drawn: list[str]) -> tuple[float, float]:
    """Within and between, pair by pair, where `drawn` lists subjects, repeats allowed."""
    copies = [(name, row) for name in drawn for row in np.flatnonzero(name == SUBJECTS)]
    between = [cosine(embeddings[a], embeddings[b]) for (x, a), (y, b) in itertools.combinations(copies, 2) if x != y]
    within = []
    for name in drawn:
        rows = np.flatnonzero(name == SUBJECTS)
        rows = rows[np.argsort(DAYS[rows])]
        within += [cosine(embeddings[a], embeddings[b]) for a, b in itertools.pairwise(rows)]
    return float(np.mean(within)), float(np.mean(between))


def test_distances_equal_those_pair_by_pair_in_every_resample() -> None:
    embeddings, _ = scans(0)
    found = distance_figures(embeddings, SUBJECTS, DAYS, seed=3, num_resamples=40)
    names = np.unique(SUBJECTS)
    for place, figure in enumerate((found.within, found.between)):
        expected = cluster_bootstrap(
            lambda drawn, place=place: distances_by_hand(embeddings, list(names[drawn]))[place],
            names,
            seed=3,
            num_resamples=40,
        )
        assert (figure.value, figure.low, figure.high) == pytest.approx((expected.value, expected.low, expected.high))
    whole = within_between(embeddings, SUBJECTS, DAYS)
    assert (found.within.value, found.between.value) == pytest.approx((whole.within, whole.between))
    assert (found.ratio.value, found.ratio.chance) == (pytest.approx(whole.ratio), 1)
    assert (found.within.num, found.between.num) == (whole.num_within, whole.num_between)
    assert found.ratio.low < found.ratio.value < found.ratio.high


def test_a_collapsed_model_has_no_ratio() -> None:
    found = distance_figures(np.ones((36, 4)), SUBJECTS, DAYS, seed=0, num_resamples=20)
    assert found.ratio.value is None
    assert found.between.value == pytest.approx(0, abs=1e-12)


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


def test_patient_pairs_are_all_visits_of_one_subject_earlier_first_without_same_day_repeats() -> None:
    embeddings, score = scans(3)
    days = DAYS.copy()
    days[1] = 90.0  # a repeat of row 2
    days[6] = np.nan
    score[9] = np.nan
    found = patient_pairs(embeddings, score, SUBJECTS, days)
    expected = {
        (a, b)
        for a, b in itertools.permutations(range(36), 2)
        if SUBJECTS[a] == SUBJECTS[b] and days[a] < days[b] and np.isfinite(score[[a, b]]).all()
    }
    assert set(zip(found.first_P.tolist(), found.second_P.tolist(), strict=True)) == expected
    assert len(found) == len(expected)


def rho_by_hand(pairs: ScoredPairs, drawn: list[str]) -> float:
    """Scipy's rho over the pairs written out as often as their subjects were drawn."""
    rows = []
    for place, (a, b) in enumerate(zip(SUBJECTS[pairs.first_P], SUBJECTS[pairs.second_P], strict=True)):
        rows += [place] * (drawn.count(a) if a == b else drawn.count(a) * drawn.count(b))
    return float(stats.spearmanr(pairs.difference_P[rows], pairs.distance_P[rows]).statistic)


@pytest.mark.parametrize("kind", ["strangers", "patients"])
def test_rho_equals_scipys_over_written_out_pairs_in_every_resample(kind: str) -> None:
    embeddings, score = scans(4)
    strangers = stranger_pairs(embeddings, score, SUBJECTS, seed=0)
    pairs = strangers if kind == "strangers" else patient_pairs(embeddings, score, SUBJECTS, DAYS)
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


def test_lengths_and_cohorts_that_do_not_fit_are_refused_in_one_line() -> None:
    embeddings, score = scans(0)
    for call, said in (
        (lambda: distance_figures(embeddings, SUBJECTS[1:], DAYS[1:], seed=0), "one each is needed"),
        (lambda: distance_figures(embeddings, SUBJECTS, np.zeros(36), seed=0), "no subject has two visits"),
        (lambda: distance_figures(embeddings, np.zeros(36), np.arange(36), seed=0), "one subject only"),
        (lambda: stranger_pairs(embeddings, score[1:], SUBJECTS, seed=0), "36 embeddings"),
        (lambda: patient_pairs(embeddings, score, SUBJECTS, DAYS[1:]), "equal vectors"),
    ):
        with pytest.raises(ValueError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)
