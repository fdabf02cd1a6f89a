"""Whether a pair gets an answer, and why not: each reason as a code for programs and as a sentence for people."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import get_args

from app.inputs import PreparedScan
from app.schemas import Change, Decision, ImageCheck, PairedScan, PredictedChange, ReasonCode, Uncertainty
from preprocess.image_statistics import CheckName
from preprocess.manifest import FEW_NOISE_PAIRS, ChangeNoise, Manifest, Metric
from preprocess.manifest import Decision as ManifestDecision
from preprocess.types import Finding, Progression

HEADLINE_METRIC = "macro_f1"
HARMLESS_FINDINGS = frozenset({"units_converted", "voxel_sizes_unread"})
"""Remarks on a header whose other entries leave no doubt about the voxels."""
CONTRAST_FINDINGS = frozenset({"not_t1_like"})
"""Remarks that a scan is of another contrast than its modality says."""
_LOOKS: dict[CheckName, str] = {
    "layout": "bright and dark parts lie elsewhere",
    "residual": "it has coarse structures that none of them has",
    "extent": "the head fills the box otherwise",
    "brightness": "the middle of the head has other grey values",
    "detail": "it is blurred, noisy or of thick slices",
}
SDS_OF_95 = 1.96
"""Standard deviations on both sides that hold 95 % of a normal distribution."""
RESEARCH = "For research only: not a medical device, not for decisions about a patient."
_NO_DECISION: frozenset[ReasonCode] = frozenset(
    {
        "repeated_scan",
        "not_same_person",
        "not_this_contrast",
        "out_of_distribution",
        "quality",
        "several_answers_possible",
    }
)
_NO_CHANGE: frozenset[ReasonCode] = frozenset({"same_day", "within_noise", "few_noise_pairs", "no_noise_floor"})
"""What keeps from improved and declined, and not from stable."""
_UNPROVEN: frozenset[ReasonCode] = frozenset({"model_not_above_chance", "model_without_metrics", "uncalibrated"})
"""What keeps from every decision unless the caller accepts it."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason, as a code and as a sentence."""

    code: ReasonCode
    sentence: str


def decide(possible: Sequence[Progression], codes: Iterable[ReasonCode], *, accept_unproven: bool = False) -> Decision:
    """The decision for a pair.

        decide(("declined",), [])  # declined
        decide(("declined",), ["within_noise"])  # undecided
        decide(("stable",), ["within_noise"])  # stable

    Args:
        possible: the answers that cannot be ruled out.
        codes: the reasons that hold.
        accept_unproven: decide even where the model is not shown to be right more often than by chance.
    """
    held = frozenset(codes)
    if "same_scan" in held:
        return "stable"
    if len(possible) != 1 or held & _NO_DECISION or (held & _UNPROVEN and not accept_unproven):
        return "undecided"
    return "undecided" if possible[0] != "stable" and held & _NO_CHANGE else possible[0]


def worst_first(reasons: Iterable[Reason]) -> list[Reason]:
    """The reasons in the order of `ReasonCode`."""
    order = get_args(ReasonCode)
    return sorted(reasons, key=lambda reason: order.index(reason.code))


def pair_reasons(
    earlier: PreparedScan, later: PreparedScan, *, is_same_scan: bool, gap_days: float | None
) -> list[Reason]:
    """What the two files alone say."""
    by_definition = "there is nothing to compare, so the answer is stable by definition."
    if earlier.sha256 == later.sha256:
        return [Reason("same_scan", f"Both scans are the same file or array: {by_definition}")]
    if is_same_scan:
        return [Reason("same_scan", f"Both scans hold the same voxels: {by_definition}")]
    if gap_days == 0:
        same_day = "Both scans are of the same day: a difference is measurement noise, not change."
        return [Reason("same_day", same_day)]
    return []


def person_reasons(same_person: ImageCheck | None, heads: str = "two heads") -> list[Reason]:
    """Whether the two heads may be those of two people.

    Args:
        same_person: None where that is not checked.
        heads: what the sentence calls them.
    """
    if same_person is None or not same_person.is_beyond:
        return []
    sentence = (
        f"The {heads} may not be of one person: they differ by {same_person.value:.1f}, and "
        f"{same_person.percentile:g} % of two visits of one person by less than {same_person.limit:.1f}."
    )
    return [Reason("not_same_person", sentence)]


def scan_reasons(name: str, scan: PairedScan, findings: Iterable[Finding]) -> list[Reason]:
    """What keeps one scan from being compared.

    Args:
        name: `earlier` or `later`, or the ordinal of a visit.
        scan: where it stands among the artefact's references.
        findings: remarks of its preprocessing.
    """
    reasons = [
        Reason(
            "not_this_contrast" if finding.code in CONTRAST_FINDINGS else "quality",
            f"The {name} scan may not be fit to compare: {finding.message}.",
        )
        for finding in findings
        if finding.code not in HARMLESS_FINDINGS
    ]
    beyond = [check.name for check in scan.checks if check.is_beyond]
    if "contrast" in beyond:
        contrast = "bright tissue lies too far out, as in FLAIR or T2w"
        reasons.append(Reason("not_this_contrast", f"The {name} scan may be of another contrast: {contrast}."))
    unlike = [_LOOKS[check] for check in beyond if check in _LOOKS]
    if unlike:
        sentence = f"The {name} scan does not look like the training scans: {'; '.join(unlike)}."
        reasons.append(Reason("out_of_distribution", sentence))
    place = scan.out_of_distribution
    if place.is_outside:
        sentence = (
            f"The {name} scan lies outside the training distribution: it is farther away than "
            f"{place.percentile:.0f} % of the validation scans."
        )
        reasons.append(Reason("out_of_distribution", sentence))
    return reasons


