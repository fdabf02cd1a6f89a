"""Supervised contrast: scans of one label attract, the label made of the score (docs/methods/baselines.md)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from trainer.objectives.base import Term
from trainer.objectives.terms import BatchOutput, Value

if TYPE_CHECKING:
    import torch


def binned(scores: torch.Tensor, bin_width: float) -> torch.Tensor:
    """Scores rounded to multiples of `bin_width`; as they are where it is 0."""
    return scores if bin_width == 0 else (scores / bin_width).round() * bin_width


class SupCon(Term):
    """`sup_con` on the projections of all views; scans of one label attract, with `normal` all abnormal ones do.

    Attributes:
        temperature: what similarities are divided by.
        bin_width: scores in one bin of this width share a label; 0 where only equal scores do.
        normal: score of a normal scan; given, there are two labels, normal and not.
    """

    name: Literal["sup_con"] = "sup_con"
    temperature: float = Field(default=0.1, gt=0)
    bin_width: float = Field(default=0.0, ge=0)
    normal: float | None = None
    needs_scores: ClassVar[bool] = True
    trains_projection: ClassVar[bool] = True

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when no two of its views share a label."""
        import torch

        from trainer.objectives.losses.contrast import sup_con

        known_B = output.scores_BK[:, 0].isfinite()
        scores_B = output.scores_BK[known_B, 0]
        labels_B = binned(scores_B, self.bin_width) if self.normal is None else (scores_B != self.normal).long()
        views_BVP = output.projections_BKP[known_B]
        num_views = views_BVP.shape[0] * views_BVP.shape[1]
        if num_views < 2 or (views_BVP.shape[1] == 1 and len(torch.unique(labels_B)) == len(labels_B)):
            return None
        return Value(sup_con(views_BVP, labels_B, temperature=self.temperature), math.log(num_views - 1))


TERMS = (SupCon,)
