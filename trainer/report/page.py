"""One self-contained HTML page from an Evaluation: the verdict first, then metrics, plots, provenance and caveats.

No script, no font, no address outside the page: it can be mailed, printed and read in ten years. All text is escaped.
The layout is in report.html.j2; the words about each metric and plot are here.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import jinja2

from trainer.metrics.evaluation import ControlResult, Evaluation, HistorySummary, Metric, SplitCount
from trainer.report.flag_rows import flag_row
from trainer.report.verdict import CONTROL_WORDS, find_caveats, judge

__all__ = ["METRICS", "ControlResult", "Evaluation", "HistorySummary", "Metric", "SplitCount", "render_report"]


@dataclass(frozen=True, slots=True)
class MetricText:
    """How the table speaks of a metric.

    Attributes:
        title: what it is called.
        better: which direction is good; `either` where it is only context.
        meaning: one clause for someone who has not met it.
        axis: ends of the little interval drawing; None draws none.
    """

    title: str
    better: Literal["higher", "lower", "either"]
    meaning: str
    axis: tuple[float, float] | None = None


METRICS: dict[str, MetricText] = {
    "macro_f1": MetricText("Macro-F1", "higher", "hits and false alarms, each class counting alike", (0, 1)),
    "same_scanner_macro_f1": MetricText(
        "Macro-F1, one scanner", "higher", "the pairs with both scans from one scanner", (0, 1)
    ),
    "changed_scanner_macro_f1": MetricText(
        "Macro-F1, scanner changed", "higher", "the pairs between two scanners", (0, 1)
    ),
    "accuracy": MetricText("Accuracy", "higher", "share of pairs called right", (0, 1)),
    "balanced_accuracy": MetricText("Balanced accuracy", "higher", "mean share found, over the classes", (0, 1)),
    "recall_improved": MetricText("Found: improved", "higher", "share of improved pairs called so", (0, 1)),
    "recall_stable": MetricText("Found: stable", "higher", "share of stable pairs called so", (0, 1)),
    "recall_declined": MetricText("Found: declined", "higher", "share of declined pairs called so", (0, 1)),
    "log_loss": MetricText("Log loss", "lower", "nats; punishes confident errors"),
    "base_rate_log_loss": MetricText("Log loss of the base rates", "either", "always stating how often each class is"),
    "brier": MetricText("Brier score", "lower", "squared error of the probabilities, 0 to 2", (0, 2)),
    "calibration_error": MetricText("Calibration error", "lower", "stated probability against fraction right", (0, 1)),
    "coverage": MetricText("Coverage", "either", "share of pairs whose prediction set holds the truth", (0, 1)),
    "prediction_set_size": MetricText("Size of the prediction set", "lower", "answers not ruled out, 1 to 3"),
    "undecided_fraction": MetricText(
        "Undecided", "lower", "share of pairs with several answers, or a change within noise", (0, 1)
    ),
    "several_answers_fraction": MetricText(
        "Several answers", "lower", "share of pairs whose prediction set is not one answer", (0, 1)
    ),
    "decided_accuracy": MetricText("Accuracy where decided", "higher", "share right among decided pairs", (0, 1)),
    "told_change_slope": MetricText("Told change, slope", "either", "told against true change; 1 tells all of it"),
    "told_change_spearman": MetricText("Told change, rank", "higher", "Spearman's rho with the true change", (-1, 1)),
    "told_change_error": MetricText("Told change, error", "lower", "root mean square, in points of the score"),
    "noise_change_95": MetricText("Noise floor of the change", "lower", "points that rescans exceed once in twenty"),
    "smallest_change": MetricText("Smallest change told", "lower", "points told beyond noise in 90 % of pairs"),
    "change_correlation": MetricText(
        "Distance follows change", "higher", "Spearman's rho of |change of score| with cosine distance", (-1, 1)
    ),
    "stranger_correlation": MetricText(
        "Distance follows difference", "higher", "Spearman's rho of |score difference| between people", (-1, 1)
    ),
    "probe_spearman": MetricText("Linear probe, rank", "higher", "Spearman's rho of predicted and true score", (-1, 1)),
    "probe_mae": MetricText("Linear probe, MAE", "lower", "on frozen embeddings, in units of the score"),
    "probe_mse": MetricText("Linear probe, MSE", "lower", "on frozen embeddings, in squared units of the score"),
    "probe_many_mae": MetricText("MAE, many-shot", "lower", "scores with more than 100 training scans"),
    "probe_medium_mae": MetricText("MAE, medium-shot", "lower", "scores with 20 to 100 training scans"),
    "probe_few_mae": MetricText("MAE, few-shot", "lower", "scores with fewer than 20 training scans"),
    "severity_macro_f1": MetricText("Grade, macro-F1", "higher", "grades told by a head on frozen embeddings", (0, 1)),
    "severity_macro_recall": MetricText("Grade, recall", "higher", "mean share found, over the grades", (0, 1)),
    "severity_maee": MetricText("Grade, MAEE", "lower", "mean of exp(|grade - predicted|); perfect is 1"),
    "severity_tau_b": MetricText(
        "Severity order", "higher", "Kendall's tau of grade with distance from normal", (-1, 1)
    ),
    "severity_tau_b_abnormal": MetricText("Order of the abnormal", "higher", "the same among abnormal scans", (-1, 1)),
    "severity_auc_abnormal": MetricText("Normal against abnormal", "higher", "AUC of the distance from normal", (0, 1)),
    "class_auc": MetricText("Area under the ROC curve", "higher", "of the fusion head's probability", (0, 1)),
    "class_balanced_accuracy": MetricText("Balanced accuracy of classes", "higher", "mean share found", (0, 1)),
    "class_sensitivity": MetricText("Sensitivity", "higher", "share of the positive class found", (0, 1)),
    "class_specificity": MetricText("Specificity", "higher", "share of the negative class found", (0, 1)),
    "mae": MetricText("Mean absolute error", "lower", "in units of the score"),
    "spearman": MetricText("Rank correlation", "higher", "Spearman's rho of predicted with true score", (-1, 1)),
    "r2": MetricText("R²", "higher", "variance explained; 0 is the mean of the test scores"),
    "retrieval_at_1": MetricText("Retrieval@1", "higher", "nearest other-day scan is of the same person", (0, 1)),
    "verification_auc": MetricText(
        "Verification, AUC", "higher", "chance that a person's own visits lie nearer than two strangers", (0, 1)
    ),
    "verification_eer": MetricText(
        "Verification, equal error rate", "lower", "own visits refused = strangers accepted", (0, 1)
    ),
    "projection_retrieval_at_1": MetricText("Projection: retrieval@1", "higher", "of what contrasts train", (0, 1)),
    "projection_verification_auc": MetricText("Projection: verification, AUC", "higher", "likewise", (0, 1)),
    "projection_verification_eer": MetricText("Projection: equal error rate", "lower", "likewise", (0, 1)),
    "untrained_macro_f1": MetricText(
        "Untrained: macro-F1", "higher", "a head on the embeddings of the same network before training", (0, 1)
    ),
    "untrained_retrieval_at_1": MetricText("Untrained: retrieval@1", "higher", "before training", (0, 1)),
    "untrained_verification_auc": MetricText("Untrained: verification, AUC", "higher", "before training", (0, 1)),
    "untrained_verification_eer": MetricText("Untrained: equal error rate", "lower", "before training", (0, 1)),
    "within_distance": MetricText("Distance, visit to visit", "either", "mean over consecutive visits", (0, 2)),
    "between_distance": MetricText("Distance, person to person", "either", "mean over different subjects", (0, 2)),
    "within_between_ratio": MetricText("Within / between", "lower", "1 means visits are like strangers"),
    "noise_floor_median": MetricText("Noise floor, median", "lower", "distance when scanned twice on a day", (0, 2)),
    "noise_floor_95": MetricText("Noise floor, 95th percentile", "lower", "a change below it may be noise", (0, 2)),
    "embedding_spread": MetricText("Spread of the embedding", "either", "near 1 is healthy, near 0 has collapsed"),
}
"""The table's rows, in order. Metrics with other names follow, under their own name."""


