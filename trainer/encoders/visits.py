"""The multimodal encoder as a run uses it: stored values in, standardised inside, so that no one can forget it.

Means and sds are buffers: they travel with every checkpoint and with the model.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch

from preprocess.errors import UsageError
from preprocess.types import Kind
from trainer.data.standards import Standard, standard_shape
from trainer.encoders.base import Embedder, NormName
from trainer.encoders.multimodal import ModalitySpec, MultimodalEncoder
from trainer.objectives.losses.similarity import unit_rows


def modality_spec(name: str, kind: Kind, row_shape: tuple[int, ...]) -> ModalitySpec:
    """What the multimodal encoder has to know of a modality of the store.

    Raises:
        UsageError: it has no encoder for such rows.
    """
    rank = {1: "vector", 2: "matrix"}.get(len(row_shape), "") if kind == "array" else kind
    try:
        return ModalitySpec(rank, row_shape)  # type: ignore[arg-type]  # checked there
    except ValueError as error:
        raise UsageError(
            f"data.modalities: {name}: encoder 'multimodal' takes volumes, matrices and vectors, this is a {kind} of "
            f"shape {row_shape} ({error}); leave it out"
        ) from error


class VisitEncoder(Embedder):
    """Standardisation of arrays, the multimodal encoder, and the join of its embeddings.

        encoder = VisitEncoder({"clinical": ModalitySpec("vector", (12,))}, embedding_width=8)
        encoder.set_standard("clinical", fit_standard(store, "clinical", rows_N))
        modalities_BME = encoder({"clinical": clinical_BF}, present_BM)

    Args:
        modalities: what each looks like; their order is that of the axis M.
        embedding_width: E of each modality.
        norm: normalisation of the volume encoders, `batch` or `group`.
        residual: whether the matrix encoders add their input to what attention gives.

    Attributes:
        joined_width: M * E.
    """

    # EfficientNet's depthwise 3D convolutions take twice as long in channels-last (4.6 to 9.1 s a step on two cores).
    memory_format: ClassVar[torch.memory_format] = torch.contiguous_format

    def __init__(
        self,
        modalities: Mapping[str, ModalitySpec],
        *,
        embedding_width: int,
        norm: NormName = "batch",
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.network = MultimodalEncoder(modalities, embedding_width=embedding_width, norm=norm, residual=residual)
        self.joined_width = len(modalities) * embedding_width
        for name in self.standardised:
            shape = standard_shape(modalities[name].shape)
            self.register_buffer(f"{name}_mean", torch.zeros(shape))
            self.register_buffer(f"{name}_sd", torch.ones(shape))

    @property
    def modalities(self) -> tuple[str, ...]:
        """Their names, in the order of the axis M."""
        return tuple(self.network.modalities)

    @property
    def standardised(self) -> tuple[str, ...]:
        """The modalities of arrays; volumes are in [0, 1] already."""
        return tuple(name for name, spec in self.network.modalities.items() if spec.kind != "volume")

    def set_standard(self, name: str, standard: Standard) -> None:
        """Standardise a modality with what the training subjects have."""
        self.get_buffer(f"{name}_mean").copy_(torch.from_numpy(standard.mean))
        self.get_buffer(f"{name}_sd").copy_(torch.from_numpy(standard.sd))

    def take_standards(self, other: "VisitEncoder") -> None:
        """Standardise as another encoder of the same modalities does."""
        for name in self.standardised:
            for part in ("mean", "sd"):
                self.get_buffer(f"{name}_{part}").copy_(other.get_buffer(f"{name}_{part}"))

    def forward(self, inputs: Mapping[str, torch.Tensor], present_BM: torch.Tensor) -> torch.Tensor:
        """Embed each modality of each visit.

        Args:
            inputs: by modality, floats (B, *row shape): volumes in [0, 1], arrays as stored; absent ones hold anything.
            present_BM: which visit has which modality.

        Returns:
            modalities_BME, not normalised, absent ones zero.
        """
        standard = dict(inputs)
        for name in self.standardised:
            standard[name] = (inputs[name] - self.get_buffer(f"{name}_mean")) / self.get_buffer(f"{name}_sd")
        embeddings_BME: torch.Tensor = self.network(standard, present_BM)
        return embeddings_BME

    def embed_visits(self, inputs: Mapping[str, torch.Tensor], present_NM: torch.Tensor) -> torch.Tensor:
        """Embeddings (N, M, E) of each modality; see `forward`."""
        embeddings_NME: torch.Tensor = self(inputs, present_NM)
        return embeddings_NME

    def width_joined(self) -> int:
        """M * E."""
        return self.joined_width

    def join(self, embedded: torch.Tensor, present_NM: torch.Tensor) -> torch.Tensor:
        """The embedding of a visit, (N, M * E): unit embeddings side by side, absent ones zero, over their norm."""
        units_BME = unit_rows(embedded.masked_fill(~present_NM[..., None], 0.0))
        return unit_rows(units_BME.flatten(1))

    def fuse(self, modalities_BME: torch.Tensor, present_BM: torch.Tensor) -> torch.Tensor:
        """Logits (B,) of the class; see `MultimodalEncoder.fuse`."""
        return self.network.fuse(modalities_BME, present_BM)
