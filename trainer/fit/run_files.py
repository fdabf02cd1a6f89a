"""What run.json and result.json hold: schemas, so that nobody reads a run by string.

Unknown keys are passed over: a run that a newer version wrote can be read as far as it is known.
"""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from preprocess.errors import RunError
from preprocess.manifest import FEW_NOISE_PAIRS
from trainer.data.splits import Split
from trainer.metrics.pair_distances import exceeded_once_in_twenty
from trainer.objectives.base import ScoreStatistics


class RunFile(BaseModel):
    """Base of those files and their parts."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, in the order of the fields; those that were never given are left out."""
        return self.model_dump(exclude_unset=True)

    def to_json(self) -> bytes:
        """The file."""
        return json.dumps(self.to_dict(), indent=2).encode()


class RunRecord(RunFile):
    """run.json: what a run was started with.

    Attributes:
        recipe: every setting, as a later version may no longer know it.
        store_uri: where the store was.
        fingerprint: fingerprint of the store's recipe.
        index_sha256: digest of the store's index.
        split: who trains, validates and is held out.
        git_revision: commit of the program that started the run; `unknown` where it cannot be found.
    """

    recipe: dict[str, Any]
    store_uri: str
    fingerprint: str
    index_sha256: str
    split: Split
    git_revision: str = "unknown"


_NINE_TENTHS = 1.2816
"""Standard deviations below which nine tenths of a normal distribution lie."""


class ChangeSummary(RunFile):
    """What a head on predicted scores was calibrated with, on people whom no network behind the answers had seen.

    Attributes:
        num_people: how many.
        gain: 1 over the slope of predicted against true change; told changes are multiplied by it.
        error_sd: root mean square of told minus true change, in points of the score.
        least_probability: by answer, the probability from which on it is in the prediction set.
        coverage: part of the pairs whose prediction set is meant to hold the truth.
        noise_changes: ascending absolute told changes of scan-rescan pairs.
        log_loss: that of people whose pairs were answered by a calibration on others.
        base_rate_log_loss: that of always stating the frequencies of the same labels.
        base_rates: these frequencies, in the order of `PROGRESSIONS`; empty in runs of earlier versions.
        other_scanner_errors: ascending absolute differences of told and true change, of visits on two scanners.
    """

    num_people: int
    gain: float
    error_sd: float
    least_probability: tuple[float, ...]
    coverage: float
    noise_changes: tuple[float, ...]
    log_loss: float
    base_rate_log_loss: float
    base_rates: tuple[float, ...] = ()
    other_scanner_errors: tuple[float, ...] = ()

    @property
    def noise_floor(self) -> float | None:
        """What one told change of rescans in twenty exceeds, in points; None from fewer than `FEW_NOISE_PAIRS`."""
        return _floor(self.noise_changes)

    @property
    def two_scanner_floor(self) -> float | None:
        """The floor of visits on two scanners: never below that of rescans, and the same where too few are known."""
        known = [floor for floor in (self.noise_floor, _floor(self.other_scanner_errors)) if floor is not None]
        return max(known) if self.noise_floor is not None else None

    @property
    def smallest_change(self) -> float | None:
        """True change that, told with this error, lies beyond the floor nine times in ten; None without a floor."""
        return None if self.noise_floor is None else self.noise_floor + _NINE_TENTHS * self.error_sd


class HeadSummary(RunFile):
    """A progression head without its weights.

    Attributes:
        temperature: what logits are divided by before the softmax.
        l2: penalty that was chosen on the validation pairs.
        num_train: pairs it was fitted on.
        num_validation: pairs it was chosen or calibrated on.
        change: calibration of a head on predicted scores; None for one on embeddings.
    """

    temperature: float
    l2: float
    num_train: int
    num_validation: int
    change: ChangeSummary | None = None


class FusionSummary(RunFile):
    """A fusion head without its weights.

    Attributes:
        classes: the two values of the score, the positive one last.
        l2: penalty that was chosen on the validation visits; None where the head was trained with the encoders.
        num_train: visits it was fitted on.
        num_validation: visits it was chosen on.
        validation_balanced_accuracy: on these; None where they show one class.
        validation_auc: on these; None where they show one class.
    """

    classes: tuple[float, float]
    l2: float | None
    num_train: int
    num_validation: int
    validation_balanced_accuracy: float | None
    validation_auc: float | None


class Outcome(RunFile):
    """What training ends with, before its model is written.

    Attributes:
        finished: UTC time.
        steps: optimisation steps.
        precision: number format of the last step; None in runs of earlier versions.
        volumes_per_s: volumes trained on per second, over all epochs together.
        last_epoch: metrics of the last epoch by name.
        score_statistics: statistics of the training subjects' scores; None without two different scores.
        progression_head: None when the training pairs showed fewer than two kinds of change.
        fusion_head: the fusion head of a run with several modalities; None for one modality.
    """

    finished: str
    steps: int
    precision: str | None = None
    volumes_per_s: float
    last_epoch: dict[str, float]
    score_statistics: ScoreStatistics | None
    progression_head: HeadSummary | None
    fusion_head: FusionSummary | None = None


class RunResult(Outcome):
    """result.json: what a run ended with.

    Attributes:
        model_sha256: digest of model.pt.
    """

    model_sha256: str


def _floor(sizes_P: Sequence[float]) -> float | None:
    return exceeded_once_in_twenty(sizes_P) if len(sizes_P) >= FEW_NOISE_PAIRS else None


_Schema = TypeVar("_Schema", bound=BaseModel)


def parse_file(schema: type[_Schema], data: bytes, *, where: str, remedy: str) -> _Schema:
    """One of those files.

    Args:
        schema: which.
        data: its bytes.
        where: what messages call it.
        remedy: what the user can do about a damaged one.

    Raises:
        RunError: the bytes are none.
    """
    try:
        found = json.loads(data)
    except ValueError as error:
        size = "is empty" if not data else f"holds {len(data)} bytes that are not JSON"
        raise RunError(f"{where}: {size}, it is damaged; {remedy}") from error
    required = [name for name, field in schema.model_fields.items() if field.is_required()]
    missing = [name for name in required if not isinstance(found, dict) or name not in found]
    if missing:
        raise RunError(f"{where}: no {', '.join(missing)} in it, it is damaged; {remedy}")
    try:
        return schema.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RunError(f"{where}: {key}: {first['msg'].lower()}, it is damaged; {remedy}") from error
