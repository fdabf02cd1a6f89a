"""Joint CMC + CSS on visits with several modalities, and the end-to-end fusion beside it (docs/methods/joint.md)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from preprocess.errors import UsageError
from trainer.objectives.base import Term, TrainingScores
from trainer.objectives.terms import BatchOutput, Objective, Value

if TYPE_CHECKING:
    import torch


class CrossModality(Term):
    """`cross_modality` (CMC) on the embeddings of a visit's modalities; chance: embeddings that are all alike."""

    name: Literal["cross_modality"] = "cross_modality"
    temperature: float = Field(default=0.7, gt=0)
    needs_modalities: ClassVar[bool] = True
    compares_modalities: ClassVar[bool] = True

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when no visit has two modalities."""
        from trainer.objectives.losses.multimodal import cross_modality

        modalities_BME, present_BM = _modalities(output)
        count_B = present_BM.sum(dim=1)
        anchored_B = count_B[count_B > 1]
        if not len(anchored_B):
            return None
        # An anchor has count - 1 positives among all other embeddings of the batch; a visit has count anchors.
        chance_B = math.log(int(count_B.sum()) - 1) - (anchored_B - 1).double().log()
        chance = float((chance_B * anchored_B).sum() / anchored_B.sum())
        return Value(cross_modality(modalities_BME, present_BM, temperature=self.temperature), chance)


class CrossSubject(Term):
    """`cross_subject` (CSS) on a visit's joined modalities, the score being the class; chance: ln of other visits."""

    name: Literal["cross_subject"] = "cross_subject"
    temperature: float = Field(default=0.7, gt=0)
    needs_scores: ClassVar[bool] = True
    needs_modalities: ClassVar[bool] = True

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when no two visits with a score share their class."""
        import torch

        from trainer.objectives.losses.multimodal import cross_subject

        modalities_BME, present_BM = _modalities(output)
        labels_B = output.scores_BK[:, 0]
        usable_B = labels_B.isfinite() & present_BM.any(dim=1)
        labels_U = labels_B[usable_B]
        if len(torch.unique(labels_U)) == len(labels_U):
            return None
        loss = cross_subject(modalities_BME[usable_B], labels_U, present_BM[usable_B], temperature=self.temperature)
        return Value(loss, math.log(len(labels_U) - 1))


class FusionBce(Term):
    """Binary cross-entropy of the linear fusion head, end to end; needs two classes of scores."""

    name: Literal["fusion_bce"] = "fusion_bce"
    needs_scores: ClassVar[bool] = True
    needs_modalities: ClassVar[bool] = True
    trains_fusion: ClassVar[bool] = True

    def fitted(self, scores: TrainingScores) -> Objective:
        """With the score of the positive class.

        Raises:
            UsageError: the training scores are not of two values.
        """
        if scores.classes is None:
            raise UsageError(
                f"objective fusion_bce tells two classes apart and the training subjects' {scores.outcome.name} has "
                "more than two values; choose an outcome of two, or cross_subject alone"
            )
        return FittedFusionBce(**self.model_dump(), positive=scores.classes[1])


class FittedFusionBce(FusionBce):
    """Binary cross-entropy of the fused logits; chance is ln 2.

    Attributes:
        positive: the score of the positive class.
    """

    positive: float

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when no visit has a score."""
        from torch.nn import functional as F  # noqa: N812 - torch's own habit

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


TERMS = (CrossModality, CrossSubject, FusionBce)
