"""What an artefact of kind embedding holds: the encoder alone, and golden values.

Whatever a run was trained for, its embeddings can be had: of a run without scores, of one whose pairs could calibrate
no head, and of the tasks regression and classification, whose own answers are measured by `interscan evaluate`.
"""

import numpy as np
import torch
from torch import nn

from preprocess.transforms import to_stored, unit_scale

NUM_GOLDEN = 3
"""Scans of golden.npz; one alone would not show a model that mixes the scans of a batch."""
EMBEDDING_USE = (
    "Research on embeddings of scans, of the modality and preprocessing named under inputs. Not a medical device; no "
    "basis for a diagnosis or a treatment."
)
EMBEDDING_LIMITS = (
    "Embeds scans and answers nothing of them: how two embeddings of a person differ is no measure of change, since "
    "scanner, pose and noise move them too.",
)


class EmbeddingModel(nn.Module):
    """What is exported: embeddings of scans.

        model = EmbeddingModel(encoder).eval()
        embeddings_BE = model.embed(scans_B)

    Args:
        encoder: from scans, as its own kind has them, to embeddings.
    """

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def embed(self, scans_B: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, E) of float32 scans in [0, 1]: images (B, C, H, W), clips (B, T, C, H, W) or volumes."""
        embeddings_BE: torch.Tensor = self.encoder(scans_B)
        return embeddings_BE

    def forward(self, scans_B: torch.Tensor) -> torch.Tensor:
        """Same as `embed`."""
        return self.embed(scans_B)


@torch.no_grad()
def embedding_golden(model: EmbeddingModel, shape: tuple[int, ...], dtype: str) -> dict[str, np.ndarray]:
    """Made-up scans in the stored type, and what the eager model embeds them as.

    Args:
        model: in evaluation mode.
        shape: shape of one row of the store.
        dtype: its stored type.
    """
    scans_B, inputs_B = golden_scans(shape, dtype)
    return {"scans_B": scans_B, "embedding_BE": model.embed(inputs_B).numpy()}


def golden_scans(shape: tuple[int, ...], dtype: str) -> tuple[np.ndarray, torch.Tensor]:
    """Made-up scans as stored and as the network takes them; arguments as in `embedding_golden`."""
    draws = np.random.default_rng(0)
    # Each scan has a brightness of its own: embeddings of pure noise are nearly one point.
    scale_B = np.linspace(0.3, 1.0, NUM_GOLDEN, dtype=np.float32).reshape(-1, *(1 for _ in shape))
    scans_B = to_stored(scale_B * draws.random((NUM_GOLDEN, *shape), dtype=np.float32), dtype)
    return scans_B, torch.as_tensor(scans_B.astype(np.float32) * np.float32(unit_scale(dtype)))
