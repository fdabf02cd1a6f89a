"""From a model and prepared scans to the answer; shared by the REST routes and `predict`, and free of HTTP."""

import math

import numpy as np
import numpy.typing as npt

from app import references
from app.inputs import PreparedScan
from app.registry import LoadedModel
from app.schemas import (
    Change,
    EmbeddingAnswer,
    FindingModel,
    PairedScan,
    Probabilities,
    ProgressionAnswer,
    Provenance,
    ScanFacts,
    SeverityAnswer,
    Uncertainty,
)
from preprocess.distances import cosine_distance
from preprocess.manifest import Manifest, Metric
from preprocess.types import PROGRESSIONS, FloatArray, Progression

AMBIGUOUS_MARGIN = 0.10
"""Below this difference between the two highest probabilities a person should not read the first as the answer."""
HEADLINE_METRIC = "macro_f1"
SEVERITY_METRIC = "severity_tau_b"
_RESEARCH = "For research only: not a medical device, not for decisions about a patient."
_FEW_NOISE_PAIRS = 20
"""With fewer, a 95th percentile is the largest value seen."""


def answer_embedding(model: LoadedModel, scan: PreparedScan) -> EmbeddingAnswer:
    """Embed one scan; a model of kind severity tells how far it lies from normal too."""
    embedding_E = model.engine.embed(scan.voxels_CDHW[None])[0]
    manifest = model.manifest
    return EmbeddingAnswer(
        embedding=embedding_E.tolist(),
        width=len(embedding_E),
        model=manifest.name,
        version=manifest.version,
        fingerprint=manifest.inputs.fingerprint,
        scan=_facts(model, scan, embedding_E),
        severity=_severity(model, embedding_E),
    )


def answer_progression(
    model: LoadedModel, earlier: PreparedScan, later: PreparedScan, *, gap_days: float | None = None
) -> ProgressionAnswer:
    """Tell what changed between two scans of one person.

    Args:
        model: loaded and checked.
        earlier: the scan acquired first.
        later: the scan acquired second.
        gap_days: days between them where known; the model does not use it.

    Returns:
        The answer, with everything needed to judge it.
    """
    embeddings_2E = np.stack([model.engine.embed(scan.voxels_CDHW[None])[0] for scan in (earlier, later)])
    probabilities_3 = model.engine.compare(earlier.voxels_CDHW[None], later.voxels_CDHW[None])[0]
    is_same_scan = earlier.sha256 == later.sha256 or np.array_equal(earlier.voxels_CDHW, later.voxels_CDHW)
    top: Progression = PROGRESSIONS[int(np.argmax(probabilities_3))]
    uncertainty = judge(probabilities_3)
    change = _change(model, embeddings_2E[0], embeddings_2E[1])
    paired = [_paired(model, scan, vector) for scan, vector in zip((earlier, later), embeddings_2E, strict=True)]
    cautions = [
        *_pair_cautions(earlier, later, is_same_scan=is_same_scan, gap_days=gap_days),
        *_scan_cautions(paired[0], paired[1]),
        *_change_cautions(change, uncertainty, is_same_scan=is_same_scan),
        *_model_cautions(model.manifest),
    ]
    improved, stable, declined = (float(value) for value in probabilities_3)
    return ProgressionAnswer(
        progression="stable" if is_same_scan else top,
        probabilities=Probabilities(improved=improved, stable=stable, declined=declined),
        uncertainty=uncertainty,
        caution=cautions,
        change=change,
        outcome=model.manifest.outcome,
        gap_days=gap_days,
        is_same_scan=is_same_scan,
        earlier=paired[0],
        later=paired[1],
        provenance=provenance(model.manifest),
    )


def judge(probabilities_3: FloatArray) -> Uncertainty:
    """Entropy over ln 3, the highest probability, and its margin over the second."""
    probabilities = [float(value) for value in probabilities_3]
    entropy = -sum(value * math.log(value) for value in probabilities if value > 0) / math.log(3)
    second, first = sorted(probabilities)[-2:]
    margin = first - second
    return Uncertainty(
        entropy=min(max(entropy, 0.0), 1.0),
        top_probability=first,
        margin=margin,
        is_ambiguous=margin < AMBIGUOUS_MARGIN,
    )


def provenance(manifest: Manifest) -> Provenance:
    """Where a model's answers come from."""
    return Provenance(
        model=manifest.name,
        version=manifest.version,
        created=manifest.created,
        method=manifest.method,
        fingerprint=manifest.inputs.fingerprint,
        training_run=manifest.training.run_uri.rstrip("/").rsplit("/", 1)[-1],
        metrics=manifest.metrics,
    )


