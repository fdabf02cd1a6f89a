"""A score that is linear in the coarse brightness of a volume, and an encoder with that score beside its embedding.

What a network of many layers and a ridge regression on a coarse grid get wrong is little alike, so the mean of both is
nearer to the truth than either (docs/methods/change.md).
"""

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from trainer.encoders.base import Embedder, ScanEmbedder


def coarse_brightness(volumes_BCDHW: torch.Tensor, grid: int) -> torch.Tensor:
    """Mean brightness (B, C * grid^3) of equal blocks, as many along each axis, float32 or above."""
    pooled = F.adaptive_avg_pool3d(volumes_BCDHW, (grid, grid, grid))
    return pooled.flatten(1)


class CoarseBrightness(ScanEmbedder):
    """Coarse brightness as an embedding, without anything to learn; see `coarse_brightness`.

        features_NF = embed_cohort(CoarseBrightness(12, in_channels=1), store, ("T1w",), cohort, compute)

    Args:
        grid: blocks along each axis.
        in_channels: channels C of a volume.
    """

    def __init__(self, grid: int, in_channels: int) -> None:
        super().__init__()
        self.grid = grid
        self.in_channels = in_channels

    def forward(self, volumes_BCDHW: torch.Tensor) -> torch.Tensor:
        """Coarse brightness (B, C * grid^3)."""
        return coarse_brightness(volumes_BCDHW, self.grid)

    def width_joined(self) -> int:
        """C * grid^3."""
        return self.in_channels * self.grid**3


def mirrored_features(features_NF: torch.Tensor, grid: int) -> torch.Tensor:
    """Coarse brightness (N, C * grid^3) of the mirror images of the same volumes."""
    return features_NF.reshape(len(features_NF), -1, grid, grid, grid).flip(2).flatten(1)


class LinearScore(nn.Module):
    """Standardised score = weight . coarse brightness + bias, fitted in closed form.

        linear = LinearScore(grid=12, in_channels=1)
        score_B = linear(volumes_BCDHW)

    Args:
        grid: blocks along each axis.
        in_channels: channels C of a volume.
    """

    weight_F: torch.Tensor
    bias: torch.Tensor

    def __init__(self, grid: int, in_channels: int) -> None:
        super().__init__()
        if grid < 1:
            raise ValueError(f"grid is {grid}; it must be at least 1")
        self.grid = grid
        self.register_buffer("weight_F", torch.zeros(in_channels * grid**3))
        self.register_buffer("bias", torch.zeros(()))

    def forward(self, volumes_BCDHW: torch.Tensor) -> torch.Tensor:
        """Scores (B,) of volumes in [0, 1]."""
        return coarse_brightness(volumes_BCDHW.to(self.weight_F.dtype), self.grid) @ self.weight_F + self.bias


class WithLinearScore(ScanEmbedder):
    """An encoder of volumes with a linear score as one more number of its embedding.

        encoder = WithLinearScore(build_encoder("fast", in_channels=1, embedding_width=256), linear)
        embeddings_BE = encoder(volumes_BCDHW)  # (B, 257)

    Args:
        network: embeds the volumes.
        linear: scores them.
    """

    def __init__(self, network: Embedder, linear: LinearScore) -> None:
        super().__init__()
        self.network = network
        self.linear = linear

    def forward(self, volumes_BCDHW: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, E + 1)."""
        return torch.cat([self.network(volumes_BCDHW), self.linear(volumes_BCDHW).unsqueeze(1)], dim=1)

    def width_joined(self) -> int:
        """E + 1."""
        return self.network.width_joined() + 1
