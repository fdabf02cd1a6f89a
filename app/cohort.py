"""How much the people a model was trained on changed, and how often: what an answer is read beside."""

import numpy as np

from app.registry import LoadedModel
from app.schemas import CohortChange, Probabilities
from app.trajectory import DAYS_A_YEAR

FEW_PEOPLE = 20
"""With fewer, the 5th percentile is the smallest value seen."""


def cohort_change(model: LoadedModel, gap_days: float | None) -> CohortChange | None:
    """The true changes of the training people, spread evenly over a time.

    Args:
        model: its references may hold changes a year.
        gap_days: the time; None where it is not known.

    Returns:
        None without a time, or where the artefact holds fewer than `FEW_PEOPLE` changes a year.
    """
    annual_P = model.references.annual_changes_P
    if not gap_days or annual_P is None or annual_P.size < FEW_PEOPLE:
        return None
    low, lower, median, upper, high = np.percentile(annual_P * (gap_days / DAYS_A_YEAR), (5, 25, 50, 75, 95))
    return CohortChange(
        num_people=annual_P.size,
        percentile_5=float(low),
        lower_quartile=float(lower),
        median=float(median),
        upper_quartile=float(upper),
        percentile_95=float(high),
        unit=f"points of {model.manifest.outcome.name}",
    )


def base_rates(model: LoadedModel) -> Probabilities | None:
    """How often each answer was true among the pairs that the model was calibrated on; None where it is not stated."""
    decision = model.manifest.decision
    if decision is None or decision.base_rates is None:
        return None
    return Probabilities(**decision.base_rates)
