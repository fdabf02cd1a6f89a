"""The artefact's manifest: what an exported model expects, promises and was made from.

The trainer writes it and the service reads it; it stands here because neither imports the other. Files beside it:
model.ts, embed.pt2, compare.pt2, golden.npz and references.npz (arrays named in `REFERENCE_ARRAYS`).
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from preprocess.recipe import VolumeRecipe

MANIFEST_NAME = "manifest.json"
PROGRAM_NAME = "model.ts"
EMBED_PROGRAM_NAME = "embed.pt2"
COMPARE_PROGRAM_NAME = "compare.pt2"
GOLDEN_NAME = "golden.npz"
"""Arrays: earlier_BCDHW, later_BCDHW (uint8 in the stored scale), embedding_BE, probabilities_B3 (eager float32)."""
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


class Part(BaseModel):
    """Base of the manifest's parts: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OutcomeSpec(Part):
    """The score whose change is answered.

    Attributes:
        name: column of the score, for example `mmse`.
        higher_is_better: whether a rise is an improvement.
        threshold: smallest change, in the score's own units, that is not `stable`.
        source: what the threshold comes from.
    """

    name: str
    higher_is_better: bool
    threshold: float = Field(gt=0)
    source: str = ""


class Inputs(Part):
    """What the model takes: float32 in [0, 1], shape (B, channels, *grid), axes RAS+."""

    modality: str
    channels: int = 1
    axes: Literal["RAS"] = "RAS"
    volume_recipe: VolumeRecipe
    fingerprint: str


class Metric(Part):
    """A figure with its 95 % interval over subjects and the level that chance alone reaches; None where unknown."""

    value: float
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    num: int | None = None


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
        files: SHA-256 of every other file of the artefact, by name.
        tolerance: largest absolute difference accepted between eager, model.ts and pt2 outputs.
        guarantees: properties that hold by construction or were checked at export.
    """

    schema_version: Literal[1] = 1
    name: str
    version: str
    created: datetime
    method: str
    embedding_width: int
    inputs: Inputs
    outcome: OutcomeSpec
    calibration: Calibration
    metrics: dict[str, Metric]
    files: dict[str, str]
    tolerance: float
    guarantees: tuple[str, ...]
    intended_use: str
    limitations: tuple[str, ...]
    training: TrainingRun
