"""The loss of a batch as the recipe's sum of objectives, each with its value and its chance level beside it.

Loads without torch, as do the files of the methods, which recipes are checked with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch


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
        anchor_E: mean embedding of normal scans; zeros where no objective needs it.
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
    """One weighted part of the loss, and what it needs of the loop that trains with it; `Term` has the defaults."""

    @property
    def name(self) -> str:
        """What the history calls it."""

    @property
    def weight(self) -> float:
        """Its factor in the loss."""

    @property
    def warns_at_chance(self) -> bool:
        """Whether a mean over an epoch at the chance level is worth a warning: collapsed, or not begun to learn."""

    def anchor_scans(self, scores_N: np.ndarray, *, seed: int) -> np.ndarray | None:
        """Training scans whose mean embedding is the model's anchor, made anew at the start of each epoch.

        Args:
            scores_N: (N,) scores of the training scans, NaN where unknown.
            seed: the run's seed, for objectives that draw their scans.

        Returns:
            Their indices; None for an objective without an anchor.

        Raises:
            RunError: no training scan can be one.
        """

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when nothing in it can be used."""


def total(objectives: Sequence[Objective], output: BatchOutput) -> tuple[torch.Tensor, dict[str, Value]]:
    """The weighted sum, and each objective's own value by name.

    Raises:
        ValueError: no objective finds anything to use in the batch.
    """
    import torch

    values = {objective.name: (objective.weight, objective(output)) for objective in objectives}
    used = {name: (weight, value) for name, (weight, value) in values.items() if value is not None}
    if not used:
        raise ValueError("no objective can use this batch: no scores are known in it")
    loss = torch.stack([weight * value.loss for weight, value in used.values()]).sum()
    return loss, {name: value for name, (_, value) in used.items()}
