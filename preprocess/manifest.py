"""The artefact's manifest: what an exported model expects, promises and was made from.

The trainer writes it and the service reads it; it stands here because neither imports the other. There are three kinds:
`progression` compares two volumes, `severity` tells how far a scan lies from normal, `embedding` embeds scans. Files
beside it: model.ts, embed.pt2, compare.pt2 or severity.pt2, golden.npz, references.npz (see `REFERENCE_ARRAYS`).
"""

from datetime import datetime
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from preprocess.image_statistics import CheckName
from preprocess.recipe import VolumeRecipe
from preprocess.types import PROGRESSIONS, Progression

MANIFEST_NAME = "manifest.json"
PROGRAM_NAME = "model.ts"
EMBED_PROGRAM_NAME = "embed.pt2"
COMPARE_PROGRAM_NAME = "compare.pt2"
SEVERITY_PROGRAM_NAME = "severity.pt2"
GOLDEN_NAME = "golden.npz"
"""Arrays: earlier_BCDHW, later_BCDHW (uint8 in the stored scale), embedding_BE, probabilities_B3 (eager float32).
Those of other kinds: scans_B (rows as stored), embedding_BE, for severity alone severity_B (eager float32)."""
REFERENCES_NAME = "references.npz"
REFERENCE_ARRAYS = {
    "embeddings_NE": "float32, embeddings of the training scans",
    "scores_N": "float32, their outcome scores, NaN where unknown",
    "noise_distances_P": "float32, cosine distances of same-day scan-rescan pairs (may be empty)",
    "change_distances_P": "float32, cosine distances of consecutive visits of training and validation subjects",
    "ood_mean_E": "float32, centre of the training embeddings",
    "ood_precision_EE": "float32, inverse of their shrunk covariance",
    "ood_distances_Q": "float32, ascending Mahalanobis distances of validation scans",
}
SEVERITY_REFERENCE_ARRAYS = {
    "anchor_E": "float32, mean embedding of the normal training scans, which severity is measured from",
    "normal_places_K": "int64, indices of those scans in embeddings_NE",
    "normal_rows_K": "int64, rows of those scans in the store",
    "validation_distances_V": "float32, severity of the validation scans whose score is known",
    "validation_grades_V": "float32, their scores",
}
"""Beside `REFERENCE_ARRAYS`, in artefacts of kind severity."""
DECISION_REFERENCE_ARRAYS = {
    "change_direction_E": "float32, points of the score per unit of the embedding; its product with later minus "
    "earlier embedding is the predicted change, positive where the person got better",
}
"""Beside `REFERENCE_ARRAYS`, in artefacts with the part `Decision`."""
AGE_REFERENCE_ARRAYS = {
    "annual_changes_P": "float32, true change of the score per year of each training person whose scores span half a "
    "year or more and whose age is known, positive where the person got better",
    "ages_P": "float32, their ages at the first of these scores, in whole years",
}
"""Beside `DECISION_REFERENCE_ARRAYS`, where the store has ages; ordered by age, so that no order of people is told."""
IMAGE_REFERENCE_ARRAYS = {
    "image_mean_DHW": "float32, mean coarse brightness of the training scans, in blocks",
    "image_axes_KF": "float32, their principal components, each over the flattened blocks",
    "image_sd_K": "float32, their standard deviation along each component",
    "visit_precision_KK": "float32, inverse covariance of the difference of two visits of one person along the "
    "components; zeros where too few people came twice",
    "looks_mean_S": "float32, means of the other image statistics, ordered as preprocess.image_statistics has them",
    "looks_precision_SS": "float32, their inverse covariance, zero between groups",
    "scanner_precision_SS": "float32, inverse covariance of their difference between two visits of one person on one "
    "scanner; zeros where scanners are unknown",
}
"""Beside `DECISION_REFERENCE_ARRAYS`, where the part `Decision` has checks of images."""
FEW_NOISE_PAIRS = 20
"""With fewer scan-rescan pairs, a 95th percentile is the largest value seen."""

