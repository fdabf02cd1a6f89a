"""What the encoders share: checked input, features, a mean over positions in float32, a linear layer; and GroupNorm.

The embedding is float32 under autocast too: what is sought is the small difference between two visits, and bfloat16
keeps only 8 bits of each.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import nn

from trainer.encoders.heads import PreciseLinear
from trainer.encoders.narrow import guard_convolutions

SMALLEST_EDGE = 16
"""Voxels or pixels an edge needs, so that something is left after the 3D encoders have halved it four times."""

_GROUPS = 8
"""Groups of a GroupNorm; every width of every encoder is a multiple of 8, and so each group a whole vector."""

NormName: TypeAlias = Literal["batch", "group"]

_NOUN = {"BCDHW": "volumes", "BTCHW": "clips", "BCHW": "images"}


class Embedder(nn.Module, ABC):
    """A network that embeds visits, be they scans of one modality or of several.

        embedded = embedder.embed_visits(inputs, present_NM)
        embeddings_NE = embedder.join(embedded, present_NM)

    Attributes:
        input_axes: axes of the input, one letter each: B batch, T frames, C channels, D H W space.
        memory_format: layout that its convolutions run fastest in.
    """

    input_axes: ClassVar[str] = "BCDHW"
    memory_format: ClassVar[torch.memory_format] = torch.channels_last_3d

    @abstractmethod
    def embed_visits(self, inputs: Mapping[str, torch.Tensor], present_NM: torch.Tensor) -> torch.Tensor:
        """What objectives and `join` take: embeddings of each visit's scan, or of each of its modalities.

        Args:
            inputs: by modality, floats (N, *row shape).
            present_NM: which visit has which modality.
        """

    @abstractmethod
    def join(self, embedded: torch.Tensor, present_NM: torch.Tensor) -> torch.Tensor:
        """The embedding of each visit, (N, `width_joined()`), from what `embed_visits` returns."""

    # A method: what is an attribute or a property would be written into the exported program.
    @abstractmethod
    def width_joined(self) -> int:
        """Width of the embedding of a visit, which heads take."""


class ScanEmbedder(Embedder):
    """Base of what embeds scans of one modality by calling it: a visit's embedding is that of its scan."""

    # Every visit has the one modality, so present_NM says nothing.
    def embed_visits(self, inputs: Mapping[str, torch.Tensor], present_NM: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """Embeddings (N, E) of the scans, which all visits have."""
        (scans_N,) = inputs.values()
        embeddings_NE: torch.Tensor = self(scans_N)
        return embeddings_NE

    def join(self, embedded: torch.Tensor, present_NM: torch.Tensor) -> torch.Tensor:  # noqa: ARG002
        """The embedding of a visit is that of its scan."""
        return embedded


class Encoder(ScanEmbedder):
    """Base of the encoders of one modality: features, global average pool, and a linear layer that autocast leaves be.

    Attributes:
        in_channels: channels C the input must have.
        embedding_width: width E of the embedding.
    """

    def __init__(self, features: nn.Module, *, in_channels: int, feature_width: int, embedding_width: int) -> None:
        super().__init__()
        if embedding_width < 1:
            raise ValueError(f"embedding_width is {embedding_width}; it must be at least 1")
        self.in_channels = in_channels
        self.embedding_width = embedding_width
        guard_convolutions(features)
        self.features = features
        self.linear = PreciseLinear(feature_width, embedding_width)

    def forward(self, volumes_BCDHW: torch.Tensor) -> torch.Tensor:
        """Embed volumes, or what `input_axes` says.

        Args:
            volumes_BCDHW: floating point in [0, 1], C = `in_channels`, edges of 16 voxels or more.

        Returns:
            embeddings_BE, float32 (float64 for a float64 model), not normalised.

        Raises:
            ValueError: another rank or channel count, an edge below 16, or whole numbers (scale uint8 by 1/255 first).
        """
        self._refuse_wrong_input(volumes_BCDHW)
        embeddings_BE: torch.Tensor = self.linear(self._pooled(volumes_BCDHW))
        return embeddings_BE

    def width_joined(self) -> int:
        """E."""
        return self.embedding_width

    def _pooled(self, inputs_BC: torch.Tensor) -> torch.Tensor:
        """Features (B, F) averaged over all positions, summed in the dtype of the linear layer."""
        features: torch.Tensor = self.features(inputs_BC)
        return features.mean(dim=tuple(range(2, features.dim())), dtype=self.linear.weight.dtype)

    def _refuse_wrong_input(self, inputs: torch.Tensor) -> None:
        shape, axes, noun = inputs.shape, self.input_axes, _NOUN[self.input_axes]
        if inputs.dim() != len(axes):
            raise ValueError(
                f"{noun} have shape {tuple(shape)}; the encoder needs {len(axes)} axes ({', '.join(axes)})"
            )
        if not inputs.is_floating_point():
            raise ValueError(f"{noun} have dtype {inputs.dtype}; the encoder needs floats in [0, 1]")
        # While a graph is being recorded a size may be a tensor or a symbol; comparing it would fix it in the graph.
        channels = shape[axes.index("C")]
        if isinstance(channels, int) and channels != self.in_channels:
            raise ValueError(f"{noun} have shape {tuple(shape)}; the encoder was built for C = {self.in_channels}")
        if any(isinstance(edge, int) and edge < SMALLEST_EDGE for edge in shape[axes.index("C") + 1 :]):
            unit = "voxels" if axes == "BCDHW" else "pixels"
            raise ValueError(f"{noun} have shape {tuple(shape)}; every edge must be at least {SMALLEST_EDGE} {unit}")


class GroupNorm(nn.GroupNorm):
    """GroupNorm of 8 groups that can be traced without a warning: torch's own compares sizes in Python.

    Args:
        width: channels.
        eps: added to the variance.
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__(math.gcd(_GROUPS, width), width, eps=eps)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, ...)."""
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def put_group_norm(module: nn.Module) -> None:
    """Replace every BatchNorm2d and BatchNorm3d below a module by GroupNorm, under the same names."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
            setattr(module, name, GroupNorm(child.num_features, child.eps))
        else:
            put_group_norm(child)