@dataclass(frozen=True, slots=True)
class PlotText:
    """How the page introduces a plot: its title, how to read it, the text for those who cannot see it, its room."""

    title: str
    reading: str
    alt: str
    wide: bool = False


PLOTS: dict[str, PlotText] = {
    "confusion": PlotText(
        "What is mistaken for what",
        "Each row is what happened, each column what the model said. A good model is dark along the diagonal; "
        "a dark column is an answer it gives whatever it sees.",
        "Confusion matrix of improved, stable and declined",
    ),
    "reliability": PlotText(
        "Can the probabilities be believed?",
        "Dots on the dashed line are honest; below it the model is surer than it should be. "
        "The number at a dot is how many pairs it stands for.",
        "Fraction right against stated probability",
    ),
    "change": PlotText(
        "Does distance follow change?",
        "Each dot is a pair of scans. A model that sees change puts more distance between scans whose score moved "
        "more; dots under the dashed line moved no more than the same person scanned twice on a day.",
        "Cosine distance of each pair against the size of its score change",
    ),
    "map": PlotText(
        "Where was the change?",
        "The held-out pair with the largest told change: each voxel's part in it, over the later scan, whose right is "
        "on the right. Blue speaks for improvement, orange for decline. It maps what the model told, right or wrong.",
        "Three slices of a scan with a coloured map of the told change",
        wide=True,
    ),
    "distances": PlotText(
        "How far is a visit, how far a stranger?",
        "Visits of one person should lie left of strangers, and repeats of one day left of visits. "
        "If all three lie on each other, the embedding does not tell people apart.",
        "Histograms of distances within subjects, between subjects and of same-day repeats",
    ),
    "trajectories": PlotText(
        "The paths of held-out people",
        "Each arrow leads from one visit to the next. Direction and length on such a map are only roughly those of "
        "the embedding: look for colours that go one way together, and check the claim in the table.",
        "Map of held-out scans with arrows between visits, coloured by progression",
        wide=True,
    ),
    "epochs": PlotText(
        "The paths as training went on",
        "One map for each epoch whose checkpoint was kept (checkpoint.keep), the same people coloured in all. A model "
        "that learns who is who draws each path together; one that sees change keeps its length and direction.",
        "Maps of held-out scans at several epochs, the visits of a person joined by a line",
        wide=True,
    ),
    "training": PlotText(
        "The training",
        "Loss is divided by that of a model that knows nothing, so 1 is chance. A curve that stays near the dashed "
        "line has learned nothing.",
        "Loss and retrieval by epoch",
        wide=True,
    ),
}
"""The order of plots on the page. Plots with other names follow, under their own name."""


