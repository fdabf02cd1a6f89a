"""Objectives of a batch of visits with several modalities: Joint CMC + CSS, and the end-to-end fusion beside it."""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from trainer.objectives.losses.multimodal import cross_modality, cross_subject
from trainer.objectives.terms import BatchOutput, Value


@dataclass(frozen=True, slots=True)
class CrossModality:
    """CMC between the modalities of each visit; chance is that of embeddings which are all alike."""

    weight: float
    temperature: float
    name: str = "cross_modality"

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when no visit has two modalities."""
        modalities_BME, present_BM = _modalities(output)
        count_B = present_BM.sum(dim=1)
        anchored_B = count_B[count_B > 1]
        if not len(anchored_B):
            return None
        # An anchor has count - 1 positives among all other embeddings of the batch; a visit has count anchors.
        chance_B = math.log(int(count_B.sum()) - 1) - (anchored_B - 1).double().log()
        chance = float((chance_B * anchored_B).sum() / anchored_B.sum())
        return Value(cross_modality(modalities_BME, present_BM, temperature=self.temperature), chance)


@dataclass(frozen=True, slots=True)
class CrossSubject:
    """CSS between visits of one class, the class being the score; chance is ln of the other visits."""

    weight: float
    temperature: float
    name: str = "cross_subject"

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when no two visits with a score share their class."""
        modalities_BME, present_BM = _modalities(output)
        labels_B = output.scores_BK[:, 0]
        usable_B = labels_B.isfinite() & present_BM.any(dim=1)
        labels_U = labels_B[usable_B]
        if len(torch.unique(labels_U)) == len(labels_U):
            return None
        loss = cross_subject(modalities_BME[usable_B], labels_U, present_BM[usable_B], temperature=self.temperature)
        return Value(loss, math.log(len(labels_U) - 1))


@dataclass(frozen=True, slots=True)
class FusionBce:
    """Binary cross-entropy of the fused logits; chance is ln 2.

    Attributes:
        positive: the score of the positive class.
    """

    weight: float
    positive: float
    name: str = "fusion_bce"

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when no visit has a score."""
        labels_B = output.scores_BK[:, 0]
        known_B = labels_B.isfinite()
        if not bool(known_B.any()):
            return None
        assert output.fused_B is not None
        targets_U = (labels_B[known_B] == self.positive).to(output.fused_B.dtype)
        return Value(F.binary_cross_entropy_with_logits(output.fused_B[known_B], targets_U), math.log(2.0))


def _modalities(output: BatchOutput) -> tuple[torch.Tensor, torch.Tensor]:
    # The recipe refuses these objectives where there is one modality.
    assert output.modalities_BME is not None
    assert output.present_BM is not None
    return output.modalities_BME, output.present_BM
