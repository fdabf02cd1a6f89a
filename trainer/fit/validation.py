"""The validation metrics of an epoch: embeds the validation subjects' scans and measures what the recipe is for."""

from collections.abc import Callable

import numpy as np
import torch

from preprocess.errors import UsageError
from trainer.data.cohort import Cohort
from trainer.data.pairs import Pairs, visit_pairs
from trainer.fit.model import TrainingModel
from trainer.fit.precision import Compute
from trainer.fit.supply import Supply
from trainer.metrics.embedding_space import same_subject_retrieval
from trainer.objectives.base import ScoreStatistics
from trainer.recipe import TrainRecipe

Figures = dict[str, float]
Figure = Callable[[TrainingModel, np.ndarray], Figures]
"""From the model and embeddings (N, E) to metrics by name."""


def validation_metrics(
    supply: Supply, cohort: Cohort, compute: Compute, figures: list[Figure]
) -> Callable[[TrainingModel], Figures]:
    """A function that embeds the validation subjects and measures the embeddings; without figures it embeds nothing.

    Args:
        supply: the run's supply, whose cache and resident volumes serve.
        cohort: the validation subjects' scans.
        compute: device and number format.
        figures: what is measured, from `validation_figures`.
    """

    def metrics(model: TrainingModel) -> Figures:
        found: Figures = {}
        if figures:
            embeddings_NE = supply.embed(model.encoder, cohort, compute)
            for figure in figures:
                found |= figure(model, embeddings_NE)
        return found

    return metrics


def validation_figures(cohort: Cohort, recipe: TrainRecipe, statistics: ScoreStatistics | None) -> list[Figure]:
    """What can be measured on these subjects: `retrieval_at_1`, and for a head on scores `change_error`.

    Args:
        cohort: the validation subjects' scans.
        recipe: outcome, head, and what checkpoint.best names.
        statistics: mean and standard deviation of the training scores; None where no score is learned.

    Raises:
        UsageError: checkpoint.best is none of them.
    """
    visits = visit_pairs(cohort, recipe.outcome, which="consecutive")
    labelled = visits.labelled()
    can_retrieve = len(visits) > 0 and len(cohort.indices_by_subject) > 1
    tells_change = recipe.head.on == "score" and statistics is not None and len(labelled) > 0
    best, num = recipe.checkpoint.best, len(cohort.indices_by_subject)
    for name, why, is_there in (
        ("retrieval_at_1", "no visits to find", can_retrieve),
        ("change_error", f"no two visits with {recipe.outcome.name}", tells_change),
    ):
        if best == name and not is_there:
            raise UsageError(
                f"checkpoint.best is {name} and the {num} validation subjects have {why}; set checkpoint.best = "
                "'loss', or raise split.validation"
            )
    figures: list[Figure] = []
    if can_retrieve:
        figures.append(lambda _, embeddings_NE: _retrieval(embeddings_NE, cohort))
    if tells_change and statistics is not None:
        sd = statistics.sd
        figures.append(lambda model, embeddings_NE: _change_error(model, embeddings_NE, labelled, sd))
    return figures


def _retrieval(embeddings_NE: np.ndarray, cohort: Cohort) -> Figures:
    found = same_subject_retrieval(embeddings_NE, cohort.subject_ids, cohort.days_N)
    return {"retrieval_at_1": found.value, "retrieval_chance": found.chance}


@torch.inference_mode()
def _change_error(model: TrainingModel, embeddings_NE: np.ndarray, visits: Pairs, sd: float) -> Figures:
    """Root mean square of told minus true change between consecutive visits, in points of the score."""
    device = next(model.score_head.parameters()).device
    scores_N = model.score_head(torch.as_tensor(embeddings_NE, device=device).float()).double().cpu().numpy() * sd
    errors_P = scores_N[visits.later_P] - scores_N[visits.earlier_P] - visits.delta_P
    return {"change_error": float(np.sqrt(np.mean(errors_P**2)))}
