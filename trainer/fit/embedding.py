"""Embeds the visits of a cohort in evaluation mode, streamed; a scan is a visit with one modality."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from preprocess.store import Store
from trainer.data.cohort import Cohort, Flags
from trainer.data.reader import VolumeReader
from trainer.data.stream import StreamOptions
from trainer.data.visits import VisitStream
from trainer.encoders import Embedder
from trainer.encoders.visits import VisitEncoder
from trainer.fit.precision import Compute

BATCH = 16
"""Visits that are embedded at a time."""


@dataclass(frozen=True, slots=True)
class VisitEmbeddings:
    """Embeddings of a cohort's visits, in its order, and those of their modalities.

    Attributes:
        embeddings_NE: one row a visit, scaled to length 1, width M * E.
        modalities_NME: one embedding a modality, as the encoder made it; absent ones are zero.
        present_NM: which visit has which modality.
    """

    embeddings_NE: np.ndarray
    modalities_NME: np.ndarray
    present_NM: Flags


def embed_cohort(
    encoder: Embedder,
    store: Store,
    modalities: Sequence[str],
    cohort: Cohort,
    compute: Compute,
    *,
    readers: Mapping[str, VolumeReader] | None = None,
) -> np.ndarray:
    """Embeddings of a cohort's visits, in its order.

        embeddings_NE = embed_cohort(encoder, store, ("T1w",), cohort, compute)

    Args:
        encoder: the encoder of these modalities; its own mode is put back afterwards.
        store: where the rows are; absent ones are never requested.
        modalities: what the cohort was read with, and the encoder was made for.
        cohort: which visits.
        compute: device and number format.
        readers: by modality, whose cache and resident rows serve; made for this call when not given.

    Returns:
        embeddings_NE, float32.

    Raises:
        ValueError: the cohort has another number of modalities.
    """
    parts = [joined_BE for _, joined_BE in _embedded(encoder, store, modalities, cohort, compute, readers)]
    return np.concatenate(parts)


def embed_visits(
    encoder: VisitEncoder,
    store: Store,
    cohort: Cohort,
    compute: Compute,
    *,
    readers: Mapping[str, VolumeReader] | None = None,
) -> VisitEmbeddings:
    """The same with the embeddings of each modality, which a fusion head takes; arguments as `embed_cohort`."""
    parts = list(_embedded(encoder, store, encoder.modalities, cohort, compute, readers))
    modalities, joined = zip(*parts, strict=True)
    return VisitEmbeddings(np.concatenate(joined), np.concatenate(modalities), cohort.presence_NM)


@torch.inference_mode()
def _embedded(
    encoder: Embedder,
    store: Store,
    modalities: Sequence[str],
    cohort: Cohort,
    compute: Compute,
    readers: Mapping[str, VolumeReader] | None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What the encoder makes of each batch of visits, and the embedding of each visit."""
    presence_NM = cohort.presence_NM
    if presence_NM.shape[1] != len(modalities):
        raise ValueError(f"the cohort does not say who has {', '.join(modalities)}; read it with read_visits")
    parts = [slice(start, start + BATCH) for start in range(0, len(cohort), BATCH)]
    rows, present = [cohort.rows_N[part] for part in parts], [presence_NM[part] for part in parts]
    options = StreamOptions(pin_memory=compute.pin_memory, reuse=True)
    was_training = encoder.training
    encoder.eval()
    with VisitStream(store, modalities, rows, present, options, readers=readers) as stream:
        for batch in stream:
            inputs, present_BM = batch.inputs(compute.device, non_blocking=compute.pin_memory)
            with compute.autocast():
                embedded = encoder.embed_visits(inputs, present_BM).float()
            yield embedded.cpu().numpy(), encoder.join(embedded, present_BM).cpu().numpy()
    encoder.train(was_training)
