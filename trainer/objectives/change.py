"""The difference between two scans of one person, predicted as the change of their score (docs/methods/change.md)."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.objectives.base import Term, TrainingScores
from trainer.objectives.terms import BatchOutput, Objective, Value


class PairChange(Term):
    """`pair_change` on the score head's predictions; the standard deviation comes from the training subjects."""

    name: Literal["pair_change"] = "pair_change"
    needs_scores: ClassVar[bool] = True
    needs_visits: ClassVar[bool] = True
    trains_score_head: ClassVar[bool] = True

    def fitted(self, scores: TrainingScores) -> Objective:
        """With the standard deviation of the training scores."""
        assert scores.statistics is not None
        return FittedPairChange(**self.model_dump(), score_sd=scores.statistics.sd)


class FittedPairChange(PairChange):
    """The squared error on every two scans of a subject whose scores are known.

    Attributes:
        score_sd: standard deviation of the training subjects' raw scores.
    """

    score_sd: float = Field(gt=0)

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch, and that of a model which predicts no change; None when no subject has two scores."""
        import torch

        from trainer.objectives.losses.change import pair_change

        if int((output.scores_BK.isfinite().sum(dim=1) > 1).sum()) == 0:
            return None
        loss = pair_change(output.predicted_BK, output.scores_BK, score_sd=self.score_sd)
        no_change_BK = torch.zeros_like(output.scores_BK)
        return Value(loss, float(pair_change(no_change_BK, output.scores_BK, score_sd=self.score_sd)))


TERMS = (PairChange,)
