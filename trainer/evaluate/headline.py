"""The numbers of an evaluation that say whether an answer can be believed, flat and by fixed names, for programs."""

from collections.abc import Mapping
from typing import Any

from trainer.metrics.evaluation import Evaluation, Metric

_RENAMED = {
    "macro_f1": "macro_f1",
    "log_loss": "log_loss",
    "base_rate_log_loss": "base_rate_log_loss",
    "ece": "calibration_error",
    "coverage": "coverage",
    "undecided_fraction": "undecided_fraction",
    "same_scanner_macro_f1": "same_scanner_macro_f1",
    "changed_scanner_macro_f1": "changed_scanner_macro_f1",
    "atrophy_spearman": "told_change_spearman",
    "smallest_change": "smallest_change",
}
"""Name here: name among the metrics."""


def headline(evaluation: Evaluation) -> dict[str, Any]:
    """Value of each headline metric; None where it was not measured.

    `macro_f1_interval` and `ece_interval` are the ends of 95 % intervals over people, `tissue_ridge_macro_f1` is the
    control's; `flagged` has the share of held-out scans and pairs that are flagged, and how many were tried, by kind.
    """
    found: dict[str, Any] = {name: _value(evaluation.metrics, key) for name, key in _RENAMED.items()}
    for name in ("macro_f1", "ece"):
        metric = evaluation.metrics.get(_RENAMED[name])
        found[f"{name}_interval"] = None if metric is None or metric.low is None else [metric.low, metric.high]
    ridge = next((control.scores for control in evaluation.controls if control.name == "tissue_ridge"), {})
    found["tissue_ridge_macro_f1"] = _value(ridge, "macro_f1")
    found["flagged"] = {kind: one.model_dump() for kind, one in evaluation.flagged.items()}
    return found


def _value(metrics: Mapping[str, Metric], name: str) -> float | None:
    metric = metrics.get(name)
    return None if metric is None else metric.value
