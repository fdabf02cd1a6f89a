"""The change objective hands its function predicted scores and the training subjects' standard deviation."""

import pytest
import torch

from preprocess.errors import UsageError
from preprocess.manifest import OutcomeSpec
from tests.support.cohorts import tiny_recipe
from tests.support.outputs import output_of
from trainer.contradictions import refuse_contradictions
from trainer.objectives.base import ScoreStatistics, TrainingScores
from trainer.objectives.change import PairChange
from trainer.objectives.losses import pair_change

NAN = float("nan")
SCORES = TrainingScores(
    OutcomeSpec(name="mmse", higher_is_better=True, threshold=2.0), ScoreStatistics(mean=25.0, sd=4.0, range=12.0)
)


def test_value_is_that_of_the_function_and_chance_that_of_no_change() -> None:
    output = output_of([[20.0, 26.0], [NAN, 28.0], [30.0, 30.0]])
    value = PairChange(weight=3.0).objective(SCORES)(output)
    assert value is not None
    torch.testing.assert_close(value.loss, pair_change(output.predicted_BK, output.scores_BK, score_sd=4.0))
    assert value.chance == pytest.approx(((6 / 4) ** 2 + 0.0) / 2)


def test_nothing_can_be_used_where_nobody_has_two_scores() -> None:
    assert PairChange().objective(SCORES)(output_of([[20.0, NAN], [NAN, 28.0]])) is None


def test_training_scores_that_do_not_differ_are_refused() -> None:
    with pytest.raises(UsageError, match="no two different mmse scores"):
        PairChange().objective(TrainingScores(SCORES.outcome))


def test_single_scans_are_refused_with_the_remedy() -> None:
    recipe = tiny_recipe(objective=[{"name": "pair_change"}], data={"sampling": "scans"})
    with pytest.raises(UsageError, match=r"data\.sampling is 'scans'; set data\.sampling = 'pairs'"):
        refuse_contradictions(recipe, where="mine.toml")
