"""What the service says of its models and of itself, documented field by field."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from app.schemas import Schema
from preprocess.manifest import ArtefactKind, Metric, OutcomeSpec


class ModelSummary(Schema):
    """One loaded model."""

    name: str = Field(description="As requests name it in `model`.")
    version: str = Field(description="As requests name it in `version`.")
    is_default: bool = Field(description="Whether it answers where a request names no model.")
    kind: ArtefactKind = Field(description="`progression` answers every path, the others only /v1/embeddings.")
    created: datetime = Field(description="When it was exported, with its time zone.")
    method: str = Field(description="Name of the training recipe's method.")
    modality: str = Field(
        description="Which kind of scan it takes, as the store of its training names it, for example T1w."
    )
    grid: tuple[int, int, int] = Field(description="Voxels along right, anterior, superior.")
    spacing_mm: float = Field(description="Edge of a voxel of this grid, millimetres.")
    fingerprint: str = Field(
        description="Digest of the preprocessing, in hexadecimal; embeddings compare only where it is equal."
    )
    embedding_width: int = Field(description="Number of values of an embedding.")
    outcome: OutcomeSpec = Field(description="The score that its answers are about.")
    metrics: dict[str, Metric] = Field(
        description="By name, as measured on held-out people when the model was exported."
    )
    guarantees: tuple[str, ...] = Field(
        description="Properties of its answers that the export measured, one sentence each."
    )
    intended_use: str = Field(description="What it is meant for.")
    limitations: tuple[str, ...] = Field(
        description="What it is not able to do or was not tried on, one sentence each."
    )
    num_references: int = Field(description="Number of training scans that answers are held against.")
    num_noise_pairs: int = Field(description="Number of scan-rescan pairs behind its noise floor.")


class ModelList(Schema):
    """All models that passed their checks."""

    models: list[ModelSummary] = Field(description="The default first, then in the order they were given.")


class Live(Schema):
    """The process answers."""

    status: Literal["alive"] = Field(default="alive", description="Always the same.")


class ArtefactStatus(Schema):
    """Where the loading of one artefact stands."""

    artefact: str = Field(description="The last two parts of its URL.", examples=["clinimcl/1.0.0"])
    status: Literal["waiting", "loading", "ready", "failed"] = Field(description="Where it stands.")
    reason: str | None = Field(default=None, description="Why it failed, with the remedy.")


class Readiness(Schema):
    """Whether every model is loaded and checked."""

    status: Literal["ready", "not_ready"] = Field(description="Whether every artefact and the decoders are ready.")
    artefacts: list[ArtefactStatus] = Field(description="One entry for each that the service was started with.")
    decoders: Literal["ready", "starting"] = Field(description="Whether scans can be decoded.")
    threads: int = Field(ge=1, description="Number of threads of one forward pass.", examples=[4])
