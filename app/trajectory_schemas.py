"""What goes in and out of a question for a trajectory, documented field by field."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, field_validator

from app.schemas import (
    CohortChange,
    Decision,
    ImageCheck,
    ModelChoice,
    PairedScan,
    PredictedChange,
    Probabilities,
    Provenance,
    ReasonCode,
    ScanUri,
    Schema,
)
from preprocess.manifest import OutcomeSpec
from preprocess.types import Progression

MIN_VISITS = 2
MAX_VISITS = 16
MAX_DAY = 40_000
"""110 years; a number beyond it is a date, such as 20210305."""
MAX_AGE = 120

Day = Annotated[float, Field(ge=-MAX_DAY, le=MAX_DAY)]


class TrajectoryFields(ModelChoice):
    """The text fields beside the uploaded scans."""

    days: list[Day] = Field(
        min_length=MIN_VISITS,
        max_length=MAX_VISITS,
        description="Day of each scan, in the order of the scans: days since any one day, never dates. As a form field "
        "repeated, or once with commas.",
        examples=[[0, 365, 730]],
    )
    age: float | None = Field(
        default=None, ge=0, le=MAX_AGE, description="Age at the first visit, years, where known.", examples=[71]
    )
    accept_unproven: bool = Field(
        default=False,
        description="Whether to decide with a model whose held-out metrics are not above chance or whose probabilities "
        "are not calibrated; without it such a model answers `undecided`.",
    )

    @field_validator("days", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class UriTrajectory(TrajectoryFields):
    """Scans of one person by their URIs."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "uris": [
                        "gs://my-bucket/sub-01_ses-01_T1w.nii.gz",
                        "gs://my-bucket/sub-01_ses-02_T1w.nii.gz",
                        "gs://my-bucket/sub-01_ses-03_T1w.nii.gz",
                    ],
                    "days": [0, 365, 730],
                    "age": 71,
                }
            ]
        }
    )

    uris: list[ScanUri] = Field(min_length=MIN_VISITS, max_length=MAX_VISITS, description="One scan a visit.")


class AnnualChange(Schema):
    """Slope of the least-squares line through all visits that count, next to what noise alone gives."""

    points_per_year: float = Field(description="Positive where the person got better.", examples=[-1.2])
    low: float = Field(description="Lower end of its 95 % interval, points a year.")
    high: float = Field(description="Upper end of this interval, points a year.")
    unit: str = Field(description="What a point a year is.", examples=["points of mmse a year"])
    noise_floor_95: float | None = Field(
        description="Scans of an unchanged person on these days give a less steep line in 95 % of cases, up or down; "
        "points a year. Null when the artefact holds no such pairs."
    )
    within_noise_floor: bool | None = Field(
        description="Whether the slope is at most `noise_floor_95`, up or down; null without a noise floor."
    )
    visit_sd: float = Field(description="Error of one visit that the artefact states, standard deviation in points.")
    scatter_sd: float | None = Field(
        description="Standard deviation of the visits around the line, points; the interval takes it where it is "
        "larger than `visit_sd`. Null for two visits."
    )


class AgePercentile(Schema):
    """Where the change a year stands among those of the training people of about this age."""

    percentile: float = Field(
        ge=0, le=100, description="Percentage of these people whose true score declined faster, or improved less."
    )
    low: float = Field(ge=0, le=100, description="The same percentage for the lower end of the slope's interval.")
    high: float = Field(ge=0, le=100, description="The same percentage for its upper end.")
    num_people: int = Field(description="Number of these people, 30 or more.")
    window_years: float = Field(description="They are at most so many years younger or older.", examples=[5])


class Visit(PairedScan):
    """One scan, in the order of days."""

    position: int = Field(description="Which of the scans as they were given, from 1.")
    day: float = Field(description="Its day, as given.")
    told_change: float = Field(description="Told change from the first visit, points, positive where better.")
    on_line: float | None = Field(description="The same on the fitted line, points; null without a line.")
    is_counted: bool = Field(description="False for a scan that was given twice for one day, which counts once.")


class VisitStep(Schema):
    """The answer for two neighbouring visits, as /v1/progression gives it."""

    earlier: int = Field(description="Position of the earlier scan, from 1.")
    later: int = Field(description="Position of the later scan, from 1.")
    gap_days: float = Field(description="Days between the two.")
    decision: Decision = Field(description="As for a pair.")
    reasons: list[ReasonCode] = Field(description="What the decision rests on or is kept from by, worst first.")
    caution: list[str] = Field(description="`reasons` in words, worst first.")
    prediction_set: list[Progression] | None = Field(description="The answers that cannot be ruled out.")
    predicted_change: PredictedChange | None = Field(description="The change between the two.")
    probabilities: Probabilities = Field(description="The model's for the three classes.")
    is_same_scan: bool = Field(description="Whether both are the same file or the same voxels.")
    same_person: ImageCheck | None = Field(description="As for a pair.")
    same_scanner: ImageCheck | None = Field(description="As for a pair.")


class TrajectoryAnswer(Schema):
    """How one person's score changes over several visits. Read `decision`: it says when there is no answer."""

    decision: Decision = Field(
        description="As for a pair, of the fitted change over the whole span: `improved` or `declined` only where it "
        "is the one member of the prediction set, the slope lies beyond the noise floor of at least 20 scan-rescan "
        "pairs and nothing is flagged; `stable` where it is the one member and nothing is flagged, or all scans are "
        "the same; else `undecided`."
    )
    reasons: list[ReasonCode] = Field(description="What the decision rests on or is kept from by, worst first.")
    caution: list[str] = Field(
        description="What to know before relying on the answer: `reasons` in words, worst first."
    )
    annual_change: AnnualChange | None = Field(
        description="The slope with its interval; null where all scans are of one day."
    )
    fitted_change: PredictedChange | None = Field(
        description="Change on the line from the first day to the last, with the slope's interval and floor."
    )
    prediction_set: list[Progression] | None = Field(
        description="The answers for the fitted change that cannot be ruled out; null where all scans are of one day."
    )
    probabilities: Probabilities | None = Field(
        description="The model's for the fitted change; null where all scans are of one day."
    )
    cohort_change: CohortChange | None = Field(
        default=None,
        description="True changes of the model's training people over `span_days`, for `fitted_change`; null where the "
        "artefact holds none, and where all scans are of one day.",
    )
    percentile_for_age: AgePercentile | None = Field(
        description="Null where it cannot be told; `no_percentile` says why."
    )
    no_percentile: str | None = Field(description="Why there is no percentile; null where there is one.")
    outcome: OutcomeSpec = Field(description="The score whose change is told.")
    span_days: float = Field(description="Days from the first visit to the last.")
    age: float | None = Field(description="At the first visit, years, as given; null where not given.")
    visits: list[Visit] = Field(description="In the order of their days.")
    steps: list[VisitStep] = Field(description="One fewer than visits.")
    provenance: Provenance = Field(description="The model behind the answer.")


def count_mismatch(num_scans: int, num_days: int) -> str:
    """What is wrong with another number of days than of scans."""
    return f"{num_days} {'day' if num_days == 1 else 'days'} for {num_scans} scans; give one day for each scan"
