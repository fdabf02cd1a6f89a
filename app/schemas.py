"""What goes in and out over REST, documented field by field; `predict --json` prints the same objects."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from preprocess.image_statistics import CheckName
from preprocess.manifest import Metric, OutcomeSpec
from preprocess.types import Finding, Progression

Decision = Literal["improved", "stable", "declined", "undecided"]
ReasonCode = Literal[
    "same_scan",
    "repeated_scan",
    "not_same_person",
    "not_this_contrast",
    "out_of_distribution",
    "quality",
    "same_day",
    "other_scanner",
    "within_noise",
    "few_noise_pairs",
    "no_noise_floor",
    "several_answers_possible",
    "no_prediction_set",
    "model_not_above_chance",
    "model_without_metrics",
    "uncalibrated",
]
"""Why an answer is what it is, worst first; docs/answers.md says what each means and keeps from being answered."""


class Schema(BaseModel):
    """Base: immutable, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelChoice(Schema):
    """Which model answers."""

    model: str | None = Field(default=None, description="Name of a model from /v1/models; default: the first.")
    version: str | None = Field(default=None, description="Its version; default: the first of that name.")


class ScanFields(ModelChoice):
    """The text fields beside one uploaded scan."""


class PairFields(ModelChoice):
    """The text fields beside two uploaded scans."""

    gap_days: float | None = Field(
        default=None, ge=0, le=40_000, description="Days from the earlier to the later scan, where known."
    )
    accept_unproven: bool = Field(
        default=False,
        description="Whether to decide with a model whose held-out metrics are not above chance or whose probabilities "
        "are not calibrated; without it such a model answers `undecided`.",
    )


ScanUri = Annotated[
    str,
    Field(
        min_length=1,
        max_length=2048,
        description="A NIfTI file, or a zip of one DICOM series, that may be read.",
    ),
]


class UriScan(ScanFields):
    """One scan by its URI."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"uri": "gs://my-bucket/sub-01_ses-01_T1w.nii.gz"}]})

    uri: ScanUri


class UriPair(PairFields):
    """Two scans of one person by their URIs."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "earlier_uri": "gs://my-bucket/sub-01_ses-01_T1w.nii.gz",
                    "later_uri": "gs://my-bucket/sub-01_ses-02_T1w.nii.gz",
                    "gap_days": 365,
                }
            ]
        }
    )

    earlier_uri: ScanUri
    later_uri: ScanUri


class FindingModel(Schema):
    """One quality remark about a scan."""

    code: str = Field(description="Short stable name.", examples=["too_coarse"])
    message: str = Field(description="What, the value, the limit and the remedy.")
    leaves_out: bool = Field(description="Whether the scan cannot be used because of it.")

    @classmethod
    def of(cls, finding: Finding) -> "FindingModel":
        """The same remark as the preprocessing made it."""
        return cls(code=finding.code, message=finding.message, leaves_out=finding.leaves_out)


class FieldFault(Schema):
    """One wrong field of a request."""

    field: str = Field(description="Its name.", examples=["gap_days"])
    message: str = Field(description="What is wrong with it, and the remedy.")


class Problem(Schema):
    """An error, as RFC 9457 has it."""

    type: str = Field(default="about:blank", description="The status says what kind of problem it is.")
    title: str = Field(description="The phrase that HTTP has for the status.", examples=["Unprocessable Entity"])
    status: int = Field(description="HTTP status code.", examples=[422])
    code: str = Field(description="Short stable name, for programs.", examples=["not_nifti"])
    detail: str = Field(description="One sentence for a person, with the remedy.")
    request_id: str = Field(description="As in the X-Request-ID header and the server's log.")
    errors: list[FieldFault] | None = Field(default=None, description="Wrong fields of the request.")
    findings: list[FindingModel] | None = Field(default=None, description="What is wrong with a scan.")


class OutOfDistribution(Schema):
    """How far a scan lies from the scans the model was trained on."""

    distance: float = Field(
        description="Mahalanobis distance of its embedding from the training embeddings, without unit."
    )
    percentile: float | None = Field(
        description="Percentage of validation scans that lie nearer; null when the artefact holds none."
    )
    is_outside: bool | None = Field(description="Whether more than 99 % of the validation scans lie nearer.")


class ImageCheck(Schema):
    """One statistic of the image itself, no network asked, and the limit beyond which it is flagged."""

    name: CheckName = Field(description="Which statistic; docs/answers.md says what each means.")
    value: float = Field(description="Distance from the training scans, or between the two scans, without unit.")
    limit: float = Field(description="The largest value that is not flagged, in the same measure.")
    percentile: float = Field(
        description="Which percentile of unseen people's scans or pairs of visits the limit is, 0 to 100."
    )
    is_beyond: bool = Field(description="Whether the value is greater than the limit.")


