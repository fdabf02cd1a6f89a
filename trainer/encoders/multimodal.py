"""One small encoder for each modality of a subject, and their fusion: the network of Joint CMC + CSS.

Matrices (connectomes, radiomics) go through single-head self-attention over their rows, volumes through a 3D
EfficientNet-b0, vectors through two linear layers; each ends in the same small width. A subject may lack any of them:
its slot may then hold anything, NaN too, and changes neither an answer, nor a gradient, nor a running statistic.
"""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import nn

from trainer.encoders.base import NormName, put_group_norm
from trainer.encoders.heads import PreciseLinear
from trainer.encoders.narrow import guard_convolutions
from trainer.objectives.losses.similarity import unit_rows

SMALLEST_VOLUME_EDGE = 32
"""Voxels an edge needs: EfficientNet-b0 halves it five times, and its padding, set for 224, does not save less."""

_TOKEN_WIDTH = 8
_HIDDEN_WIDTH = 64

ModalityKind: TypeAlias = Literal["matrix", "volume", "vector"]
_AXES: dict[ModalityKind, str] = {"matrix": "RF", "volume": "CDHW", "vector": "F"}


@dataclass(frozen=True, slots=True)
class ModalitySpec:
    """What one subject's values of a modality look like.

    Attributes:
        kind: `matrix`, `volume` or `vector`.
        shape: (R, F) of a matrix, R regions as tokens; (C, D, H, W) of a volume; (F,) of a vector.

    Raises:
        ValueError: another kind, another rank, an empty axis, or a volume edge below 32 voxels.
    """

    kind: ModalityKind
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.kind not in _AXES:
            raise ValueError(f"no kind of modality is called {self.kind!r}; choose {', '.join(_AXES)}")
        axes = _AXES[self.kind]
        if len(self.shape) != len(axes) or min(self.shape) < 1:
            raise ValueError(f"{self.kind} has shape {self.shape}; it must be ({', '.join(axes)}), each at least 1")
        if self.kind == "volume" and min(self.shape[1:]) < SMALLEST_VOLUME_EDGE:
            raise ValueError(
                f"volume has shape {self.shape}; every edge must be at least {SMALLEST_VOLUME_EDGE} voxels"
            )