def chance_caution(metric: Metric | None, title: str = "macro-F1") -> str | None:
    """A sentence when the held-out metric is unknown or not shown to be above chance."""
    if metric is None:
        return f"The model comes without a held-out {title}: how often it is right is unknown."
    # Without an interval, over fewer subjects than one needs, no value shows anything.
    if metric.chance is None or (metric.low is not None and metric.low > metric.chance):
        return None
    between = "" if metric.low is None or metric.high is None else f" ({metric.low:.2f} to {metric.high:.2f})"
    return (
        f"The model is not shown to be better than chance: held-out {title} {metric.value:.2f}{between}, "
        f"chance {metric.chance:.2f}."
    )


def _facts(model: LoadedModel, scan: PreparedScan, embedding_E: FloatArray) -> ScanFacts:
    return ScanFacts(
        sha256=scan.sha256,
        findings=[FindingModel.of(finding) for finding in scan.findings],
        out_of_distribution=model.references.out_of_distribution(embedding_E),
    )


def _severity(model: LoadedModel, embedding_E: FloatArray) -> SeverityAnswer | None:
    manifest = model.manifest
    if model.severity is None or manifest.anchor is None:
        return None
    distance = float(model.severity.distances(embedding_E[None])[0])
    by_chance = chance_caution(manifest.metrics.get(SEVERITY_METRIC), "Kendall's tau of distance with grade")
    kind_of_answer = "The distance tells how far from normal, never which disease."
    return SeverityAnswer(
        distance=distance,
        outcome=manifest.outcome,
        normal=manifest.anchor.normal,
        grades=model.severity.grades(distance),
        caution=[*([] if by_chance is None else [by_chance]), kind_of_answer, _RESEARCH],
    )


def _paired(model: LoadedModel, scan: PreparedScan, embedding_E: npt.NDArray[np.float32]) -> PairedScan:
    facts = _facts(model, scan, embedding_E)
    return PairedScan(**dict(facts), neighbours=model.references.neighbours(embedding_E))


def _change(model: LoadedModel, earlier_E: FloatArray, later_E: FloatArray) -> Change:
    distance = cosine_distance(earlier_E, later_E)
    noise = references.stand_among(model.references.noise_distances_P, distance)
    return Change(
        distance=distance,
        noise_floor=noise,
        within_noise_floor=None if noise is None else distance <= noise.percentile_95,
        between_visits=references.stand_among(model.references.change_distances_P, distance),
    )


def _pair_cautions(
    earlier: PreparedScan, later: PreparedScan, *, is_same_scan: bool, gap_days: float | None
) -> list[str]:
    if earlier.sha256 == later.sha256:
        same = "Both scans are the same file or array"
        return [f"{same}: there is nothing to compare, so the answer is stable by definition."]
    if is_same_scan:
        return ["Both scans hold the same voxels: there is nothing to compare, so the answer is stable by definition."]
    if gap_days == 0:
        return ["Both scans are of the same day: a difference is measurement noise, not change."]
    return []


def _scan_cautions(earlier: PairedScan, later: PairedScan) -> list[str]:
    return [
        f"The {name} scan lies outside the training distribution: it is farther away than "
        f"{scan.out_of_distribution.percentile:.0f} % of the validation scans."
        for name, scan in (("earlier", earlier), ("later", later))
        if scan.out_of_distribution.is_outside
    ]


def _change_cautions(change: Change, uncertainty: Uncertainty, *, is_same_scan: bool) -> list[str]:
    sentences = []
    noise = change.noise_floor
    if noise is None:
        sentences.append("There are no scan-rescan references: whether the change exceeds noise is unknown.")
    else:
        if change.within_noise_floor and not is_same_scan:
            sentences.append("The change is within scan-rescan noise: a repeat on the same day could look like this.")
        if noise.count < _FEW_NOISE_PAIRS:
            sentences.append(f"The noise floor rests on only {noise.count} scan-rescan pairs.")
    if uncertainty.is_ambiguous and not is_same_scan:
        sentences.append(f"The two most probable classes are only {uncertainty.margin:.2f} apart: read them together.")
    return sentences


def _model_cautions(manifest: Manifest) -> list[str]:
    by_chance = chance_caution(manifest.metrics.get(HEADLINE_METRIC))
    return [_RESEARCH] if by_chance is None else [by_chance, _RESEARCH]
