"""Directions are score heads in points; the head is calibrated on pairs of unseen people, or there is none."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from preprocess.manifest import OutcomeSpec
from tests.support.cohorts import tiny_recipe
from trainer.encoders import ScoreHead
from trainer.encoders.linear_score import LinearScore
from trainer.fit.change_head import UnseenPairs, blended_head, fit_on_unseen, mean_direction, score_direction
from trainer.objectives.base import ScoreStatistics

STATISTICS = ScoreStatistics(mean=25.0, sd=4.0, range=12.0)
OUTCOME = tiny_recipe().outcome
EMBEDDINGS = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)


def random_head(seed: int, width: int = 5) -> ScoreHead:
    torch.manual_seed(seed)
    return ScoreHead(width)


@torch.inference_mode()
def test_a_direction_answers_what_the_score_head_does_in_points() -> None:
    head = random_head(0)
    direction = score_direction(head.state_dict(), STATISTICS, OUTCOME)
    wanted = head(torch.from_numpy(EMBEDDINGS)).numpy() * 4.0 + 25.0
    np.testing.assert_allclose(direction.scores(EMBEDDINGS), wanted, atol=1e-5)
    again = direction.score_head(STATISTICS)
    np.testing.assert_allclose(again(torch.from_numpy(EMBEDDINGS)).numpy() * 4.0 + 25.0, wanted, atol=1e-5)
    lower = OutcomeSpec(name="cdr", higher_is_better=False, threshold=0.5)
    assert (direction.sign, score_direction(head.state_dict(), STATISTICS, lower).sign) == (1, -1)


def test_the_mean_of_directions_takes_embeddings_side_by_side() -> None:
    each = [score_direction(random_head(seed).state_dict(), STATISTICS, OUTCOME) for seed in (1, 2)]
    wanted = np.mean([direction.scores(EMBEDDINGS) for direction in each], axis=0)
    np.testing.assert_allclose(mean_direction(each).scores(np.hstack([EMBEDDINGS, EMBEDDINGS])), wanted, atol=1e-5)


@torch.inference_mode()
def test_a_blended_head_answers_the_mean_of_both_scores_or_the_networks_alone() -> None:
    head, linear = random_head(3), LinearScore(2, in_channels=1)
    network = head(torch.from_numpy(EMBEDDINGS))
    both = torch.from_numpy(np.hstack([EMBEDDINGS, np.full((7, 1), 1.5, dtype=np.float32)]))
    torch.testing.assert_close(blended_head(head, linear)(both), network)  # nothing could be fitted
    linear.weight_F.fill_(0.1)
    torch.testing.assert_close(blended_head(head, linear)(both), (network + 1.5) / 2)


def unseen(num_people: int, noise: float) -> UnseenPairs:
    draws = np.random.default_rng(1)
    true_P = draws.choice([-4.0, 0.0, 4.0], size=num_people)
    return UnseenPairs(
        improvements_P=0.5 * true_P + noise * draws.normal(size=num_people),
        true_P=true_P,
        labels_P=np.where(true_P > 2, 0, np.where(true_P < -2, 2, 1)),
        people_P=tuple(str(number) for number in range(num_people)),
        repeats_Q=0.3 * draws.normal(size=40),
        other_scanner_P=np.arange(num_people) % 3 == 0,
    )


def test_the_head_answers_in_the_truths_own_measure_and_counts_the_noise() -> None:
    pairs = unseen(60, noise=0.2)
    direction = score_direction(random_head(0).state_dict(), STATISTICS, OUTCOME)
    found = fit_on_unseen([pairs], direction, seed=0)
    assert found is not None
    change = found.summary().change
    assert change is not None
    assert change.gain == pytest.approx(2.0, rel=0.1)  # half of the change was predicted
    assert change.error_sd == pytest.approx(0.4, rel=0.3)
    assert np.quantile(change.noise_changes, 0.95) == pytest.approx(2 * 0.3 * 1.96, rel=0.35)
    error_P = np.abs(change.gain * pairs.improvements_P - pairs.true_P)
    np.testing.assert_allclose(change.other_scanner_errors, np.sort(error_P[::3]))
    assert change.log_loss < 0.2 < 0.9 < change.base_rate_log_loss
    assert change.base_rates == pytest.approx([np.mean(pairs.labels_P == label) for label in range(3)])
    difference = torch.from_numpy(EMBEDDINGS)
    points = found.head.improvement(difference).detach().numpy()
    np.testing.assert_allclose(points, direction.scores(EMBEDDINGS) - direction.bias, atol=1e-5)


def test_predictions_that_say_nothing_do_not_beat_the_base_rates() -> None:
    pairs = unseen(60, noise=0.2)
    shuffled = replace(pairs, improvements_P=np.random.default_rng(2).permutation(pairs.improvements_P))
    found = fit_on_unseen([shuffled], score_direction(random_head(0).state_dict(), STATISTICS, OUTCOME), seed=0)
    assert found is not None
    assert found.log_loss > found.base_rate_log_loss - 0.05


@pytest.mark.parametrize(("num_people", "is_fitted"), [(9, False), (10, True)])
def test_ten_people_are_needed(num_people: int, is_fitted: bool) -> None:
    direction = score_direction(random_head(0).state_dict(), STATISTICS, OUTCOME)
    assert (fit_on_unseen([unseen(num_people, noise=0.2)], direction, seed=0) is not None) is is_fitted