class ScanFacts(Schema):
    """What was received and how it was found."""

    sha256: str = Field(description="SHA-256 of the file as received.")
    findings: list[FindingModel] = Field(
        description="What preprocessing remarks on the scan, which was usable all the same; a remark that casts doubt "
        "on its voxels is the reason `quality` of an answer for several scans. Their codes are in docs/findings.md."
    )
    out_of_distribution: OutOfDistribution = Field(description="How far its embedding lies from those of training.")
    checks: list[ImageCheck] = Field(
        default=[], description="How the image looks next to the training scans; empty when the artefact has no checks."
    )


class GradeDistances(Schema):
    """Distances from normal of validation scans of one grade, and where this scan stands among them."""

    grade: float = Field(description="The outcome's score, in its own points.")
    count: int = Field(description="Number of validation scans of this grade.")
    median: float = Field(description="Median of their cosine distances from the normal anchor, 0 to 2.")
    lower_quartile: float = Field(description="25th percentile of these distances, 0 to 2.")
    upper_quartile: float = Field(description="75th percentile of these distances, 0 to 2.")
    percentile_rank: float = Field(description="Percentage of these scans that lie nearer to normal than this scan.")


class SeverityAnswer(Schema):
    """How far one scan lies from normal."""

    distance: float = Field(description="Cosine distance of its embedding from the normal anchor, 0 to 2.")
    outcome: OutcomeSpec = Field(description="The score that the grades are of.")
    normal: float = Field(description="Score of a normal scan, in the outcome's points.")
    grades: list[GradeDistances] = Field(description="By grade; which one the distance is typical of.")
    caution: list[str] = Field(description="What to know before relying on the distance, most important first.")


class EmbeddingAnswer(Schema):
    """The embedding of one scan."""

    embedding: list[float] = Field(description="float32 values, without unit.")
    width: int = Field(description="Number of values.")
    model: str = Field(description="Name of the model that answered.")
    version: str = Field(description="Its version.")
    fingerprint: str = Field(description="Digest of the preprocessing; compare embeddings only where it is equal.")
    scan: ScanFacts = Field(description="What was received of it, and what preprocessing found.")
    severity: SeverityAnswer | None = Field(
        default=None, description="How far it lies from normal; null for models of other kinds."
    )


class Probabilities(Schema):
    """Calibrated probabilities; they add up to 1."""

    improved: float = Field(ge=0, le=1, description="Probability that the person got better, 0 to 1.")
    stable: float = Field(ge=0, le=1, description="Probability of a change below the threshold of the outcome, 0 to 1.")
    declined: float = Field(ge=0, le=1, description="Probability that the person got worse, 0 to 1.")


class Uncertainty(Schema):
    """How sure the model is of its own answer; says nothing of whether the model is right."""

    entropy: float = Field(ge=0, le=1, description="Shannon entropy of the probabilities over ln 3: 0 sure, 1 a guess.")
    top_probability: float = Field(ge=0, le=1, description="Probability of the most probable class, 0 to 1.")
    margin: float = Field(ge=0, le=1, description="Top probability minus the second, 0 to 1.")
    is_ambiguous: bool = Field(description="Whether the margin is below 0.10.")


class DistanceReference(Schema):
    """Distances of known pairs, and where this pair stands among them."""

    count: int = Field(description="Number of known pairs.")
    median: float = Field(description="Median of their cosine distances, 0 to 2.")
    percentile_95: float = Field(description="95th percentile of their cosine distances, 0 to 2.")
    percentile_rank: float = Field(description="Percentage of the known pairs with a smaller distance than this pair.")


class Change(Schema):
    """How far apart the two embeddings are, next to pairs for which the reason is known."""

    distance: float = Field(description="Cosine distance, 1 - cos, 0 to 2.")
    noise_floor: DistanceReference | None = Field(
        description="Same-day repeat scans of one person: no change, only noise. Null when the artefact holds none."
    )
    within_noise_floor: bool | None = Field(
        description="Whether the distance is at most the noise floor's 95th percentile; null without a noise floor."
    )
    between_visits: DistanceReference | None = Field(
        description="Consecutive visits of the model's own training and validation subjects."
    )