@dataclass(frozen=True, slots=True)
class Bar:
    """An interval drawn in a table cell; positions are 0 to 100 along the axis, None where there is nothing to draw."""

    value: float
    low: float | None
    high: float | None
    chance: float | None
    axis: str


def render_report(evaluation: Evaluation, plots: Mapping[str, bytes], history: Sequence[Mapping[str, float]]) -> str:
    """Render the page.

    Args:
        evaluation: what was found.
        plots: PNG bytes by name; names known to the page are in `PLOTS`.
        history: one mapping per epoch, shown as a folded table; keys become columns.

    Returns:
        HTML without any reference to the outside.
    """
    template_text = resources.files("trainer.report").joinpath("report.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["number"] = _number
    environment.filters["count"] = _count
    columns = list(dict.fromkeys(key for epoch in history for key in epoch))
    return environment.from_string(template_text).render(
        evaluation=evaluation,
        verdict=judge(evaluation),
        rows=[_row(name, evaluation) for name in _ordered(evaluation.metrics, METRICS)],
        controls=[_control_row(one) for one in evaluation.controls if one.lead or one.p_value is not None],
        identity=[row for control in evaluation.controls for row in _identity_rows(control, evaluation)],
        flagged=[flag_row(kind, one) for kind, one in evaluation.flagged.items()],
        model=evaluation.metrics.get("macro_f1"),
        plots=[_plot(name, plots[name]) for name in _ordered(plots, PLOTS)],
        columns=columns,
        history=list(zip(*(_history_column([epoch.get(key) for epoch in history]) for key in columns), strict=True)),
        caveats=list(dict.fromkeys((*evaluation.caveats, *find_caveats(evaluation)))),
        model_bar=_bar(evaluation.metrics["macro_f1"], (0, 1)) if "macro_f1" in evaluation.metrics else None,
    )


def _ordered(names: Mapping[str, object], known: Mapping[str, object]) -> list[str]:
    return [name for name in known if name in names] + [name for name in names if name not in known]


def _row(name: str, evaluation: Evaluation) -> dict[str, object]:
    metric = evaluation.metrics[name]
    text = METRICS.get(name, MetricText(name, "either", ""))
    rivals = [
        (score.value, control.name)
        for control in evaluation.controls
        if text.better != "either" and (score := control.scores.get(name)) is not None and score.value is not None
    ]
    best = (min if text.better == "lower" else max)(rivals, default=None)
    control = None if best is None else (best[0], CONTROL_WORDS.get(best[1], best[1]))
    return {"text": text, "metric": metric, "control": control, "bar": text.axis and _bar(metric, text.axis)}


def _control_row(control: ControlResult) -> dict[str, object]:
    score = control.scores.get("macro_f1")
    lead = control.lead
    if lead is not None and lead.low is not None:
        said = "beaten" if lead.low > 0 else "not beaten"
    elif control.p_value is not None:
        said = f"{'beaten' if control.p_value < 0.05 else 'not beaten'}, p = {control.p_value:.2g}"
    else:
        said = "cannot be told"
    words = CONTROL_WORDS.get(control.name, control.name)
    note = score.note if score is not None and control.p_value is not None else ""
    row: dict[str, object] = {"name": words, "note": note, "score": score, "lead": lead, "said": said}
    return {**row, "loss_lead": control.leads.get("log_loss"), "bar": score and _bar(score, (0, 1))}


def _identity_rows(control: ControlResult, evaluation: Evaluation) -> list[dict[str, object]]:
    """A row for each metric beside macro-F1 by which the model is held against this control."""
    rows: list[dict[str, object]] = []
    for name, lead in control.leads.items():
        if name == "log_loss":  # stands among the controls
            continue
        said = "cannot be told" if lead.low is None else "beaten" if lead.low > 0 else "not beaten"
        words = f"{METRICS[name].title if name in METRICS else name}, {CONTROL_WORDS.get(control.name, control.name)}"
        model, score = evaluation.metrics.get(name), control.scores.get(name)
        rows.append({"name": words, "model": model, "score": score, "lead": lead, "said": said})
    return rows


def _bar(metric: Metric, axis: tuple[float, float]) -> Bar | None:
    if metric.value is None or (metric.low is None and metric.chance is None):
        return None

    def percent(number: float | None) -> float | None:
        return None if number is None else 100 * min(max((number - axis[0]) / (axis[1] - axis[0]), 0), 1)

    value = percent(metric.value)
    assert value is not None
    return Bar(value, percent(metric.low), percent(metric.high), percent(metric.chance), f"{axis[0]:g} to {axis[1]:g}")


def _plot(name: str, png: bytes) -> dict[str, object]:
    text = PLOTS.get(name, PlotText(name, "", name))
    return {"text": text, "data": base64.b64encode(png).decode("ascii")}


def _number(value: float | None, sign: bool = False) -> str:
    """Two or three digits after the point below 100, none above; a dash for what was not measured."""
    if value is None:
        return "–"
    digits = 0 if abs(value) >= 100 else 3 if 0 < abs(value) < 0.1 else 2
    return f"{value:{'+' if sign else ''},.{digits}f}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _history_column(values: Sequence[float | None]) -> list[str]:
    """Whole numbers, such as the epoch, without digits after the point; all others with four."""
    whole = all(value is None or float(value).is_integer() for value in values)
    return ["–" if value is None else f"{value:.0f}" if whole else f"{value:.4g}" for value in values]
