"""The loss is the weighted sum of the objectives on what each can use."""

import pytest
import torch

from tests.support.outputs import output_of
from trainer.objectives.base import ScoreStatistics, TrainingScores
from trainer.objectives.clinimcl import InfoNce
from trainer.objectives.learner import Learner
from trainer.objectives.terms import total
from trainer.recipe import TrainRecipe

NAN = float("nan")
SCORES = TrainingScores(TrainRecipe(name="any").outcome, ScoreStatistics(22.0, 3.0, 12.0))
LEARNER = Learner(weight=2.0, contrast_weight=0.7).objective(SCORES)
CONTRAST = InfoNce(weight=0.3, temperature=0.2)


def test_the_loss_is_the_weighted_sum_and_each_value_stands_unweighted_beside_it() -> None:
    output = output_of([[20.0, 17.0], [25.0, NAN], [NAN, NAN], [22.0, 22.0]])
    loss, values = total([LEARNER, CONTRAST], output)
    assert set(values) == {"learner", "info_nce"}
    torch.testing.assert_close(loss, 2.0 * values["learner"].loss + 0.3 * values["info_nce"].loss)
    torch.autograd.backward(loss)
    assert output.projections_BKP.grad is not None
    assert output.embeddings_BKE.grad is not None


def test_a_batch_that_no_objective_can_use_raises_and_says_so() -> None:
    with pytest.raises(ValueError, match="no objective can use this batch"):
        total([LEARNER], output_of([[NAN], [NAN]]))
