"""The loss is the weighted sum of the objective functions on what each can use, with chance levels beside it."""

import math

import numpy as np
import pytest
import torch

from trainer.objectives.losses.contrast import info_nce
from trainer.objectives.losses.learner import LearnerVariant, learner
from trainer.objectives.terms import BatchOutput, InfoNce, Learner, total

NAN = float("nan")
CONTRAST = InfoNce(weight=0.3, temperature=0.2)


def learner_term(variant: LearnerVariant = "regressed", weight: float = 1.0) -> Learner:
    return Learner(
        weight=weight,
        variant=variant,
        contrast_weight=0.7,
        margin=1.0,
        threshold=2.0,
        score_mean=22.0,
        score_sd=3.0,
        score_range=12.0,
    )


def output_of(scores_BK: list[list[float]], seed: int = 0) -> BatchOutput:
    draws = torch.Generator().manual_seed(seed)
    shape = (len(scores_BK), len(scores_BK[0]))
    projections = torch.randn(*shape, 4, generator=draws)
    return BatchOutput(
        embeddings_BKE=torch.randn(*shape, 6, generator=draws, requires_grad=True),
        projections_BKP=(projections / projections.norm(dim=-1, keepdim=True)).requires_grad_(),
        predicted_BK=torch.randn(*shape, generator=draws, requires_grad=True),
        scores_BK=torch.tensor(scores_BK),
        subjects_B=torch.arange(len(scores_BK)) + 10,
        days_BK=torch.zeros(shape),
        anchor_E=torch.zeros(6),
    )


SCORED = [[20.0, 17.0], [25.0, NAN], [NAN, NAN], [22.0, 22.0]]


def test_the_loss_is_the_weighted_sum_and_each_value_stands_unweighted_beside_it() -> None:
    output = output_of(SCORED)
    loss, values = total([learner_term(weight=2.0), CONTRAST], output)
    assert set(values) == {"learner", "info_nce"}
    torch.testing.assert_close(loss, 2.0 * values["learner"].loss + 0.3 * values["info_nce"].loss)
    torch.autograd.backward(loss)
    assert output.projections_BKP.grad is not None
    assert output.embeddings_BKE.grad is not None


def test_info_nce_gets_first_and_second_visits_and_subjects() -> None:
    output = output_of(SCORED)
    value = CONTRAST(output)
    assert value is not None
    first, second = output.projections_BKP.unbind(1)
    assert torch.equal(value.loss, info_nce(first, second, temperature=0.2, subject_ids=output.subjects_B))
    assert value.chance == pytest.approx(math.log(4))


@pytest.mark.parametrize("variant", ["mse", "contrastive", "weighted", "regressed"])
def test_learner_sees_the_scored_scans_only_with_their_own_subjects(variant: LearnerVariant) -> None:
    output = output_of(SCORED)
    value = learner_term(variant)(output)
    assert value is not None
    known = [(0, 0), (0, 1), (1, 0), (3, 0), (3, 1)]
    rows, columns = map(list, zip(*known, strict=True))
    wanted = learner(
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
    torch.testing.assert_close(value.loss, wanted)


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


def test_a_batch_that_no_objective_can_use_raises_and_says_so() -> None:
    with pytest.raises(ValueError, match="no objective can use this batch"):
        total([learner_term()], output_of([[NAN], [NAN]]))
