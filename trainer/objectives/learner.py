"""LEARNER: a health score learned between patients, in level and in distance (docs/methods/learner.md)."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.objectives.base import Term, TrainingScores
from trainer.objectives.terms import BatchOutput, Objective, Value


class Learner(Term):
    """`learner` on embeddings and predicted scores; score statistics come from the training subjects.

    Attributes:
        variant: `mse`, `contrastive`, `weighted` or `regressed`.
        contrast_weight: weight of the contrastive part within the term.
        margin: margin of the contrastive part.
        threshold: largest score difference that counts as alike; the outcome's threshold when not given.
    """

    name: Literal["learner"] = "learner"
    variant: Literal["mse", "contrastive", "weighted", "regressed"] = "regressed"
    contrast_weight: float = Field(default=1.0, gt=0)
    margin: float = Field(default=1.0, gt=0)
    threshold: float | None = Field(default=None, gt=0)
    needs_scores: ClassVar[bool] = True
    trains_score_head: ClassVar[bool] = True

    def fitted(self, scores: TrainingScores) -> Objective:
        """With the statistics of the training scores, and the outcome's threshold where it has none of its own."""
        assert scores.statistics is not None
        settings = self.model_dump(exclude={"threshold"})
        return FittedLearner(
            **settings,
            threshold=scores.outcome.threshold if self.threshold is None else self.threshold,
            score_mean=scores.statistics.mean,
            score_sd=scores.statistics.sd,
            score_range=scores.statistics.range,
        )


class FittedLearner(Learner):
    """LEARNER on all scans of the batch whose score is known.

    Chance is that of the regression part alone, for a model that predicts the training mean: the variance of the
    batch's standardised scores around 0. With a contrastive part the loss may therefore stand above it.

    Attributes:
        threshold: largest score difference that counts as alike.
        score_mean: mean of the training subjects' raw scores.
        score_sd: standard deviation likewise.
        score_range: largest minus smallest likewise.
    """

    threshold: float
    score_mean: float
    score_sd: float
    score_range: float

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when fewer than two subjects have a score."""
        import torch

        from trainer.objectives.losses.learner import learner

        scores_N = output.scores_BK.reshape(-1)
        subjects_N = output.scan_subjects_N
        known_N = scores_N.isfinite()
        if len(torch.unique(subjects_N[known_N])) < 2:
            return None
        loss = learner(
            output.embeddings_BKE.flatten(0, 1)[known_N],
            output.predicted_BK.reshape(-1)[known_N],
            scores_N[known_N],
            subjects_N[known_N],
            variant=self.variant,
            score_mean=self.score_mean,
            score_sd=self.score_sd,
            score_range=self.score_range,
            threshold=self.threshold,
            margin=self.margin,
            weight=self.contrast_weight,
        )
        standardised_N = (scores_N[known_N] - self.score_mean) / self.score_sd
        return Value(loss, float(standardised_N.square().mean()))


TERMS = (Learner,)
