"""The loss of a batch as the recipe's sum of objectives, each with its value and its chance level beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from trainer.objectives.losses.contrast import info_nce, info_nce_chance
from trainer.objectives.losses.learner import LearnerVariant, learner


@dataclass(frozen=True, slots=True)
class BatchOutput:
    """What the networks make of a batch of B subjects with K scans each.

    Attributes:
        embeddings_BKE: raw embeddings.
        projections_BKP: unit rows.
        predicted_BK: predicted standardised scores.
        scores_BK: raw scores, NaN where unknown.
        subjects_B: subjects as whole numbers.
        days_BK: days since the subject's first visit, NaN where unknown.
        anchor_E: mean embedding of normal scans; zeros where no objective asks for it.
        modalities_BME: raw embeddings of each modality, absent ones zero; None for the scans of one modality.
        present_BM: which subject has which modality; None likewise.
        fused_B: logits of the class from all modalities; None likewise.
    """

    embeddings_BKE: torch.Tensor
    projections_BKP: torch.Tensor
    predicted_BK: torch.Tensor
    scores_BK: torch.Tensor
    subjects_B: torch.Tensor
    days_BK: torch.Tensor
    anchor_E: torch.Tensor
    modalities_BME: torch.Tensor | None = None
    present_BM: torch.Tensor | None = None
    fused_B: torch.Tensor | None = None

    @property
    def scan_subjects_N(self) -> torch.Tensor:
        """Subject of each scan, in the order of the flattened batch."""
        return self.subjects_B.repeat_interleave(self.scores_BK.shape[1])


@dataclass(frozen=True, slots=True)
class Value:
    """One objective's value on a batch, and what knowing nothing would give.

    Attributes:
        loss: scalar with a gradient.
        chance: value of an uninformed model on this batch; 0 where none is known.
    """

    loss: torch.Tensor
    chance: float


class Objective(Protocol):
    """One weighted part of the loss."""

    @property
    def name(self) -> str:
        """What the history calls it."""

    @property
    def weight(self) -> float:
        """Its factor in the loss."""

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when nothing in it can be used."""


@dataclass(frozen=True, slots=True)
class InfoNce:
    """InfoNCE between the first and the second visit; chance is ln B."""

    weight: float
    temperature: float
    name: str = "info_nce"

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch of pairs."""
        loss = info_nce(
            output.projections_BKP[:, 0],
            output.projections_BKP[:, 1],
            temperature=self.temperature,
            subject_ids=output.subjects_B,
        )
        return Value(loss, info_nce_chance(len(output.subjects_B)))


@dataclass(frozen=True, slots=True)
class Learner:
    """LEARNER on all scans of the batch whose score is known.

    Chance is that of the regression part alone, for a model that predicts the training mean: the variance of the
    batch's standardised scores around 0. With a contrastive part the loss may therefore stand above it.
    """

    weight: float
    variant: LearnerVariant
    contrast_weight: float
    margin: float
    threshold: float
    score_mean: float
    score_sd: float
    score_range: float
    name: str = "learner"

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when fewer than two subjects have a score."""
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


def total(objectives: Sequence[Objective], output: BatchOutput) -> tuple[torch.Tensor, dict[str, Value]]:
    """The weighted sum, and each objective's own value by name.

    Raises:
        ValueError: no objective finds anything to use in the batch.
    """
    values = {objective.name: (objective.weight, objective(output)) for objective in objectives}
    used = {name: (weight, value) for name, (weight, value) in values.items() if value is not None}
    if not used:
        raise ValueError("no objective can use this batch: no scores are known in it")
    loss = torch.stack([weight * value.loss for weight, value in used.values()]).sum()
    return loss, {name: value for name, (_, value) in used.items()}