ArtefactKind = Literal["progression", "severity", "embedding"]
"""What an artefact answers: `compare` of a pair, or `severity` of one scan; `embed` both."""


class Part(BaseModel):
    """Base of the manifest's parts: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OutcomeSpec(Part):
    """The score whose change is answered."""

    name: str = Field(description="Column of the score, for example mmse.")
    higher_is_better: bool = Field(description="Whether a rise is an improvement.")
    threshold: float = Field(gt=0, description="Smallest change that is not stable, points of the score.")
    source: str = Field(default="", description="What the threshold comes from.")
    test_sd: float = Field(
        default=0.0,
        ge=0,
        description="Standard deviation of the test's own error, points of the score; 0 where unknown.",
    )

    @property
    def change_noise(self) -> float:
        """Variance that the test's own error adds to a change between two scores."""
        return 2 * self.test_sd**2


class Inputs(Part):
    """What the model takes: float32 in [0, 1], a batch of rows as the store has them.

    Attributes:
        axes: axes of one row: `RAS` for volumes, (channels, *grid) with axes RAS+; `CHW` for images; `TCHW` for clips.
    """

    modality: str
    channels: int = 1
    axes: Literal["RAS", "CHW", "TCHW"] = "RAS"
    volume_recipe: VolumeRecipe
    fingerprint: str


class Metric(Part):
    """A metric with its 95 % interval over subjects and the level that chance alone reaches; None where unknown."""

    value: float = Field(description="The metric itself, in the unit that its name tells; most are without unit.")
    low: float | None = Field(
        default=None, description="Lower end of its 95 % interval over subjects, in the same unit; null where unknown."
    )
    high: float | None = Field(
        default=None, description="Upper end of this interval, in the same unit; null where unknown."
    )
    chance: float | None = Field(
        default=None, description="What chance alone reaches, in the same unit; null where unknown."
    )
    num: int | None = Field(default=None, description="Number of cases it was measured on; null where unknown.")


class Calibration(Part):
    """How probabilities were calibrated: temperature scaling on the validation subjects' pairs.

    Attributes:
        temperature: what the head's logits are divided by (already applied inside `compare`).
        num_pairs: how many validation pairs it was fitted on.
        expected_calibration_error: on the held-out test pairs, None when there were too few.
    """

    temperature: float
    num_pairs: int
    expected_calibration_error: float | None = None


class Control(Part):
    """One answer that never sees a scan, beside the model on the same held-out pairs.

    Attributes:
        name: for example `gap_days`, `scanner`, `majority` or `shuffled_labels`.
        macro_f1: its own figure.
        lead: macro-F1 of the model minus that of the control; None for shuffled labels.
        p_value: result of the permutation test; None for all controls but shuffled labels.
    """

    name: str
    macro_f1: Metric | None = None
    lead: Metric | None = None
    p_value: float | None = None


class DataSource(Part):
    """What the store of the training run held.

    Attributes:
        cohorts: names that data sets give themselves; without those that have none.
        is_synthetic: True where every cohort's name begins with "Synthetic", as the generated cohorts' do; None where
            nothing says so.
        num_scans: scans in the store that were used or could have been.
    """

    cohorts: tuple[str, ...]
    is_synthetic: Literal[True] | None
    num_scans: int = Field(ge=0)


