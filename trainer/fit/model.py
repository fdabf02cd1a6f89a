"""The networks of a run in one module: encoder, projection and score head, and what they make of a batch."""

import torch
from torch import nn

from trainer.encoders import Projector, ScoreHead, build_encoder
from trainer.objectives.terms import BatchOutput
from trainer.recipe import EncoderRecipe


class TrainingModel(nn.Module):
    """Encoder with the training-only heads.

    Args:
        recipe: names and widths.
        in_channels: C of the volumes.

    Attributes:
        anchor_E: mean embedding of normal scans, for objectives that ask for it; part of every checkpoint.
    """

    anchor_E: torch.Tensor

    def __init__(self, recipe: EncoderRecipe, *, in_channels: int) -> None:
        super().__init__()
        width = recipe.embedding_width
        self.encoder = build_encoder(recipe.name, in_channels=in_channels, embedding_width=width, norm=recipe.norm)
        self.projector = Projector(width, width, recipe.projection_width)
        self.score_head = ScoreHead(width)
        self.register_buffer("anchor_E", torch.zeros(width))

    def forward(
        self,
        scans_N: torch.Tensor,
        scores_BK: torch.Tensor,
        subjects_B: torch.Tensor,
        days_BK: torch.Tensor | None = None,
    ) -> BatchOutput:
        """Outputs of a batch of B subjects with K scans (or views) each.

        Args:
            scans_N: float in [0, 1], N = B * K, the scans of a subject side by side; further axes as the encoder's.
            scores_BK: raw scores, NaN where unknown.
            subjects_B: subjects as whole numbers.
            days_BK: days since the subject's first visit; unknown when not given.
        """
        return self.judge(self.encoder(scans_N), scores_BK, subjects_B, days_BK)

    def judge(
        self,
        embeddings_NE: torch.Tensor,
        scores_BK: torch.Tensor,
        subjects_B: torch.Tensor,
        days_BK: torch.Tensor | None = None,
    ) -> BatchOutput:
        """The same from embeddings of all scans of the batch, wherever and in whatever parts they were computed."""
        shape = scores_BK.shape
        return BatchOutput(
            embeddings_BKE=embeddings_NE.reshape(*shape, -1),
            projections_BKP=self.projector(embeddings_NE).unflatten(0, shape),
            predicted_BK=self.score_head(embeddings_NE).unflatten(0, shape),
            scores_BK=scores_BK,
            subjects_B=subjects_B,
            days_BK=torch.full_like(scores_BK, torch.nan) if days_BK is None else days_BK,
            anchor_E=self.anchor_E,
        )
