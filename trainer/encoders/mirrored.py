"""An encoder that cannot tell left from right: the mean of a volume's embedding and that of its mirror image.

A head that was stored mirrored looks like any other, so nothing can warn of it; its answer must be the same instead.
"""

import torch

from trainer.encoders.base import Encoder, ScanEmbedder

RIGHT_AXIS = 2
"""Axis of (B, C, D, H, W) that runs from left to right: volumes are stored RAS+."""


class MirroredEncoder(ScanEmbedder):
    """The mean of two embeddings; exchanging a volume and its mirror image exchanges the summands.

        encoder = MirroredEncoder(build_encoder("fast", in_channels=1, embedding_width=256))
        embeddings_BE = encoder(volumes_BCDHW)  # the same for volumes_BCDHW.flip(2)

    Args:
        network: embeds volumes.
    """

    def __init__(self, network: Encoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, volumes_BCDHW: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, E)."""
        mean_BE: torch.Tensor = (self.network(volumes_BCDHW) + self.network(volumes_BCDHW.flip(RIGHT_AXIS))) / 2
        return mean_BE

    def width_joined(self) -> int:
        """E."""
        return self.network.width_joined()
