"""Two convolutional encoders of 3D volumes: the published one of ClinImCL and a faster one for CPUs.

Both take float volumes_BCDHW in [0, 1] and return float32 embeddings_BE, under autocast too. Both can be traced and
exported with a free batch axis; they hold no state but weights and BatchNorm statistics, so in eval mode a volume's
embedding does not depend on what else is in the batch. With GroupNorm it does not in training either, at the price of
speed (docs/adr/0006-group-norm-for-gradient-caching.md).
"""

from itertools import pairwise

import torch
from torch import nn

from trainer.encoders.base import Encoder, GroupNorm, NormName


def _norm(norm: NormName, width: int) -> nn.Module:
    """Normalisation of `width` channels: over the batch, or over groups of channels of each volume alone."""
    if norm == "group":
        return GroupNorm(width)
    return nn.BatchNorm3d(width)


class ReferenceEncoder(Encoder):
    """The encoder of the ClinImCL paper: 4 x (MaxPool3d(2), Conv3d(3), BatchNorm3d, ReLU), 1-16-32-64-128, Linear.

    324,480 parameters with one channel and width 256. Each pooling drops the last plane of an odd edge: of an odd
    edge the last voxel is not seen, and what lies beyond the last multiple of 16 counts only through the convolutions
    next to it. The far side of an edge divisible by 16 loses nothing.

    Args:
        in_channels: channels C of a volume.
        embedding_width: width E of the embedding.
        norm: `batch` as published, or `group`.
    """

    def __init__(self, *, in_channels: int = 1, embedding_width: int = 256, norm: NormName = "batch") -> None:
        widths = (in_channels, 16, 32, 64, 128)
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers += [nn.MaxPool3d(2), nn.Conv3d(width_in, width_out, 3, padding=1)]
            layers += [_norm(norm, width_out), nn.ReLU(inplace=True)]
        super().__init__(
            nn.Sequential(*layers),
            in_channels=in_channels,
            feature_width=widths[-1],
            embedding_width=embedding_width,
        )


class BlockStem(nn.Module):
    """Convolution of kernel and stride 4 (a 4^3 space-to-depth and a linear map), fast where channels are few.

    The last axis is folded into channels first: with one channel that is a view, and in channels-last layout, so that
    oneDNN meets 4 input channels where a plain Conv3d offers 1. The result is that of the plain convolution; a training
    step of `FastEncoder` at 96^3 takes 4.0 instead of 6.7 ms per volume on two cores (benchmarks/encoder_step.py).
    Up to 3 voxels at the far side of an edge (edge mod 4) are not seen.

    Args:
        in_channels: channels of a volume.
        width: output channels.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(4 * in_channels, width, kernel_size=(4, 4, 1), stride=(4, 4, 1), bias=False)

    def forward(self, volumes_BCDHW: torch.Tensor) -> torch.Tensor:
        """Map (B, C, D, H, W) to (B, width, D // 4, H // 4, W // 4)."""
        batch, channels, depth, height, width = volumes_BCDHW.shape
        whole_blocks = volumes_BCDHW[..., : width // 4 * 4]
        blocks = whole_blocks.reshape(batch, channels, depth, height, width // 4, 4)
        # (B, C, D, H, W/4, 4) -> (B, 4, C, D, H, W/4) -> (B, 4C, D, H, W/4)
        folded: torch.Tensor = self.conv(blocks.permute(0, 5, 1, 2, 3, 4).flatten(1, 2))
        return folded


class FastEncoder(Encoder):
    """A 4^3 stem, then 3x3x3 convolutions of stride 2, each with BatchNorm and ReLU, global average pool, Linear.

        encoder = FastEncoder(embedding_width=256)
        embeddings_BE = encoder(volumes_BCDHW.float() / 255)

    1,230,016 parameters at the default widths. The stem leaves out the last edge mod 4 voxels; the strided convolutions
    round up and lose nothing.

    Args:
        in_channels: channels C of a volume.
        widths: channels after the stem and after each strided convolution.
        embedding_width: width E of the embedding.
        norm: `batch` or `group`.
        shrink: edge of the blocks of voxels that are averaged first; 1 for none.
    """

    def __init__(
        self,
        in_channels: int = 1,
        widths: tuple[int, ...] = (32, 64, 128, 256),
        embedding_width: int = 256,
        norm: NormName = "batch",
        shrink: int = 1,
    ) -> None:
        if not widths:
            raise ValueError("widths is empty; give at least the width of the stem")
        layers: list[nn.Module] = [] if shrink == 1 else [nn.AvgPool3d(shrink)]
        layers += [BlockStem(in_channels, widths[0]), _norm(norm, widths[0]), nn.ReLU(inplace=True)]
        for width_in, width_out in pairwise(widths):
            # No bias: the normalisation's shift does its work.
            layers += [nn.Conv3d(width_in, width_out, 3, stride=2, padding=1, bias=False)]
            layers += [_norm(norm, width_out), nn.ReLU(inplace=True)]
        super().__init__(
            nn.Sequential(*layers),
            in_channels=in_channels,
            feature_width=widths[-1],
            embedding_width=embedding_width,
        )