class Guarantee(Part):
    """One property of the answers, measured at export on people whom no network has seen.

    Attributes:
        name: for example `antisymmetry`; docs/guarantees.md says what each means.
        is_exact: whether a breach stopped the export; the others are stated whatever they came to.
        value: what was found.
        unit: what `value` counts: `points` of the score, `share` of cases, or empty for a plain number.
        at_least: smallest value that is wanted; None for no such limit.
        at_most: largest value that is wanted; None for no such limit.
        num: cases it was measured on.
        typical: median size of the told changes behind a share, in points; None elsewhere.
        how: one sentence on what was done.
    """

    name: str
    is_exact: bool = False
    value: float
    unit: Literal["", "points", "share"] = ""
    at_least: float | None = None
    at_most: float | None = None
    num: int = Field(ge=0)
    typical: float | None = None
    how: str

    @property
    def holds(self) -> bool | None:
        """Whether the value lies within its limits; None where it has none."""
        if self.at_least is None and self.at_most is None:
            return None
        above = self.at_least is None or self.value >= self.at_least
        return above and (self.at_most is None or self.value <= self.at_most)

    @property
    def wanted(self) -> str:
        """The limits in words, for example `0.85 to 1.15`; empty where there is none."""
        if self.at_least is not None and self.at_most is not None:
            return f"{self.at_least:g} to {self.at_most:g}"
        if self.at_least is not None:
            return f"at least {self.at_least:g}"
        return "" if self.at_most is None else f"at most {self.at_most:g}"


class Anchor(Part):
    """Which training scans severity is measured from: all normal ones, as `interscan evaluate` does.

    Attributes:
        normal: score of a normal scan.
        num_scans: how many normal training scans the anchor is the mean of.
        num_subjects: how many subjects these scans are of.
    """

    normal: float
    num_scans: int = Field(ge=1)
    num_subjects: int = Field(ge=1)


class ChangeNoise(Part):
    """How large a predicted change may be by chance, in pairs of people whom no network had seen.

    Attributes:
        percentile_95: 95 % of the pairs show a smaller one, up or down.
        num_pairs: how many.
        unit: what a point is, for example `points of mmse`.
    """

    percentile_95: float = Field(ge=0)
    num_pairs: int = Field(ge=1)
    unit: str


class Check(Part):
    """The limit of one image statistic, set on scans or pairs that the reference of the statistic was not fitted to.

    Attributes:
        name: which statistic; `identity` and `scanner` are of a pair, the others of a scan.
        limit: a greater value is flagged.
        percentile: which percentile of the reference values the limit is.
        num: how many reference values there were.
    """

    name: CheckName
    limit: float = Field(ge=0)
    percentile: float = Field(gt=0, lt=100)
    num: int = Field(ge=1)


class Flagged(Part):
    """How many of the held-out scans or pairs of one kind are flagged.

    Attributes:
        share: flagged ones among all, 0 to 1.
        num: scans or pairs.
    """

    share: float = Field(ge=0, le=1)
    num: int = Field(ge=1)


