"""The validation metrics of an epoch: embeds the validation subjects' scans and has them scored."""

from collections.abc import Callable

import numpy as np

from trainer.data.cohort import Cohort
from trainer.fit.model import TrainingModel
from trainer.fit.precision import Compute
from trainer.fit.supply import Supply


def validation_metrics(
    supply: Supply, cohort: Cohort, compute: Compute, score: Callable[[np.ndarray], dict[str, float]]
) -> Callable[[TrainingModel], dict[str, float]]:
    """A function that embeds the validation subjects and hands the embeddings to `score`.

    Args:
        supply: the run's supply, whose cache and resident volumes serve.
        cohort: the validation subjects' scans.
        compute: device and number format.
        score: metrics of embeddings_NE by name.
    """

    def metrics(model: TrainingModel) -> dict[str, float]:
        return score(supply.embed(model.encoder, cohort, compute))

    return metrics