def noise_floor(decision: ManifestDecision, *, is_other_scanner: bool) -> ChangeNoise | None:
    """How large a predicted change may be by chance: of visits on two scanners never less than of repeats on one."""
    noise, other = decision.noise, decision.other_scanner
    if not is_other_scanner:
        return noise
    if noise is None or other is None:
        return other
    return max(other, noise, key=lambda floor: floor.percentile_95)


def change_reasons(
    predicted: PredictedChange | None, change: Change, manifest: Manifest, same_scanner: ImageCheck | None
) -> list[Reason]:
    """Whether the change exceeds noise: the predicted one, or without it the distance of the embeddings.

    Args:
        predicted: None in artefacts that predict no points.
        change: by the embeddings' distance.
        manifest: what the floors stand in.
        same_scanner: whether the scans look like those of one scanner; None where that is not checked.
    """
    is_other_scanner = same_scanner is not None and same_scanner.is_beyond
    reasons = []
    if is_other_scanner:
        two = "The scans look like those of two scanners, which may show a change where there is none."
        reasons.append(Reason("other_scanner", two))
    if manifest.decision is None or predicted is None:
        within, num_pairs = change.within_noise_floor, 0 if change.noise_floor is None else change.noise_floor.count
        sentence = "The change is within scan-rescan noise: a repeat on the same day could look like this."
    else:
        noise = noise_floor(manifest.decision, is_other_scanner=is_other_scanner)
        within, num_pairs = predicted.within_noise_floor, 0 if noise is None else noise.num_pairs
        known = "visits on two scanners miss the true change by" if is_other_scanner else "repeats on one day show"
        sentence = (
            f"The predicted change of {predicted.points:+.1f} {predicted.unit} is within noise: 95 % of {known} less "
            f"than {predicted.noise_floor_95 or 0.0:.1f}."
        )
    return [*reasons, *floor_reasons(within, num_pairs, sentence, is_other_scanner=is_other_scanner)]


def floor_reasons(within: bool | None, num_pairs: int, sentence: str, *, is_other_scanner: bool) -> list[Reason]:
    """What a noise floor says of a change.

    Args:
        within: whether the change is at most the floor; None where there is none.
        num_pairs: pairs that the floor rests on.
        sentence: what is said of a change within it.
        is_other_scanner: whether the floor is that of two scanners.
    """
    kind = "two-scanner" if is_other_scanner else "scan-rescan"
    if within is None:
        unknown = f"There are no {kind} references: whether the change exceeds noise is unknown."
        return [Reason("no_noise_floor", unknown)]
    reasons = [Reason("within_noise", sentence)] if within else []
    if num_pairs < FEW_NOISE_PAIRS:
        reasons.append(Reason("few_noise_pairs", f"The noise floor rests on only {num_pairs} {kind} pairs."))
    return reasons


def possible_answers(
    top: Progression, prediction_set: Sequence[Progression] | None, uncertainty: Uncertainty
) -> tuple[tuple[Progression, ...], list[Reason]]:
    """The answers that cannot be ruled out, and what is to be said of them.

    Args:
        top: the most probable class.
        prediction_set: None when the artefact holds no thresholds; then the most probable class is taken alone, unless
            the next is nearly as probable.
        uncertainty: that of the probabilities.
    """
    if prediction_set is not None:
        possible = tuple(prediction_set)
        if len(possible) == 1:
            return possible, []
        names = f"{', '.join(possible[:-1])} and {possible[-1]}"
        several = f"None of {names} can be ruled out: all are in the prediction set."
        return possible, [Reason("several_answers_possible", several)]
    missing = Reason(
        "no_prediction_set",
        "The artefact holds no thresholds of prediction sets: which answers can be ruled out is unknown.",
    )
    if not uncertainty.is_ambiguous:
        return (top,), [missing]
    close = f"The two most probable classes are only {uncertainty.margin:.2f} apart: read them together."
    return (), [Reason("several_answers_possible", close), missing]


def model_reasons(manifest: Manifest) -> list[Reason]:
    """What the model's own held-out metrics say against relying on it."""
    metric = manifest.metrics.get(HEADLINE_METRIC)
    by_chance = chance_caution(metric)
    reasons = []
    if by_chance is not None:
        reasons.append(Reason("model_without_metrics" if metric is None else "model_not_above_chance", by_chance))
    decision = manifest.decision
    if decision is not None and not decision.is_calibrated:
        sentence = (
            f"The model is uncalibrated: the log loss of its probabilities on people it has not seen is "
            f"{decision.log_loss:.2f}, that of the classes' frequencies {decision.base_rate_log_loss:.2f}."
        )
        reasons.append(Reason("uncalibrated", sentence))
    return reasons


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