class Decision(Part):
    """What an answer is decided with, measured on people whom no network behind the answer had seen.

    Attributes:
        coverage: part of the pairs whose prediction set is meant to hold the truth.
        least_probability: by class, the probability from which on it is in the prediction set.
        num_people: whom all of this was measured on.
        num_pairs: their pairs.
        noise: predicted change of scan-rescan pairs, which is what no change at all looks like; None where nobody was
            scanned twice on one day.
        other_scanner: how far the predicted change of visits on two scanners misses the true one, in place of `noise`
            where the scans look like those of two scanners; None where no visits were on two known scanners.
        error_sd: root mean square of predicted minus true change, in points of the score.
        log_loss: its mean over people whose pairs were answered by a calibration on others.
        base_rate_log_loss: the same of always stating the frequencies of the classes among the same pairs.
        is_calibrated: whether `log_loss` lies below `base_rate_log_loss`; else the probabilities say less than the
            frequencies alone, and the model counts as uncalibrated.
        base_rates: those frequencies, by class; None in artefacts of earlier versions.
        checks: limits of image statistics; none for modalities other than volumes and for cohorts that are too small.
        flagged: by kind, measured at evaluation on the held-out people: their scans as they are, corrupted scans,
            pairs of their own visits, and pairs of two people.
    """

    coverage: float = Field(gt=0, lt=1)
    least_probability: dict[Progression, float]
    num_people: int = Field(ge=1)
    num_pairs: int = Field(ge=1)
    noise: ChangeNoise | None
    other_scanner: ChangeNoise | None = None
    error_sd: float = Field(ge=0)
    log_loss: float
    base_rate_log_loss: float
    is_calibrated: bool
    base_rates: dict[Progression, float] | None = None
    checks: tuple[Check, ...] = ()
    flagged: dict[str, Flagged] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.is_calibrated != (self.log_loss < self.base_rate_log_loss):
            raise ValueError(
                f"is_calibrated is {self.is_calibrated} with a log loss of {self.log_loss:g} and of base rates "
                f"{self.base_rate_log_loss:g}"
            )
        for part, by_answer in (("least_probability", self.least_probability), ("base_rates", self.base_rates)):
            missing = [answer for answer in PROGRESSIONS if by_answer is not None and answer not in by_answer]
            if missing:
                raise ValueError(f"{part} names no {missing[0]}")
        return self

    def prediction_set(self, probabilities_3: npt.ArrayLike) -> tuple[Progression, ...]:
        """The answers that cannot be ruled out; the likeliest always is among them.

        Args:
            probabilities_3: in the order of `PROGRESSIONS`.
        """
        probability_3 = np.asarray(probabilities_3, dtype=np.float64)
        likeliest = PROGRESSIONS[int(probability_3.argmax())]
        return tuple(
            answer
            for answer, probability in zip(PROGRESSIONS, probability_3, strict=True)
            if answer == likeliest or probability >= self.least_probability[answer]
        )


class TrainingRun(Part):
    """Where the model comes from."""

    run_uri: str
    checkpoint: str
    recipe: dict[str, Any]
    store_uri: str
    store_index_sha256: str
    num_subjects: dict[str, int]
    git_revision: str
    torch_version: str


class Manifest(Part):
    """The whole manifest.

    Attributes:
        kind: what the artefact answers; manifests without it are of progression.
        calibration: how probabilities are calibrated, for kind progression; None for the others, which have none.
        anchor: what severity is measured from, for kind severity; None for the others.
        decision: what a progression is decided with; None for heads on embeddings and of earlier versions.
        files: SHA-256 of every other file of the artefact, by name.
        tolerance: largest absolute difference accepted between eager, model.ts and pt2 outputs.
        guarantees: properties that hold by construction or were checked at export.
        measured: properties with their figures; empty for severity, and in artefacts of earlier versions.
        controls: answers without scans, on the same pairs; empty in artefacts of earlier versions.
        data: what the store held; None in artefacts of earlier versions.
    """

    schema_version: Literal[1] = 1
    kind: ArtefactKind = "progression"
    name: str
    version: str
    created: datetime
    method: str
    embedding_width: int
    inputs: Inputs
    outcome: OutcomeSpec
    calibration: Calibration | None
    anchor: Anchor | None = None
    decision: Decision | None = None
    metrics: dict[str, Metric]
    files: dict[str, str]
    tolerance: float
    guarantees: tuple[str, ...]
    measured: tuple[Guarantee, ...] = ()
    controls: tuple[Control, ...] = ()
    data: DataSource | None = None
    intended_use: str
    limitations: tuple[str, ...]
    training: TrainingRun

    @model_validator(mode="after")
    def _parts_of_its_kind(self) -> Self:
        needed = {"progression": "calibration", "severity": "anchor", "embedding": None}[self.kind]
        for part in ("calibration", "anchor"):
            if (getattr(self, part) is not None) != (part == needed):
                raise ValueError(f"an artefact of kind {self.kind} has {'a' if part == needed else 'no'} part {part}")
        if self.kind != "progression" and self.decision is not None:
            raise ValueError(f"an artefact of kind {self.kind} decides nothing of a pair, and has no part decision")
        return self
