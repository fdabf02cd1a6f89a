"""An artefact's model card as Markdown, after Mitchell et al. 2019; pure: a manifest in, text out.

Every figure is the manifest's. What the manifest does not say is written as "not stated", never left to be guessed.
"""

from collections.abc import Iterable, Sequence

from preprocess.manifest import Control, Guarantee, Manifest, Metric

_TITLES = {
    "macro_f1": "macro-F1 of improved, stable and declined",
    "log_loss": "log loss, nats (chance: the base rates)",
    "brier": "Brier score",
    "calibration_error": "expected calibration error",
    "mae": "mean absolute error of the score, points",
    "spearman": "rank correlation of predicted with true score",
    "retrieval_at_1": "nearest other-day scan is of the same person",
    "severity_tau_b": "Kendall's tau of severity with grade",
}
_FIRST = ("macro_f1", "severity_tau_b", "accuracy", "balanced_accuracy", "log_loss", "brier", "calibration_error")
_CONTROLS = {
    "gap_days": "the gap in days alone",
    "scanner": "the scanners alone",
    "majority": "always the majority class",
    "shuffled_labels": "shuffled labels",
}
_TASKS = {
    "progression": "Compares two scans of one person",
    "severity": "Tells how far a scan lies from normal ones",
    "embedding": "Embeds scans, and answers nothing of them",
}
_OUT_OF_SCOPE = {
    "progression": (
        "Diagnosis, prognosis, triage, or any decision about a patient.",
        "Two scans of different people, of different modalities or contrasts, or of one day: they show no progression.",
        "Scans of another modality, body part or preprocessing than the one below, or of people unlike those of the "
        "data: nothing is known of the answers there.",
        "The cause of a change: the model says that scans differ as those of people whose score changed, and no more.",
    ),
    "embedding": (
        "Diagnosis, prognosis, triage, or any decision about a patient.",
        "Reading the distance of two scans of a person as change: scanner, pose and noise move embeddings too.",
        "Scans of another modality, body part or preprocessing than the one below, or of people unlike those of the "
        "data: nothing is known of their embeddings.",
    ),
    "severity": (
        "Diagnosis, prognosis, triage, or any decision about a patient.",
        "Telling diseases apart: the distance says how far from normal, never which disease.",
        "Scans of another modality, body part or preprocessing than the one below, or of people unlike those of the "
        "data: nothing is known of the answers there.",
    ),
}
_SIENA = (
    "As context, not as a comparison: SIENA, which measures the change of brain volume between two scans, has a "
    "published error of 0.35 % (median) and 1.37 % (90th percentile) of the brain's volume between back-to-back scans "
    "(Cover et al. 2011, doi:10.1016/j.pscychresns.2011.02.012). Points of a score and per cent of a volume are "
    "different units."
)


def render_card(manifest: Manifest) -> str:
    """The card, ending with a line feed."""
    training = manifest.training
    lines = [
        f"# {_cell(manifest.name)} {_cell(manifest.version)}",
        "",
        "> **For research only.** Not a medical device; no basis for a diagnosis or a treatment.",
        "",
        f"{_TASKS[manifest.kind]} ({manifest.inputs.modality}); trained with {manifest.method} on the score "
        f"{manifest.outcome.name}.",
        *_section("Data", _data(manifest)),
        *_section("Intended use", [manifest.intended_use]),
        *_section("Out of scope", [f"- {sentence}" for sentence in _OUT_OF_SCOPE[manifest.kind]]),
        *_section("Metrics", _metrics(manifest)),
        *_section("Calibration", _calibration(manifest)),
        *_section("Guarantees", _guarantees(manifest)),
        *_section("Limits", [f"- {sentence}" for sentence in manifest.limitations] or ["None stated."]),
        *_section("Provenance", _provenance(manifest)),
        *_section(
            "How to cite",
            [
                f"{manifest.name}, version {manifest.version}, exported {manifest.created:%Y-%m-%d} by interscan "
                f"(revision {training.git_revision}); model {training.checkpoint}. Cite the method's paper too: "
                f"docs/methods has one page for each ({manifest.method}).",
            ],
        ),
    ]
    return "\n".join(lines) + "\n"


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return ["", f"## {title}", "", *lines]


def _data(manifest: Manifest) -> list[str]:
    data, outcome, people = manifest.data, manifest.outcome, manifest.training.num_subjects
    is_known = data is not None and data.is_synthetic is not None
    synthetic = "yes: generated scans, no patients" if is_known else "not stated"
    cohorts = "not stated" if data is None or not data.cohorts else ", ".join(data.cohorts)
    better = "higher is better" if outcome.higher_is_better else "lower is better"
    source = f"; {outcome.source}" if outcome.source else ""
    return [
        *_table(
            ("", ""),
            [
                ("synthetic", synthetic),
                ("cohorts", cohorts),
                ("scans in the store", "not stated" if data is None else f"{data.num_scans}"),
                ("people", ", ".join(f"{count} {part}" for part, count in people.items()) or "not stated"),
                ("score", f"{outcome.name}, {better}"),
                ("stable below a change of", f"{outcome.threshold:g} points{source}"),
            ],
        ),
        "",
        "People of the test part were seen neither in training nor in any choice; people who share a scan of equal "
        "content stand on one side.",
    ]


