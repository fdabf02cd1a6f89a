"""What an artefact of kind severity holds: the model with its normal anchor, golden values, references.

The anchor is that of `interscan evaluate`: the mean embedding of all normal training scans, not of the up to 32 that
training drew for an epoch. So the exported model gives the distances that were scored.
"""

import numpy as np
import torch
from torch import nn

from preprocess.distances import distances_from_mean
from preprocess.errors import RunError
from preprocess.manifest import Anchor
from trainer.data.cohort import Cohort
from trainer.export.embedding import EmbeddingModel, embedding_golden, golden_scans


class SeverityModel(EmbeddingModel):
    """What is exported: embeddings of scans, and their distance from normal.

    Args:
        encoder: from scans, as its own kind has them, to embeddings.
        anchor_E: mean embedding of normal scans, float32; its length does not matter.
    """

    anchor_E: torch.Tensor

    def __init__(self, encoder: nn.Module, anchor_E: torch.Tensor) -> None:
        super().__init__(encoder)
        self.register_buffer("anchor_E", anchor_E)

    def severity(self, scans_B: torch.Tensor) -> torch.Tensor:
        """Cosine distance (B,) of each embedding from the anchor: 0 as normal as can be, 2 its opposite."""
        similarity_B = nn.functional.cosine_similarity(self.embed(scans_B), self.anchor_E[None], dim=1)
        # Rounding may take a cosine a little beyond 1, and a distance below 0.
        return 1.0 - similarity_B.clamp(-1.0, 1.0)


def severity_model(encoder: nn.Module, normal_KE: np.ndarray, *, where: str) -> SeverityModel:
    """The encoder with its anchor.

    Args:
        encoder: on the CPU, float32.
        normal_KE: embeddings of the normal training scans.
        where: how messages name the run.

    Raises:
        RunError: the anchor has no direction.
    """
    anchor_E = normal_KE.astype(np.float64).mean(axis=0).astype(np.float32)
    length = float(np.linalg.norm(anchor_E))
    if not 0 < length < float("inf"):
        raise RunError(
            f"{where}: the mean embedding of {len(normal_KE)} normal scans has length {length:g}, so nothing can be "
            "measured from it; train again"
        )
    return SeverityModel(encoder, torch.from_numpy(anchor_E)).eval()


@torch.no_grad()
def severity_golden(model: SeverityModel, shape: tuple[int, ...], dtype: str) -> dict[str, np.ndarray]:
    """Made-up scans in the stored type, and what the eager model answers for them.

    Args:
        model: in evaluation mode.
        shape: shape of one row of the store.
        dtype: its stored type.
    """
    _, inputs_B = golden_scans(shape, dtype)
    return embedding_golden(model, shape, dtype) | {"severity_B": model.severity(inputs_B).numpy()}


def severity_references(
    model: SeverityModel,
    training: Cohort,
    indices_K: np.ndarray,
    training_NE: np.ndarray,
    validation: Cohort,
    validation_NE: np.ndarray,
) -> dict[str, np.ndarray]:
    """The arrays of `preprocess.manifest.SEVERITY_REFERENCE_ARRAYS`.

    Args:
        model: whose anchor is kept.
        training: training scans.
        indices_K: (K,) indices of the normal scans among the training scans.
        training_NE: embeddings of the training scans.
        validation: validation scans.
        validation_NE: their embeddings.
    """
    known_V = np.flatnonzero(~np.isnan(validation.scores_N))
    return {
        "anchor_E": model.anchor_E.numpy(),
        "normal_places_K": indices_K.astype(np.int64),
        "normal_rows_K": training.rows_N[indices_K].astype(np.int64),
        "validation_distances_V": distances_from_mean(validation_NE[known_V], training_NE[indices_K]).astype(
            np.float32
        ),
        "validation_grades_V": validation.scores_N[known_V].astype(np.float32),
    }


def describe_anchor(training: Cohort, indices_K: np.ndarray, normal: float) -> Anchor:
    """What the manifest says of the anchor."""
    num_subjects = len({training.subject_ids[index] for index in indices_K})
    return Anchor(normal=normal, num_scans=len(indices_K), num_subjects=num_subjects)
