"""The validation figures of an epoch: embeds the validation subjects' scans and has them scored."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from torch import nn

from preprocess.store import Store
from trainer.data.cohort import Cohort
from trainer.data.reader import VolumeReader
from trainer.fit.embedding import embed_cohort
from trainer.fit.precision import Compute


def validation_figures(
    store: Store,
    modality: str,
    cohort: Cohort,
    compute: Compute,
    score: Callable[[np.ndarray], dict[str, float]],
    *,
    reader: VolumeReader | Mapping[str, VolumeReader] | None = None,
) -> Callable[[nn.Module], dict[str, float]]:
    """A function that embeds the validation subjects and hands the embeddings to `score`.

    Args:
        store: where volumes are.
        modality: which array.
        cohort: the validation subjects' scans.
        compute: device and number format.
        score: figures of embeddings_NE by name.
        reader: whose cache and resident volumes serve.
    """

    def figures(model: nn.Module) -> dict[str, float]:
        encoder: Any = model.encoder
        embeddings_NE = embed_cohort(encoder, store, modality, cohort, compute, reader=reader)
        return score(embeddings_NE)

    return figures