def _metrics(manifest: Manifest) -> list[str]:
    if not manifest.metrics:
        return ["Not stated."]
    known = [name for name in _FIRST if name in manifest.metrics]
    names = [*known, *(name for name in manifest.metrics if name not in known)]
    rows = [
        (
            _TITLES.get(name, name.replace("_", " ")),
            _number(metric.value),
            _interval(metric),
            _number(metric.chance),
            "" if metric.num is None else f"{metric.num}",
        )
        for name, metric in ((name, manifest.metrics[name]) for name in names)
    ]
    lines = [
        "On the test part; intervals of 95 % over people.",
        "",
        *_table(("metric", "value", "interval", "chance", "cases"), rows),
        "",
    ]
    if manifest.kind != "progression":
        return lines[:-1]
    if not manifest.controls:
        return [*lines, "Controls: not stated."]
    controls = [
        (
            _CONTROLS.get(control.name, control.name),
            _number(None if control.macro_f1 is None else control.macro_f1.value),
            _lead(control),
        )
        for control in manifest.controls
    ]
    return [
        *lines,
        "Controls never see a scan, and answer for the same pairs:",
        "",
        *_table(("control", "macro-F1", "lead of the model"), controls),
    ]


def _lead(control: Control) -> str:
    if control.lead is not None:
        return f"{control.lead.value:+.3g} {_interval(control.lead)}".rstrip()
    return "not stated" if control.p_value is None else f"p = {control.p_value:.2g}"


def _calibration(manifest: Manifest) -> list[str]:
    calibration = manifest.calibration
    if calibration is None:
        return ["A distance is answered, and no probability."]
    loss = manifest.metrics.get("log_loss")
    error = calibration.expected_calibration_error
    lines = []
    if loss is None or loss.chance is None:
        lines.append("- Log loss against the base rates: not stated.")
    else:
        side = "below" if loss.value < loss.chance else "**not below**"
        meaning = "" if loss.value < loss.chance else ": stating the frequencies of the answers would have been better"
        lines.append(
            f"- Log loss {loss.value:.3f} on the test part, {side} the {loss.chance:.3f} of the base rates{meaning}."
        )
    lines.append(f"- Expected calibration error: {'not stated' if error is None else f'{error:.3f}'}.")
    lines.append(f"- Calibrated on {calibration.num_pairs} pairs of people whom no network was trained on.")
    return [*lines, "", "### Prediction sets", "", *_prediction_sets(manifest)]


def _prediction_sets(manifest: Manifest) -> list[str]:
    decision, found = manifest.decision, manifest.metrics.get("coverage")
    if decision is None:
        return ["Not stated."]
    least = ", ".join(f"{answer} {least:.2f}" for answer, least in decision.least_probability.items())
    lines = [
        f"- An answer is in the set where its probability is at least: {least}. Meant to hold the true answer in "
        f"{decision.coverage:.0%} of pairs; from {decision.num_pairs} pairs of {decision.num_people} people whom no "
        "network behind the answer had seen.",
        f"- Log loss on these pairs {decision.log_loss:.3f}, of their base rates {decision.base_rate_log_loss:.3f}: "
        f"{'calibrated' if decision.is_calibrated else '**uncalibrated**'}.",
    ]
    if found is not None:
        lines.append(f"- Coverage measured on the test part: {found.value:.0%} {_interval(found)}".rstrip() + ".")
    return lines


def _guarantees(manifest: Manifest) -> list[str]:
    lines = [f"- {sentence}" for sentence in manifest.guarantees]
    if not manifest.measured:
        return [*lines, "", "Measured properties: not stated."]
    rows = [
        (
            one.name.replace("_", " ") + (" (exact)" if one.is_exact else ""),
            _found(one),
            one.wanted,
            {True: "yes", False: "**no**", None: ""}[one.holds],
            f"{one.num}",
            "" if one.typical is None else f"{one.typical:.2f}",
            one.how,
        )
        for one in manifest.measured
    ]
    heading = ("property", "found", "wanted", "holds", "cases", "median change, points", "how")
    return [*lines, "", *_table(heading, rows), "", _SIENA]


def _found(one: Guarantee) -> str:
    return f"{one.value:.3g}{' points' if one.unit == 'points' else ''}"


def _provenance(manifest: Manifest) -> list[str]:
    inputs, training = manifest.inputs, manifest.training
    grid = " x ".join(map(str, inputs.volume_recipe.row_shape(inputs.modality) or ()))
    return _table(
        ("", ""),
        [
            ("version", manifest.version),
            ("exported", f"{manifest.created:%Y-%m-%d %H:%M} UTC"),
            ("recipe", str(training.recipe.get("name", "not stated"))),
            ("inputs", f"{inputs.modality}, {grid or 'shape not stated'}"),
            ("preprocessing fingerprint", inputs.fingerprint),
            ("index of the store, SHA-256", training.store_index_sha256),
            ("model, SHA-256", training.checkpoint),
            ("git revision", training.git_revision),
            ("torch", training.torch_version),
        ],
    )


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    def row(cells: Sequence[str]) -> str:
        return f"| {' | '.join(map(_cell, cells))} |"

    return [row(heading), f"|{'---|' * len(heading)}", *map(row, rows)]


def _cell(text: str) -> str:
    """Text that cannot end a cell, a row or a heading."""
    return " ".join(text.split()).replace("|", "\\|")


def _number(value: float | None) -> str:
    return "not stated" if value is None else f"{value:.3g}"


def _interval(metric: Metric) -> str:
    return "" if metric.low is None or metric.high is None else f"({metric.low:.3g} to {metric.high:.3g})"
