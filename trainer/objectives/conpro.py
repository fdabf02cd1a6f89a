"""ConPrO: normal against abnormal scans, then the worse of two abnormal ones (docs/methods/conpro.md)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import Field

from preprocess.errors import RunError
from trainer.objectives.base import Term, TrainingScores
from trainer.objectives.terms import BatchOutput, Objective, Value

if TYPE_CHECKING:
    import torch


class MarginContrast(Term):
    """`margin_contrast` on the projections of all pairs of a batch: alike are two normal or two abnormal scans.

    Chance is what an embedding gives that maps all scans to one point: margin x the share of pairs that are not alike.

    Attributes:
        margin: cosine distance, 0 to 2, beyond which unlike pairs no longer push.
        normal: score of a normal scan; all others are abnormal.
    """

    name: Literal["margin_contrast"] = "margin_contrast"
    margin: float = Field(default=2.0, gt=0)
    normal: float = 0.0
    needs_scores: ClassVar[bool] = True
    warns_at_chance: ClassVar[bool] = True
    trains_projection: ClassVar[bool] = True

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when it has no pair with two scores."""
        from trainer.objectives.losses.conpro import margin_contrast

        first_P, second_P, scores_N = _pairs(output)
        if not len(first_P):
            return None
        projections_NP = output.projections_BKP.flatten(0, 1)
        is_normal_N = scores_N == self.normal
        same_P = is_normal_N[first_P] == is_normal_N[second_P]
        loss = margin_contrast(projections_NP[first_P], projections_NP[second_P], same_P, margin=self.margin)
        return Value(loss, self.margin * float((~same_P).float().mean()))


class Preference(Term):
    """`preference` on the embeddings of all abnormal pairs of a batch with different scores.

    Attributes:
        beta: steepness; with 1 the loss cannot go below 0.127.
        normal: score of a normal scan.
        num_normals: training scans whose mean embedding is the anchor, made anew each epoch.
    """

    name: Literal["preference"] = "preference"
    beta: float = Field(default=1.0, gt=0)
    normal: float = 0.0
    num_normals: int = Field(default=32, ge=1)
    needs_scores: ClassVar[bool] = True

    def anchor_scans(self, scores_N: np.ndarray, *, seed: int) -> np.ndarray | None:
        """Normal training scans, the same ones in each epoch."""
        normal = np.flatnonzero(scores_N == self.normal)
        if not len(normal):
            raise RunError(
                f"no training scan has the score {self.normal:g}, which preference calls normal; bring normal "
                "scans, or set the term's `normal`"
            )
        return np.sort(np.random.default_rng([seed, 0xA2C]).permutation(normal)[: self.num_normals])

    def fitted(self, scores: TrainingScores) -> Objective:
        """With the direction of the score."""
        return FittedPreference(**self.model_dump(), higher_is_better=scores.outcome.higher_is_better)


class FittedPreference(Preference):
    """Preference between two abnormal scans: the worse lies farther from the normal anchor; chance is ln 2.

    Attributes:
        higher_is_better: whether a higher score is the healthier one.
    """

    higher_is_better: bool

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when it has no two abnormal scans of different severity."""
        from trainer.objectives.losses.conpro import preference

        first_P, second_P, scores_N = _pairs(output)
        first_score_P, second_score_P = scores_N[first_P], scores_N[second_P]
        usable_P = (first_score_P != self.normal) & (second_score_P != self.normal) & (first_score_P != second_score_P)
        if not bool(usable_P.any()):
            return None
        first_is_higher_P = (first_score_P > second_score_P)[usable_P]
        embeddings_NE = output.embeddings_BKE.flatten(0, 1)
        loss = preference(
            embeddings_NE[first_P[usable_P]],
            embeddings_NE[second_P[usable_P]],
            output.anchor_E,
            ~first_is_higher_P if self.higher_is_better else first_is_higher_P,
            beta=self.beta,
        )
        return Value(loss, math.log(2.0))


def _pairs(output: BatchOutput) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Both indices of every pair of scored scans of different subjects, and all scores."""
    import torch

    scores_N, subjects_N = output.scores_BK.reshape(-1), output.scan_subjects_N
    first_P, second_P = torch.triu_indices(len(scores_N), len(scores_N), offset=1, device=scores_N.device).unbind()
    usable_P = scores_N.isfinite()[first_P] & scores_N.isfinite()[second_P]
    usable_P &= subjects_N[first_P] != subjects_N[second_P]
    return first_P[usable_P], second_P[usable_P], scores_N


TERMS = (MarginContrast, Preference)
