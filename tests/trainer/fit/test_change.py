"""Calibration recovers what pairs were drawn from, never sees the person it answers for, and is never certain."""

import numpy as np
import pytest

from trainer.fit.change import Calibrated, calibrate, cross_calibrated

TRUTH = Calibrated(steepness=1.2, offset=2.0, share=1e-6, rate=0.5, gain=1.0, num_people=1, num_pairs=1)


def drawn(num_people: int, seed: int = 0, per_person: int = 2):
    draws = np.random.default_rng(seed)
    improvement_P = draws.normal(scale=3, size=num_people * per_person)
    labels_P = np.array([draws.choice(3, p=row / row.sum()) for row in TRUTH.probabilities(improvement_P)])
    people = np.repeat([f"p{number}" for number in range(num_people)], per_person)
    return improvement_P, labels_P, people


def test_many_pairs_recover_what_they_were_drawn_from() -> None:
    improvement_P, labels_P, people = drawn(3000)
    found = calibrate(improvement_P, labels_P, 2 * improvement_P, people.tolist())
    assert found.steepness == pytest.approx(TRUTH.steepness, rel=0.1)
    assert found.offset == pytest.approx(TRUTH.offset, rel=0.1)
    assert found.gain == pytest.approx(2.0)
    assert (found.num_people, found.num_pairs) == (3000, 6000)


def test_each_person_has_the_same_weight_however_many_pairs_there_are() -> None:
    improvement_P, labels_P, people = drawn(60)
    many = np.concatenate([np.arange(len(people)), np.repeat(np.flatnonzero(people == "p0"), 50)])
    once = calibrate(improvement_P, labels_P, improvement_P, people.tolist())
    often = calibrate(improvement_P[many], labels_P[many], improvement_P[many], people[many].tolist())
    assert often.steepness == pytest.approx(once.steepness, rel=1e-2)
    assert often.offset == pytest.approx(once.offset, rel=1e-2)


def test_perfectly_separated_pairs_are_not_answered_with_certainty() -> None:
    improvement_P = np.array([-5.0, 0.0, 5.0] * 10)
    found = calibrate(improvement_P, [2, 1, 0] * 10, improvement_P, [str(n) for n in range(30)])
    probability_P3 = found.probabilities(improvement_P)
    np.testing.assert_allclose(probability_P3.sum(axis=1), 1)
    assert probability_P3.max() <= 1 - found.share * min(found.rate / 2, 1 - found.rate)
    assert found.share == pytest.approx(1 / 32)


def test_predictions_that_say_nothing_end_near_the_base_rates() -> None:
    draws = np.random.default_rng(3)
    labels_P = draws.choice(3, size=4000, p=(0.2, 0.5, 0.3))
    people = [str(n // 2) for n in range(4000)]
    found = calibrate(draws.normal(size=4000), labels_P, np.zeros(4000), people)
    probability_P3 = found.probabilities(draws.normal(size=100))
    np.testing.assert_allclose(probability_P3, [[0.25, 0.5, 0.25]] * 100, atol=0.06)
    assert found.gain == 1.0


def test_probabilities_of_a_person_come_from_other_people() -> None:
    improvement_P, labels_P, people = drawn(40, seed=4)
    honest_P3 = cross_calibrated(improvement_P, labels_P, improvement_P, people.tolist(), seed=0)
    for person in ("p0", "p7"):
        own_P = people == person
        turned = labels_P.copy()
        turned[own_P] = (turned[own_P] + 1) % 3
        other_P3 = cross_calibrated(improvement_P, turned, improvement_P, people.tolist(), seed=0)
        np.testing.assert_array_equal(other_P3[own_P], honest_P3[own_P])
        assert not np.array_equal(other_P3[~own_P], honest_P3[~own_P])


def test_no_pair_is_refused() -> None:
    with pytest.raises(ValueError, match="no pair"):
        calibrate([], [], [], [])


def test_the_gain_of_a_noisy_test_is_that_of_the_true_changes() -> None:
    draws = np.random.default_rng(3)
    true_P = draws.normal(0, 4, 20_000)
    observed_P = true_P + draws.normal(0, np.sqrt(2) * 2.8, len(true_P))
    told_P = 0.5 * true_P + draws.normal(0, 1, len(true_P))
    labels_P = np.where(observed_P >= 2, 0, np.where(observed_P <= -2, 2, 1))
    people = [str(number) for number in range(len(true_P))]

    plain = calibrate(told_P, labels_P, observed_P, people)
    known = calibrate(told_P, labels_P, observed_P, people, change_noise=2 * 2.8**2)

    assert known.gain == pytest.approx(2.0, rel=0.05)
    assert plain.gain == pytest.approx(2.0 * (16 + 15.68) / 16, rel=0.05)
    # Probabilities are of what the test will show, and do not change.
    assert (known.steepness, known.offset) == (plain.steepness, plain.offset)
