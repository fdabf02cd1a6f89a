"""A term asks for nothing unless it says so, and is refused before a run where the training scores cannot teach it."""

from typing import ClassVar, Literal

import numpy as np
import pytest
import torch

from preprocess.errors import UsageError
from preprocess.manifest import OutcomeSpec
from tests.support.outputs import output_of
from trainer.objectives.base import ScoreStatistics, Term, TrainingScores
from trainer.objectives.terms import BatchOutput, Value, total

GRADE = OutcomeSpec(name="grade", higher_is_better=False, threshold=1.0)


class Shrink(Term):
    """A whole objective: the squared length of the embeddings."""

    name: Literal["shrink"] = "shrink"

    def __call__(self, output: BatchOutput) -> Value | None:
        return Value(output.embeddings_BKE.square().mean(), chance=0.0)


class Scored(Shrink):
    """The same for scans with a score."""

    needs_scores: ClassVar[bool] = True


def test_a_class_with_a_name_and_a_value_is_an_objective_that_asks_for_nothing() -> None:
    term = Shrink(weight=3.0)
    objective = term.objective(TrainingScores(GRADE))
    assert objective is term
    assert objective.anchor_scans(np.zeros(4), seed=0) is None
    assert not objective.warns_at_chance
    output = output_of([[1.0], [2.0]])
    loss, values = total([objective], output)
    torch.testing.assert_close(values["shrink"].loss, output.embeddings_BKE.square().mean())
    torch.testing.assert_close(loss, 3.0 * values["shrink"].loss)


def test_a_term_that_needs_scores_is_refused_where_no_two_differ() -> None:
    with pytest.raises(UsageError, match=r"objective shrink needs scores .* no two different grade scores; .*clinimcl"):
        Scored().objective(TrainingScores(GRADE))
    assert Scored().objective(TrainingScores(GRADE, ScoreStatistics(1.0, 0.5, 1.0))) == Scored()


def test_a_term_without_a_value_says_so_at_its_first_batch() -> None:
    with pytest.raises(NotImplementedError):
        Term(name="empty")(output_of([[1.0]]))


def test_statistics_are_plain_values_for_json() -> None:
    assert ScoreStatistics(1.0, 0.5, 2.0).to_dict() == {"mean": 1.0, "sd": 0.5, "range": 2.0}