class MatrixEncoder(nn.Module):
    """Single-head self-attention over the rows, Linear to 8 a row, flatten, Linear.

    Attention is softmax(Q K^T / sqrt(F)) V (Vaswani et al. 2017). It has no output map of its own: the linear layer
    after it does that work.

    Args:
        num_tokens: rows R.
        token_width: columns F.
        embedding_width: width E of the answer.
        residual: add each row to what it attended to (Vaswani et al. 2017), so that the row itself is never averaged
            away; `False` is the published network.
    """

    def __init__(self, num_tokens: int, token_width: int, embedding_width: int, *, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.query_key_value = PreciseLinear(token_width, 3 * token_width)
        self.token = PreciseLinear(token_width, _TOKEN_WIDTH)
        self.linear = PreciseLinear(num_tokens * _TOKEN_WIDTH, embedding_width)

    def forward(self, matrices_BRF: torch.Tensor, present_B: torch.Tensor) -> torch.Tensor:
        """Map (B, R, F) to (B, E); rows of absent subjects hold numbers without meaning, not NaN."""
        tokens_BRF = _blank_absent(matrices_BRF, present_B)
        with _without_autocast(tokens_BRF):
            query_BRF, key_BRF, value_BRF = self.query_key_value(tokens_BRF).chunk(3, dim=-1)
            scores_BRR = query_BRF @ key_BRF.transpose(1, 2) / math.sqrt(self.token.in_features)
            attended_BRF = scores_BRR.softmax(dim=-1) @ value_BRF
            if self.residual:
                attended_BRF = attended_BRF + tokens_BRF
            embeddings_BE: torch.Tensor = self.linear(self.token(attended_BRF).flatten(1))
            return embeddings_BE


class VectorEncoder(nn.Module):
    """Linear 64, ReLU, Linear.

    Args:
        width_in: length F of the vector.
        embedding_width: width E of the answer.
    """

    def __init__(self, width_in: int, embedding_width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            PreciseLinear(width_in, _HIDDEN_WIDTH), nn.ReLU(inplace=True), PreciseLinear(_HIDDEN_WIDTH, embedding_width)
        )

    def forward(self, vectors_BF: torch.Tensor, present_B: torch.Tensor) -> torch.Tensor:
        """Map (B, F) to (B, E); rows of absent subjects hold numbers without meaning, not NaN."""
        embeddings_BE: torch.Tensor = self.layers(_blank_absent(vectors_BF, present_B))
        return embeddings_BE


class _PreciseMean(nn.Module):
    """Mean over all positions in float32 or above, for the last pooling, which autocast would round."""

    def forward(self, features_BCDHW: torch.Tensor) -> torch.Tensor:
        dtype = torch.promote_types(features_BCDHW.dtype, torch.float32)
        return features_BCDHW.mean(dim=(2, 3, 4), keepdim=True, dtype=dtype)


class VolumeEncoder(nn.Module):
    """MONAI's 3D EfficientNet-b0 (Tan and Le 2019), 4.7 million parameters.

    In training only present volumes are run, so that BatchNorm sees nothing else. A batch with a single present volume
    has no spread between volumes: the layers then use their running statistics, and leave them.

    Args:
        in_channels: channels C of a volume.
        embedding_width: width E of the answer.
        norm: `batch` as published, or `group`, which small batches need.
    """

    def __init__(self, in_channels: int, embedding_width: int, norm: NormName = "batch") -> None:
        super().__init__()
        # Here, not above: the import takes two seconds, and most recipes do not need it.
        from monai.networks.nets import EfficientNetBN

        self.embedding_width = embedding_width
        self.net = EfficientNetBN(
            "efficientnet-b0",
            pretrained=False,
            spatial_dims=3,
            in_channels=in_channels,
            num_classes=embedding_width,
        )
        if norm == "group":
            put_group_norm(self.net)
        guard_convolutions(self.net)
        self.net._avg_pooling = _PreciseMean()
        self.net._fc = PreciseLinear(self.net._fc.in_features, embedding_width)

    def forward(self, volumes_BCDHW: torch.Tensor, present_B: torch.Tensor) -> torch.Tensor:
        """Map (B, C, D, H, W) to (B, E); rows of absent subjects hold numbers without meaning, not NaN."""
        if not self.training:
            evaluated_BE: torch.Tensor = self.net(_blank_absent(volumes_BCDHW, present_B))
            return evaluated_BE
        indices_P = present_B.nonzero().squeeze(1)
        embeddings_BE: torch.Tensor = self.net._fc.weight.new_zeros(len(volumes_BCDHW), self.embedding_width)
        if len(indices_P) == 0:
            return embeddings_BE
        norms = [layer for layer in self.net.modules() if isinstance(layer, nn.BatchNorm3d) and layer.training]
        for layer in norms:
            layer.train(len(indices_P) > 1)
        embeddings_BE = embeddings_BE.index_put((indices_P,), self.net(volumes_BCDHW[indices_P]))
        for layer in norms:
            layer.train()
        return embeddings_BE


class MultimodalEncoder(nn.Module):
    """An encoder for each modality, all of one width, and the linear layer that fuses them.

        specs = {"clinical": ModalitySpec("vector", (12,)), "connectome": ModalitySpec("matrix", (90, 90))}
        encoder = MultimodalEncoder(specs, embedding_width=8)
        modalities_BME = encoder({"clinical": clinical_BF, "connectome": connectome_BRF}, present_BM)

    Args:
        modalities: what each modality looks like, by name; their order is that of the axis M.
        embedding_width: width E of each modality's embedding.
        norm: normalisation of the volume encoders, `batch` or `group`.
        residual: whether the matrix encoders add their input to what attention gives.

    Attributes:
        modalities: as given.
        embedding_width: as given.

    Raises:
        ValueError: no modality, or a name that cannot be that of a parameter.
    """

    def __init__(
        self,
        modalities: Mapping[str, ModalitySpec],
        *,
        embedding_width: int = 8,
        norm: NormName = "batch",
        residual: bool = False,
    ) -> None:
        super().__init__()
        if not modalities:
            raise ValueError("modalities is empty; describe at least one")
        if embedding_width < 1:
            raise ValueError(f"embedding_width is {embedding_width}; it must be at least 1")
        self.modalities = dict(modalities)
        self.embedding_width = embedding_width
        self.encoders = nn.ModuleDict()
        for name, spec in modalities.items():
            if not name or "." in name or hasattr(self.encoders, name):
                raise ValueError(f"{name!r} cannot be the name of a modality; use letters and digits, as in 'clinical'")
            self.encoders[name] = _build(spec, embedding_width, norm, residual=residual)
        self.fusion = PreciseLinear(len(modalities) * embedding_width, 1)

    def forward(self, inputs: Mapping[str, torch.Tensor], present_BM: torch.Tensor) -> torch.Tensor:
        """Embed each modality of each subject.

        Args:
            inputs: for each modality a float tensor of shape (B, *shape of its description).
            present_BM: boolean, which subject has which modality.

        Returns:
            modalities_BME, float32 (float64 for a float64 model), not normalised; rows that are absent are zero.

        Raises:
            ValueError: a modality is missing or unknown, or a shape or dtype is not as described.
        """
        self._refuse_wrong_input(inputs, present_BM)
        # The length of a tuple is a plain number while a graph is being recorded too.
        columns = present_BM.unbind(dim=1)
        if len(columns) != len(self.modalities):
            raise ValueError(
                f"present has {len(columns)} columns; it needs one for each of {', '.join(self.modalities)}"
            )
        embeddings = [
            self.encoders[name](inputs[name], present_B)
            for name, present_B in zip(self.modalities, columns, strict=True)
        ]
        return _blank_absent(torch.stack(embeddings, dim=1), present_BM)

    def fuse(self, modalities_BME: torch.Tensor, present_BM: torch.Tensor) -> torch.Tensor:
        """Logits (B,) of the class: each modality L2-normalised, absent ones zero, concatenated, Linear."""
        units_BME = unit_rows(_blank_absent(modalities_BME, present_BM))
        logits_B: torch.Tensor = self.fusion(units_BME.flatten(1)).squeeze(-1)
        return logits_B

    def _refuse_wrong_input(self, inputs: Mapping[str, torch.Tensor], present_BM: torch.Tensor) -> None:
        if inputs.keys() != self.modalities.keys():
            raise ValueError(f"inputs hold {', '.join(inputs)}; the encoder needs exactly {', '.join(self.modalities)}")
        if present_BM.dim() != 2 or present_BM.dtype != torch.bool:
            raise ValueError(
                f"present has shape {tuple(present_BM.shape)} and dtype {present_BM.dtype}; it must be a boolean (B, M)"
            )
        for name, spec in self.modalities.items():
            values = inputs[name]
            # While a graph is being recorded a size may be a tensor or a symbol; comparing it would fix it there.
            sizes = zip(values.shape[1:], spec.shape, strict=False)
            if values.dim() != len(spec.shape) + 1 or any(isinstance(is_, int) and is_ != was for is_, was in sizes):
                expected = ", ".join(("B", *map(str, spec.shape)))
                raise ValueError(f"{name} has shape {tuple(values.shape)}; the encoder was built for ({expected})")
            if not values.is_floating_point():
                raise ValueError(f"{name} has dtype {values.dtype}; the encoder needs floats")
        rows = {name: values.shape[0] for name, values in {**inputs, "present": present_BM}.items()}
        if all(isinstance(count, int) for count in rows.values()) and len(set(rows.values())) > 1:
            raise ValueError(f"numbers of subjects differ: {rows}; give one row a subject, absent or not")


def _build(spec: ModalitySpec, embedding_width: int, norm: NormName, *, residual: bool) -> nn.Module:
    if spec.kind == "matrix":
        return MatrixEncoder(spec.shape[0], spec.shape[1], embedding_width, residual=residual)
    if spec.kind == "volume":
        return VolumeEncoder(spec.shape[0], embedding_width, norm)
    return VectorEncoder(spec.shape[0], embedding_width)


def _blank_absent(values_B: torch.Tensor, present_B: torch.Tensor) -> torch.Tensor:
    """Zero what is absent. Chosen, not multiplied: 0 x NaN is NaN, forward and in gradients."""
    further_axes = (None,) * (values_B.dim() - present_B.dim())
    return values_B.masked_fill(~present_B[(..., *further_axes)], 0.0)


def _without_autocast(tensor: torch.Tensor) -> AbstractContextManager[object]:
    """Switch autocast off where it is on; recorded graphs, made without it, stay free of it."""
    kind = tensor.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
