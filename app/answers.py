"""From a model and prepared scans to the answer; shared by the REST routes and `predict`, and free of HTTP."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app import checks, references
from app.cohort import base_rates, cohort_change
from app.decision import (
    RESEARCH,
    SDS_OF_95,
    chance_caution,
    change_reasons,
    decide,
    model_reasons,
    noise_floor,
    pair_reasons,
    person_reasons,
    possible_answers,
    scan_reasons,
    worst_first,
)
from app.inputs import PreparedScan
from app.registry import LoadedModel
from app.schemas import (
    Change,
    EmbeddingAnswer,
    FindingModel,
    PairedScan,
    PredictedChange,
    Probabilities,
    ProgressionAnswer,
    Provenance,
    ScanFacts,
    SeverityAnswer,
    Uncertainty,
)
from preprocess.distances import cosine_distance
from preprocess.image_statistics import ImageStatistics
from preprocess.manifest import Manifest
from preprocess.types import PROGRESSIONS, FloatArray, Progression

AMBIGUOUS_MARGIN = 0.10
"""Below this difference between the two highest probabilities a person should not read the first as the answer."""
_AT_ONCE = 2
"""Scans in one forward pass: a pair. More take more memory and are no faster."""
SEVERITY_METRIC = "severity_tau_b"


@dataclass(frozen=True, slots=True)
class SeenScan:
    """What is computed once of each scan, however many pairs it is in.

    Attributes:
        scan: prepared.
        embedding_E: by the model; the one forward pass of its network.
        looks: statistics of the image; None where the artefact has nothing to hold them against.
        facts: where it stands among the artefact's references.
    """

    scan: PreparedScan
    embedding_E: FloatArray
    looks: ImageStatistics | None
    facts: PairedScan

    @property
    def is_flagged(self) -> bool:
        """Whether a check of the image lies beyond its limit."""
        return any(check.is_beyond for check in self.facts.checks)

    def is_same_as(self, other: "SeenScan") -> bool:
        """Whether both are one file, or hold the same voxels."""
        ours, theirs = self.scan, other.scan
        return ours.sha256 == theirs.sha256 or np.array_equal(ours.voxels_CDHW, theirs.voxels_CDHW)


def look(model: LoadedModel, scans: Sequence[PreparedScan]) -> list[SeenScan]:
    """Embed scans, several at once, and hold each against the artefact's references.

    Args:
        model: loaded and checked.
        scans: in any number.
    """
    embeddings_SE = [
        embedding_E
        for start in range(0, len(scans), _AT_ONCE)
        for embedding_E in model.engine.embed(np.stack([scan.voxels_CDHW for scan in scans[start : start + _AT_ONCE]]))
    ]
    return [_seen(model, scan, embedding_E) for scan, embedding_E in zip(scans, embeddings_SE, strict=True)]


def _seen(model: LoadedModel, scan: PreparedScan, embedding_E: FloatArray) -> SeenScan:
    looks = checks.describe(model, scan)
    facts = _facts(model, scan, embedding_E, looks)
    return SeenScan(
        scan=scan,
        embedding_E=embedding_E,
        looks=looks,
        facts=PairedScan(**dict(facts), neighbours=model.references.neighbours(embedding_E)),
    )


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
        scan=_facts(model, scan, embedding_E, checks.describe(model, scan)),
        severity=_severity(model, embedding_E),
    )


def answer_progression(
    model: LoadedModel,
    earlier: PreparedScan,
    later: PreparedScan,
    *,
    gap_days: float | None = None,
    accept_unproven: bool = False,
) -> ProgressionAnswer:
    """Tell what changed between two scans of one person, or that it cannot be told.

    Args:
        model: loaded and checked.
        earlier: the scan acquired first.
        later: the scan acquired second.
        gap_days: days between them where known; the model does not use it.
        accept_unproven: decide even where the model is not shown to be right more often than by chance.

    Returns:
        The answer, with everything needed to judge it.
    """
    return answer_pair(model, *look(model, [earlier, later]), gap_days=gap_days, accept_unproven=accept_unproven)


def answer_pair(
    model: LoadedModel,
    earlier: SeenScan,
    later: SeenScan,
    *,
    gap_days: float | None = None,
    accept_unproven: bool = False,
) -> ProgressionAnswer:
    """As `answer_progression`, of scans that were seen already: no forward pass more.

    With a program of an earlier version there are two more, since it answers from the scans only.
    """
    manifest = model.manifest
    if model.engine.can_judge:
        probabilities_3 = model.engine.judge((later.embedding_E - earlier.embedding_E)[None])[0]
    else:
        probabilities_3 = model.engine.compare(earlier.scan.voxels_CDHW[None], later.scan.voxels_CDHW[None])[0]
    is_same_scan = earlier.is_same_as(later)
    top: Progression = "stable" if is_same_scan else PROGRESSIONS[int(np.argmax(probabilities_3))]
    uncertainty = judge(probabilities_3)
    change = _change(model, earlier.embedding_E, later.embedding_E)
    is_flagged = earlier.is_flagged or later.is_flagged
    of_pair = {} if is_flagged else checks.pair_checks(model, earlier.looks, later.looks)
    same_person, same_scanner = of_pair.get("identity"), of_pair.get("scanner")
    is_other_scanner = same_scanner is not None and same_scanner.is_beyond
    predicted = _predicted_change(model, earlier.embedding_E, later.embedding_E, is_other_scanner=is_other_scanner)
    reasons = [
        *pair_reasons(earlier.scan, later.scan, is_same_scan=is_same_scan, gap_days=gap_days),
        *person_reasons(same_person),
        *scan_reasons("earlier", earlier.facts, earlier.scan.findings),
        *scan_reasons("later", later.facts, later.scan.findings),
        *model_reasons(manifest),
    ]
    prediction_set: tuple[Progression, ...] | None = None
    possible: tuple[Progression, ...] = ("stable",)
    if manifest.decision is not None:
        prediction_set = ("stable",) if is_same_scan else manifest.decision.prediction_set(probabilities_3)
    if not is_same_scan:
        possible, about_set = possible_answers(top, prediction_set, uncertainty)
        reasons += [*about_set, *change_reasons(predicted, change, manifest, same_scanner)]
    reasons = worst_first(reasons)
    codes = list(dict.fromkeys(reason.code for reason in reasons))
    improved, stable, declined = (float(value) for value in probabilities_3)
    return ProgressionAnswer(
        decision=decide(possible, codes, accept_unproven=accept_unproven),
        reasons=codes,
        prediction_set=None if prediction_set is None else list(prediction_set),
        predicted_change=predicted,
        progression=top,
        probabilities=Probabilities(improved=improved, stable=stable, declined=declined),
        base_rates=base_rates(model),
        uncertainty=uncertainty,
        caution=[*(reason.sentence for reason in reasons), RESEARCH],
        change=change,
        cohort_change=cohort_change(model, gap_days),
        outcome=manifest.outcome,
        gap_days=gap_days,
        is_same_scan=is_same_scan,
        same_person=same_person,
        same_scanner=same_scanner,
        earlier=earlier.facts,
        later=later.facts,
        provenance=provenance(manifest),
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


def _facts(model: LoadedModel, scan: PreparedScan, embedding_E: FloatArray, looks: ImageStatistics | None) -> ScanFacts:
    return ScanFacts(
        sha256=scan.sha256,
        findings=[FindingModel.of(finding) for finding in scan.findings],
        out_of_distribution=model.references.out_of_distribution(embedding_E),
        checks=checks.scan_checks(model, looks),
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
        caution=[*([] if by_chance is None else [by_chance]), kind_of_answer, RESEARCH],
    )


def _change(model: LoadedModel, earlier_E: FloatArray, later_E: FloatArray) -> Change:
    distance = cosine_distance(earlier_E, later_E)
    noise = references.stand_among(model.references.noise_distances_P, distance)
    return Change(
        distance=distance,
        noise_floor=noise,
        within_noise_floor=None if noise is None else distance <= noise.percentile_95,
        between_visits=references.stand_among(model.references.change_distances_P, distance),
    )


def _predicted_change(
    model: LoadedModel, earlier_E: FloatArray, later_E: FloatArray, *, is_other_scanner: bool
) -> PredictedChange | None:
    decision, direction_E = model.manifest.decision, model.references.change_direction_E
    if decision is None or direction_E is None:
        return None
    # The difference first: exchanging the scans then changes the sign and nothing else.
    points = float((later_E.astype(np.float64) - earlier_E) @ direction_E)
    margin = SDS_OF_95 * decision.error_sd
    floor = noise_floor(decision, is_other_scanner=is_other_scanner)
    noise = None if floor is None else floor.percentile_95
    return PredictedChange(
        points=points,
        low=points - margin,
        high=points + margin,
        unit=f"points of {model.manifest.outcome.name}",
        noise_floor_95=noise,
        within_noise_floor=None if noise is None else abs(points) <= noise,
    )
