"""What an artefact's answers are decided with: thresholds, noise floor and calibration, from a run's result.json."""

from collections.abc import Sequence

import numpy as np

from preprocess.manifest import ChangeNoise, Decision, OutcomeSpec
from preprocess.types import PROGRESSIONS
from trainer.fit.run_files import HeadSummary
from trainer.fit.trained import Trained
from trainer.metrics.pair_distances import exceeded_once_in_twenty


def decision_part(summary: HeadSummary, outcome: OutcomeSpec) -> Decision | None:
    """The manifest's part `decision`; None for a head on embeddings, which predicts no points.

    Args:
        summary: the progression head without its weights.
        outcome: whose points changes are told in.
    """
    change = summary.change
    if change is None:
        return None
    return Decision(
        coverage=change.coverage,
        least_probability=dict(zip(PROGRESSIONS, change.least_probability, strict=True)),
        num_people=change.num_people,
        num_pairs=summary.num_validation,
        noise=_noise(change.noise_changes, outcome),
        other_scanner=_noise(change.other_scanner_errors, outcome),
        error_sd=change.error_sd,
        log_loss=change.log_loss,
        base_rate_log_loss=change.base_rate_log_loss,
        base_rates=dict(zip(PROGRESSIONS, change.base_rates, strict=True)) if change.base_rates else None,
        is_calibrated=change.log_loss < change.base_rate_log_loss,
    )


def _noise(sizes_P: Sequence[float], outcome: OutcomeSpec) -> ChangeNoise | None:
    if not len(sizes_P):
        return None
    return ChangeNoise(
        percentile_95=exceeded_once_in_twenty(sizes_P), num_pairs=len(sizes_P), unit=f"points of {outcome.name}"
    )


def decision_references(trained: Trained) -> dict[str, np.ndarray]:
    """The arrays of `preprocess.manifest.DECISION_REFERENCE_ARRAYS`; none for a head on embeddings."""
    direction_E = trained.change_direction()
    return {} if direction_E is None else {"change_direction_E": direction_E}
