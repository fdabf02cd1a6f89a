"""Embeds scans of a store in evaluation mode, streamed."""

import numpy as np
import torch
from torch import nn

from preprocess.store import Store
from preprocess.transforms import unit_scale
from trainer.data.cohort import Cohort
from trainer.data.reader import VolumeReader
from trainer.data.stream import VolumeStream
from trainer.fit.precision import Compute

_BATCH = 16


@torch.inference_mode()
def embed_cohort(
    encoder: nn.Module,
    store: Store,
    modality: str,
    cohort: Cohort,
    compute: Compute,
    *,
    reader: VolumeReader | None = None,
) -> np.ndarray:
    """Embeddings of a cohort's scans, in its order.

    Args:
        encoder: from volumes_BCDHW to embeddings_BE; its mode is put back afterwards.
        store: where the volumes are.
        modality: which array.
        cohort: which scans.
        compute: device and number format.
        reader: whose cache and resident volumes serve; one of its own when not given.

    Returns:
        embeddings_NE, float32.
    """
    was_training = encoder.training
    encoder.eval()
    scale = unit_scale(store.manifest.recipe.dtype)
    batches = [cohort.rows_N[start : start + _BATCH] for start in range(0, len(cohort), _BATCH)]
    parts = []
    with VolumeStream(store, modality, batches, pin_memory=compute.pin_memory, reader=reader, reuse=True) as stream:
        for voxels_BCDHW in stream:
            # Scaled on the device, so that bytes travel, not floats.
            volumes_BCDHW = voxels_BCDHW.to(compute.device, non_blocking=compute.pin_memory).float().mul_(scale)
            with compute.autocast():
                parts.append(encoder(volumes_BCDHW).float().cpu().numpy())
    encoder.train(was_training)
    return np.concatenate(parts)
