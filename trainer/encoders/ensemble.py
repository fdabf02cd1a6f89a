"""Several encoders of one kind as one: the embedding of a scan is those of all members side by side."""

from collections.abc import Sequence

import torch
from torch import nn

from trainer.encoders.base import Embedder, ScanEmbedder


class EnsembleEncoder(ScanEmbedder):
    """Members that were trained apart; a linear head on the joined embedding can take the mean of their answers.

        encoder = EnsembleEncoder([build_encoder("fast", in_channels=1, embedding_width=256) for _ in range(3)])
        embeddings_BE = encoder(volumes_BCDHW)  # (B, 768)

    Args:
        members: encoders of one kind and input, of scans of one modality; at least one.
    """

    def __init__(self, members: Sequence[Embedder]) -> None:
        super().__init__()
        if not members:
            raise ValueError("an ensemble has 0 members; give at least one")
        self.members = nn.ModuleList(members)

    def forward(self, volumes_BCDHW: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, E of all members) of what one member takes."""
        return torch.cat([member(volumes_BCDHW) for member in self.members], dim=1)

    def width_joined(self) -> int:
        """Sum of the members' widths."""
        return sum(member.width_joined() for member in self.members if isinstance(member, Embedder))