class PredictedChange(Schema):
    """The change of the score that the two scans show, next to what no change at all looks like."""

    points: float = Field(
        description="Predicted change in points of the score (`unit`), positive where the person got better."
    )
    low: float = Field(
        description="Lower end of its 95 % interval, points: 1.96 standard deviations of the model's error."
    )
    high: float = Field(description="Upper end of this interval, points.")
    unit: str = Field(description="What a point is.", examples=["points of mmse"])
    noise_floor_95: float | None = Field(
        description="95 % of the scan-rescan pairs of people whom no network had seen show a smaller change, up or "
        "down, in points; of visits on two scanners, 95 % miss the true change by less. Null when there are none."
    )
    within_noise_floor: bool | None = Field(
        description="Whether the change is at most `noise_floor_95`, up or down; null without a noise floor."
    )


class CohortChange(Schema):
    """True changes of the people whom the model was trained on, over the time between the scans."""

    num_people: int = Field(description="Number of people, 20 or more.")
    percentile_5: float = Field(description="Points, positive where people got better.")
    lower_quartile: float = Field(description="Points that a quarter of the people stay below.")
    median: float = Field(description="Points that half of the people stay below.")
    upper_quartile: float = Field(description="Points that three quarters of the people stay below.")
    percentile_95: float = Field(description="Points that 95 % of the people stay below.")
    unit: str = Field(description="The score's own points.", examples=["points of mmse"])


class Neighbours(Schema):
    """The reference scans nearest to a scan (cosine) whose outcome score is known."""

    count: int = Field(description="Number of these scans.")
    median_score: float = Field(description="Median of their scores, in the outcome's points.")
    lower_quartile: float = Field(description="25th percentile of their scores, points.")
    upper_quartile: float = Field(description="75th percentile of their scores, points.")


class PairedScan(ScanFacts):
    """One scan of the pair."""

    neighbours: Neighbours | None = Field(
        description="Reference scans like it, and their scores; null when the artefact holds none with a score."
    )


class Provenance(Schema):
    """Where the answer comes from."""

    model: str = Field(description="Name of the model that answered.")
    version: str = Field(description="Its version.")
    created: datetime = Field(description="When the model was exported, with its time zone.")
    method: str = Field(description="Name of the training recipe's method.")
    fingerprint: str = Field(description="Digest of the preprocessing, in hexadecimal.")
    training_run: str = Field(description="Last part of the training run's URL.")
    metrics: dict[str, Metric] = Field(description="As measured when the model was exported.")


class ProgressionAnswer(Schema):
    """What changed between two scans of one person. Read `decision`: it says when there is no answer."""

    decision: Decision = Field(
        description="`improved` or `declined` only where it is the one member of the prediction set, the predicted "
        "change lies beyond the noise floor of at least 20 scan-rescan pairs and nothing is flagged; `stable` where it "
        "is the one member and nothing is flagged, or both scans are the same; else `undecided`."
    )
    reasons: list[ReasonCode] = Field(description="What the decision rests on or is kept from by, worst first.")
    prediction_set: list[Progression] | None = Field(
        description="The answers that cannot be ruled out at the coverage of the model's manifest; null when the "
        "artefact holds no thresholds for it."
    )
    predicted_change: PredictedChange | None = Field(
        description="Null when the artefact does not tell the change in points of the score."
    )
    progression: Progression = Field(
        description="The most probable class, however unsure; `stable` when both scans are the same file or the same "
        "voxels. It is no decision: read `decision`."
    )
    probabilities: Probabilities = Field(description="The model's for the three classes.")
    base_rates: Probabilities | None = Field(
        default=None,
        description="How often each class was true among the pairs that the probabilities were calibrated on; null in "
        "artefacts that do not state it.",
    )
    uncertainty: Uncertainty = Field(description="How far apart these probabilities are.")
    caution: list[str] = Field(
        description="What to know before relying on the answer: `reasons` in words, worst first."
    )
    change: Change = Field(description="Distance of the two embeddings next to known pairs.")
    cohort_change: CohortChange | None = Field(
        default=None,
        description="Each person's change a year, times `gap_days`; null without `gap_days`, and where the artefact "
        "holds no such changes.",
    )
    outcome: OutcomeSpec = Field(description="The score whose change the three classes stand for.")
    gap_days: float | None = Field(description="Days between the scans as given; null where not given.")
    is_same_scan: bool = Field(description="Whether both scans are the same file or the same voxels.")
    same_person: ImageCheck | None = Field(
        description="How much the two heads differ beyond what two visits of one person do; null when the artefact has "
        "no such check, or a scan is flagged itself."
    )
    same_scanner: ImageCheck | None = Field(
        description="How much brightness and detail differ beyond what two visits on one scanner do; beyond its limit "
        "the noise floor is that of visits on two scanners. Null as `same_person`."
    )
    earlier: PairedScan = Field(description="The scan acquired first.")
    later: PairedScan = Field(description="The scan acquired second.")
    provenance: Provenance = Field(description="The model behind the answer.")
