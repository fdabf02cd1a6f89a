"""What the training subjects alone decide: score statistics, and the objectives built with them."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from preprocess.errors import UsageError
from trainer.data.cohort import Cohort
from trainer.objectives.terms import InfoNce, Learner, Objective
from trainer.recipe import LearnerTerm, Term


@dataclass(frozen=True, slots=True)
class ScoreStatistics:
    """Mean, standard deviation and range of the training subjects' raw scores."""

    mean: float
    sd: float
    range: float

    def to_dict(self) -> dict[str, float]:
        """Plain values, for JSON."""
        return asdict(self)


def score_statistics(training: Cohort) -> ScoreStatistics | None:
    """Statistics of the known scores; None when fewer than two differ."""
    known = training.scores_N[~np.isnan(training.scores_N)]
    if len(known) < 2 or known.min() == known.max():
        return None
    return ScoreStatistics(float(known.mean()), float(known.std()), float(np.ptp(known)))


def build_objectives(
    terms: Sequence[Term], statistics: ScoreStatistics | None, *, outcome: str, outcome_threshold: float
) -> list[Objective]:
    """The recipe's terms as functions of a batch.

    Raises:
        UsageError: a term needs scores and the training subjects have none that differ.
    """
    objectives: list[Objective] = []
    for term in terms:
        if not isinstance(term, LearnerTerm):
            objectives.append(InfoNce(weight=term.weight, temperature=term.temperature))
            continue
        if statistics is None:
            raise UsageError(
                f"objective learner needs scores and the training subjects have no two different {outcome} scores; "
                "check the tables, or choose a recipe without scores such as clinimcl"
            )
        objectives.append(
            Learner(
                weight=term.weight,
                variant=term.variant,
                contrast_weight=term.contrast_weight,
                margin=term.margin,
                threshold=outcome_threshold if term.threshold is None else term.threshold,
                score_mean=statistics.mean,
                score_sd=statistics.sd,
                score_range=statistics.range,
            )
        )
    return objectives
