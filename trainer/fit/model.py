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
    """

    def __init__(self, recipe: EncoderRecipe, *, in_channels: int) -> None:
        super().__init__()
        width = recipe.embedding_width
        self.encoder = build_encoder(recipe.name, in_channels=in_channels, embedding_width=width, norm=recipe.norm)
        self.projector = Projector(width, width, recipe.projection_width)
        self.score_head = ScoreHead(width)

    def forward(self, volumes_NCDHW: torch.Tensor, scores_BK: torch.Tensor, subjects_B: torch.Tensor) -> BatchOutput:
        """Outputs of a batch of B subjects with K scans each.

        Args:
            volumes_NCDHW: float in [0, 1], N = B * K, the scans of a subject side by side.
            scores_BK: raw scores, NaN where unknown.
            subjects_B: subjects as whole numbers.
        """
        return self.judge(self.encoder(volumes_NCDHW), scores_BK, subjects_B)

    def judge(self, embeddings_NE: torch.Tensor, scores_BK: torch.Tensor, subjects_B: torch.Tensor) -> BatchOutput:
        """The same from embeddings of all scans of the batch, wherever and in whatever parts they were computed."""
        shape = scores_BK.shape
        return BatchOutput(
            embeddings_BKE=embeddings_NE.reshape(*shape, -1),
            projections_BKP=self.projector(embeddings_NE).unflatten(0, shape),
            predicted_BK=self.score_head(embeddings_NE).unflatten(0, shape),
            scores_BK=scores_BK,
            subjects_B=subjects_B,
        )
