"""Rank-N-Contrast: nearer in score is nearer in the embedding (docs/methods/order.md)."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.objectives.base import Term
from trainer.objectives.terms import BatchOutput, Value


class RankNContrast(Term):
    """`rank_n_contrast` on the embeddings of all views with a score."""

    name: Literal["rank_n_contrast"] = "rank_n_contrast"
    temperature: float = Field(default=2.0, gt=0)
    needs_scores: ClassVar[bool] = True

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when fewer than three of its views have a score."""
        from trainer.objectives.losses.order import rank_n_contrast

        scores_N = output.scores_BK.reshape(-1)
        known_N = scores_N.isfinite()
        if int(known_N.sum()) < 3:
            return None
        features_NE = output.embeddings_BKE.flatten(0, 1)[known_N]
        return Value(rank_n_contrast(features_NE, scores_N[known_N], temperature=self.temperature), 0.0)


TERMS = (RankNContrast,)
