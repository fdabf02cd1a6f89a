"""Embeds scans of a store, or visits with several modalities, in evaluation mode, streamed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from preprocess.store import Store
from preprocess.transforms import unit_scale
from trainer.data.cohort import Cohort, Flags
from trainer.data.reader import VolumeReader
from trainer.data.resident import open_stream
from trainer.data.visits import VisitStream
from trainer.encoders.visits import VisitEncoder
from trainer.fit.precision import Compute

BATCH = 16
"""Scans, or visits, that are embedded at a time."""


@dataclass(frozen=True, slots=True)
class VisitEmbeddings:
    """Embeddings of a cohort's visits, in its order.

    Attributes:
        embeddings_NE: of the visits, unit rows of width M * E.
        modalities_NME: of each modality, as the encoder made them; absent ones zero.
        present_NM: which visit has which modality.
    """

    embeddings_NE: np.ndarray
    modalities_NME: np.ndarray
    present_NM: Flags


@torch.inference_mode()
def embed_cohort(
    encoder: nn.Module,
    store: Store,
    modality: str,
    cohort: Cohort,
    compute: Compute,
    *,
    reader: VolumeReader | Mapping[str, VolumeReader] | None = None,
) -> np.ndarray:
    """Embeddings of a cohort's scans, in its order.

    Args:
        encoder: from volumes_BCDHW to embeddings_BE; its mode is put back afterwards. That of visits embeds visits, see
            `embed_visits`.
        store: where the volumes are.
        modality: which array; that of visits has its own.
        cohort: which scans.
        compute: device and number format.
        reader: whose cache and resident volumes serve, by modality for visits; one of its own when not given.

    Returns:
        embeddings_NE, float32.
    """
    if isinstance(encoder, VisitEncoder):
        readers = reader if isinstance(reader, Mapping) else None
        return embed_visits(encoder, store, cohort, compute, readers=readers).embeddings_NE
    if isinstance(reader, Mapping):
        reader = reader[modality]
    was_training = encoder.training
    encoder.eval()
    scale = unit_scale(store.manifest.recipe.dtype_of(modality))
    batches = [cohort.rows_N[start : start + BATCH] for start in range(0, len(cohort), BATCH)]
    parts = []
    with open_stream(store, modality, batches, pin_memory=compute.pin_memory, reader=reader, reuse=True) as stream:
        for voxels_BCDHW in stream:
            # Scaled on the device, so that bytes travel, not floats.
            volumes_BCDHW = voxels_BCDHW.to(compute.device, non_blocking=compute.pin_memory).float().mul_(scale)
            with compute.autocast():
                parts.append(encoder(volumes_BCDHW).float().cpu().numpy())
    encoder.train(was_training)
    return np.concatenate(parts)


@torch.inference_mode()
def embed_visits(
    encoder: VisitEncoder,
    store: Store,
    cohort: Cohort,
    compute: Compute,
    *,
    readers: Mapping[str, VolumeReader] | None = None,
) -> VisitEmbeddings:
    """Embeddings of a cohort's visits.

    Args:
        encoder: of the visits' modalities; its mode is put back afterwards.
        store: where the rows are; absent ones are never asked for.
        cohort: from `read_visits`, with the encoder's modalities.
        compute: device and number format.
        readers: by modality, whose cache and resident rows serve.

    Raises:
        ValueError: the cohort is one of scans, or has another number of modalities.
    """
    if cohort.present_NM is None or cohort.present_NM.shape[1] != len(encoder.modalities):
        raise ValueError(f"the cohort does not say who has {', '.join(encoder.modalities)}; read it with read_visits")
    was_training = encoder.training
    encoder.eval()
    parts = [slice(start, start + BATCH) for start in range(0, len(cohort), BATCH)]
    rows, present = [cohort.rows_N[part] for part in parts], [cohort.present_NM[part] for part in parts]
    modalities, joined = [], []
    with VisitStream(
        store, encoder.modalities, rows, present, pin_memory=compute.pin_memory, readers=readers, reuse=True
    ) as stream:
        for batch in stream:
            inputs, present_BM = batch.inputs(compute.device, non_blocking=compute.pin_memory)
            with compute.autocast():
                modalities_BME = encoder(inputs, present_BM).float()
            modalities.append(modalities_BME.cpu().numpy())
            joined.append(encoder.join(modalities_BME, present_BM).cpu().numpy())
    encoder.train(was_training)
    return VisitEmbeddings(np.concatenate(joined), np.concatenate(modalities), cohort.present_NM)
