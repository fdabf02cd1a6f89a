"""LEARNER hands its function the scans with a score, and what the training scores decide."""

import numpy as np
import pytest
import torch

from tests.support.outputs import output_of
from trainer.objectives.base import ScoreStatistics, TrainingScores
from trainer.objectives.clinimcl import InfoNce
from trainer.objectives.learner import Learner
from trainer.objectives.losses.learner import LearnerVariant, learner
from trainer.objectives.terms import Objective, total
from trainer.recipe import TrainRecipe

NAN = float("nan")
OUTCOME = TrainRecipe(name="any").outcome
CONTRAST = InfoNce(weight=0.3, temperature=0.2)
SCORED = [[20.0, 17.0], [25.0, NAN], [NAN, NAN], [22.0, 22.0]]


def learner_term(variant: LearnerVariant = "regressed", weight: float = 1.0) -> Objective:
    scores = TrainingScores(OUTCOME, ScoreStatistics(22.0, 3.0, 12.0))
    return Learner(weight=weight, variant=variant, contrast_weight=0.7).objective(scores)


@pytest.mark.parametrize("variant", ["mse", "contrastive", "weighted", "regressed"])
def test_learner_sees_the_scored_scans_only_with_their_own_subjects(variant: LearnerVariant) -> None:
    output = output_of(SCORED)
    value = learner_term(variant)(output)
    assert value is not None
    known = [(0, 0), (0, 1), (1, 0), (3, 0), (3, 1)]
    rows, columns = map(list, zip(*known, strict=True))
    expected = learner(
        output.embeddings_BKE[rows, columns],
        output.predicted_BK[rows, columns],
        torch.tensor([20.0, 17.0, 25.0, 22.0, 22.0]),
        torch.tensor([10, 10, 11, 13, 13]),
        variant=variant,
        score_mean=22.0,
        score_sd=3.0,
        score_range=12.0,
        threshold=2.0,
        margin=1.0,
        weight=0.7,
    )
    torch.testing.assert_close(value.loss, expected)


def test_learners_chance_is_the_squared_error_of_predicting_the_training_mean() -> None:
    value = learner_term("mse")(output_of(SCORED))
    assert value is not None
    scores = np.array([20.0, 17.0, 25.0, 22.0, 22.0])
    assert value.chance == pytest.approx((((scores - 22.0) / 3.0) ** 2).mean())


@pytest.mark.parametrize("scores", [[[NAN, NAN], [NAN, NAN]], [[20.0, 21.0], [NAN, NAN]]])
def test_a_batch_with_scores_of_fewer_than_two_subjects_leaves_learner_out(scores: list[list[float]]) -> None:
    output = output_of(scores)
    assert learner_term()(output) is None
    loss, values = total([learner_term(), CONTRAST], output)
    assert set(values) == {"info_nce"}
    torch.testing.assert_close(loss, 0.3 * values["info_nce"].loss)
