"""ConPrO's two objectives on the pairs of a batch: normal against abnormal, and the worse of two abnormal scans."""

import math
from dataclasses import dataclass

import torch

from trainer.objectives.losses.conpro import margin_contrast, preference
from trainer.objectives.terms import BatchOutput, Value


@dataclass(frozen=True, slots=True)
class MarginContrast:
    """Contrast over all pairs of scans of different subjects; alike are two normal or two abnormal ones.

    Chance is what an embedding gives that maps all scans to one point: margin x the share of pairs that are not alike.
    """

    weight: float
    margin: float
    normal: float
    name: str = "margin_contrast"

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when it has no pair with two scores."""
        first_P, second_P, scores_N = _pairs(output)
        if not len(first_P):
            return None
        projections_NP = output.projections_BKP.flatten(0, 1)
        is_normal_N = scores_N == self.normal
        same_P = is_normal_N[first_P] == is_normal_N[second_P]
        loss = margin_contrast(projections_NP[first_P], projections_NP[second_P], same_P, margin=self.margin)
        return Value(loss, self.margin * float((~same_P).float().mean()))


@dataclass(frozen=True, slots=True)
class Preference:
    """Of two abnormal scans the worse lies farther from the normal anchor; chance is ln 2.

    Attributes:
        higher_is_better: of the score.
        num_normals: scans behind the anchor.
    """

    weight: float
    beta: float
    normal: float
    num_normals: int
    higher_is_better: bool
    name: str = "preference"

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when it has no two abnormal scans of different severity."""
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
    """Both places of every pair of scored scans of different subjects, and all scores."""
    scores_N, subjects_N = output.scores_BK.reshape(-1), output.scan_subjects_N
    first_P, second_P = torch.triu_indices(len(scores_N), len(scores_N), offset=1, device=scores_N.device).unbind()
    usable_P = scores_N.isfinite()[first_P] & scores_N.isfinite()[second_P]
    usable_P &= subjects_N[first_P] != subjects_N[second_P]
    return first_P[usable_P], second_P[usable_P], scores_N
