"""Verification is scikit-learn's ROC curve over written-out pairs, in every resample as on the whole set."""

import itertools

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from scipy.spatial.distance import cosine
from sklearn.metrics import roc_auc_score, roc_curve

from trainer.metrics.verification import verification_lead, verification_metrics, verification_pairs

SUBJECTS = np.repeat([f"s{number}" for number in range(10)], 3)
DAYS = np.tile([0.0, 0.0, 365.0], 10)


def scans(seed: int, *, apart: float = 0.7) -> np.ndarray:
    """Three scans each of ten people; the larger `apart`, the more alike are those of a person."""
    generator = np.random.default_rng(seed)
    return np.repeat(apart * generator.normal(size=(10, 6)), 3, axis=0) + generator.normal(size=(30, 6))


def by_hand(embeddings: np.ndarray, drawn: list[str]) -> tuple[list[bool], list[float]]:
    """Every own pair of two days and every pair of strangers, as often as its people were drawn."""
    own, distances = [], []
    for a, b in itertools.combinations(range(30), 2):
        if SUBJECTS[a] == SUBJECTS[b]:
            times = drawn.count(SUBJECTS[a]) if DAYS[a] != DAYS[b] else 0
        else:
            times = drawn.count(SUBJECTS[a]) * drawn.count(SUBJECTS[b])
        own += [SUBJECTS[a] == SUBJECTS[b]] * times
        distances += [cosine(embeddings[a], embeddings[b])] * times
    return own, distances


def eer_by_hand(own: list[bool], distances: list[float]) -> float:
    false_positive, true_positive, _ = roc_curve(own, -np.array(distances), drop_intermediate=False)
    return float(brentq(lambda x: 1 - x - interp1d(false_positive, true_positive)(x), 0, 1))


def test_area_and_equal_error_rate_are_scikit_learns() -> None:
    pairs = verification_pairs(SUBJECTS, SUBJECTS, DAYS, seed=0)
    for seed in range(5):
        embeddings = scans(seed)
        own, distances = by_hand(embeddings, list(dict.fromkeys(SUBJECTS)))
        found = verification_metrics(embeddings, pairs, seed=0, num_resamples=0)
        assert found["verification_auc"].value == pytest.approx(roc_auc_score(own, -np.array(distances)))
        assert found["verification_eer"].value == pytest.approx(eer_by_hand(own, distances), abs=1e-9)
        assert found["verification_auc"].num == len(own)
        assert found["verification_auc"].note.startswith("20 pairs of one person, 405 of two")


def test_a_resample_counts_each_pair_as_often_as_its_people_were_drawn() -> None:
    embeddings, names = scans(1), list(dict.fromkeys(SUBJECTS))
    pairs = verification_pairs(SUBJECTS, SUBJECTS, DAYS, seed=0)
    generator = np.random.default_rng(4)
    areas, errors = [], []
    for _ in range(40):
        drawn = [names[number] for number in generator.integers(0, 10, 10)]
        own, distances = by_hand(embeddings, drawn)
        areas.append(roc_auc_score(own, -np.array(distances)))
        errors.append(eer_by_hand(own, distances))
    found = verification_metrics(embeddings, pairs, seed=4, num_resamples=40)
    for name, values in (("verification_auc", areas), ("verification_eer", errors)):
        assert (found[name].low, found[name].high) == pytest.approx(tuple(np.quantile(values, (0.025, 0.975))))
        assert found[name].num_subjects == 10


def test_people_who_are_told_apart_and_a_collapsed_embedding_are_at_the_ends() -> None:
    pairs = verification_pairs(SUBJECTS, SUBJECTS, DAYS, seed=0)
    perfect = verification_metrics(np.repeat(np.eye(10), 3, axis=0), pairs, seed=0, num_resamples=20)
    assert (perfect["verification_auc"].value, perfect["verification_eer"].value) == (1, 0)
    assert perfect["verification_auc"].low == 1
    noise = np.random.default_rng(0).normal(0, 1e-13, (30, 4))
    collapsed = verification_metrics(np.ones((30, 4)) + noise, pairs, seed=0, num_resamples=20)
    assert (collapsed["verification_auc"].value, collapsed["verification_eer"].value) == (0.5, 0.5)


def test_the_lead_is_the_difference_of_two_areas_over_the_same_people() -> None:
    pairs = verification_pairs(SUBJECTS, SUBJECTS, DAYS, seed=0)
    sharp, blurred = scans(2, apart=3.0), scans(3, apart=0.0)
    areas = [
        verification_metrics(one, pairs, seed=0, num_resamples=0)["verification_auc"].value for one in (sharp, blurred)
    ]
    assert areas[0] is not None
    assert areas[1] is not None
    lead = verification_lead(sharp, blurred, pairs, seed=0, num_resamples=200)
    assert lead.value == pytest.approx(areas[0] - areas[1])
    assert lead.low is not None
    assert lead.low > 0
    itself = verification_lead(sharp, sharp, pairs, seed=0, num_resamples=50)
    assert (itself.value, itself.low, itself.high) == (0, 0, 0)


def test_visits_are_of_two_days_and_people_of_one_group_are_neither_one_nor_strangers() -> None:
    subject = ["a", "a", "a", "b", "c"]
    day = [0.0, 0.0, np.nan, 1.0, 2.0]
    pairs = verification_pairs(subject, ["a", "a", "a", "a", "c"], day, seed=0)
    listed = list(zip(pairs.first_P.tolist(), pairs.second_P.tolist(), strict=True))
    assert [pair for pair, own in zip(listed, pairs.own_P, strict=True) if own] == [(0, 2), (1, 2)]
    assert [pair for pair, own in zip(listed, pairs.own_P, strict=True) if not own] == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_strangers_drawn_from_many_repeat_for_a_seed_and_hardly_move_the_area() -> None:
    subject, day = np.repeat(np.arange(100), 3), np.tile([0.0, 1.0, 2.0], 100)
    generator = np.random.default_rng(0)
    embeddings = np.repeat(generator.normal(size=(100, 8)), 3, axis=0) + generator.normal(size=(300, 8))
    drawn = [verification_pairs(subject, subject, day, seed=seed, max_strangers=5000) for seed in (0, 0, 1)]
    assert np.array_equal(drawn[0].first_P, drawn[1].first_P)
    assert not np.array_equal(drawn[0].first_P, drawn[2].first_P)
    assert int(drawn[0].own_P.sum()) == 300
    whole, part = (
        verification_metrics(embeddings, pairs, seed=0, num_resamples=0)["verification_auc"].value
        for pairs in (verification_pairs(subject, subject, day, seed=0, max_strangers=10**6), drawn[0])
    )
    # 5000 of 44,550 strangers: the standard error of the area is below 0.01.
    assert part == pytest.approx(whole, abs=0.03)


def test_what_cannot_be_told_apart_says_why() -> None:
    alone = verification_pairs(["a", "a"], ["a", "a"], [0.0, 1.0], seed=0)
    once = verification_pairs(["a", "b"], ["a", "b"], [0.0, 0.0], seed=0)
    for pairs, reason in ((alone, "no pair of scans of different people"), (once, "nobody has scans of two visits")):
        metric = verification_metrics(np.eye(2), pairs, seed=0)["verification_eer"]
        assert (metric.value, metric.note) == (None, reason)
        assert verification_lead(np.eye(2), np.eye(2), pairs, seed=0).note == reason
    with pytest.raises(ValueError, match="one each"):
        verification_pairs(["a"], ["a"], [0.0, 1.0], seed=0)
