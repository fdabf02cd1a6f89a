"""The training recipe: every setting of a run, frozen, read from TOML; named recipes lie in trainer/recipes/."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from preprocess.errors import InterscanError, UsageError
from preprocess.manifest import OutcomeSpec
from preprocess.recipe import Recipe, override, parse, read_toml
from trainer.contradictions import refuse_contradictions
from trainer.objectives.base import Term
from trainer.objectives.registry import AnyTerm

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Task = Literal["progression", "regression", "severity", "classification"]


MMSE = OutcomeSpec(
    name="mmse", higher_is_better=True, threshold=2.0, source="smallest change usually taken as real on the MMSE"
)


class SplitRecipe(Recipe):
    """Fractions of subjects; the rest trains.

    Attributes:
        validation: fraction of all subjects that validates.
        test: fraction of all subjects that is held out for the test.
        train: fraction of the other subjects that trains; less than 1 shows how many a method needs.
    """

    train: float = Field(default=1.0, gt=0, le=1)
    validation: float = Field(default=0.15, gt=0, lt=1)
    test: float = Field(default=0.15, gt=0, lt=1)


class DataRecipe(Recipe):
    """What is read, and how an epoch is made of it.

    Attributes:
        modality: array of the store.
        modalities: several arrays of the store instead, for encoder `multimodal`; a scan is then a visit that has at
            least one of them.
        sampling: `pairs`: two visits of each subject in a batch; `scans`: single scans; `visits`: `num_visits` of each.
        num_visits: visits of a subject in a batch where sampling is `visits`.
        views: random views of each scan in a batch; a scan is read once for all of them.
        batch_size: subjects a batch, at most.
        subjects_per_epoch: fraction of the training subjects drawn each epoch.
        in_flight: most requests for volumes at once.
        max_left_out: subjects with a missing or damaged volume that an epoch may go without before the run fails.
        resident: where volumes stay after they were read, in the stored type, if all of them fit there: `auto`: on the
            GPU beside the model, else in the machine's memory; `host`: in the machine's memory, never on the GPU;
            `none`: nowhere. What does not fit is read anew in each epoch. Changes the speed of a run, never its result,
            and may differ when the run goes on; with max_left_out above 0 nothing stays on the GPU.
    """

    modality: str = "T1w"
    modalities: tuple[str, ...] = ()
    sampling: Literal["pairs", "scans", "visits"] = "pairs"
    num_visits: int = Field(default=3, ge=3)
    views: int = Field(default=1, ge=1, le=8)
    batch_size: int = Field(default=8, ge=2)
    subjects_per_epoch: float = Field(default=1.0, gt=0, le=1)
    in_flight: int = Field(default=64, ge=1)
    max_left_out: int = Field(default=0, ge=0)
    resident: Literal["auto", "host", "none"] = "auto"

    @property
    def arrays(self) -> tuple[str, ...]:
        """The arrays of the store that are read: the modalities, or the one."""
        return self.modalities or (self.modality,)


class EncoderRecipe(Recipe):
    """The network.

    Attributes:
        name: for volumes `fast`, `reference` (of the ClinImCL paper) or `slice-tsm-resnet18` (slices along the body
            axis as frames); for clips `tsm-resnet18`; for images `resnet18` or `resnet50`; for data.modalities
            `multimodal`.
        embedding_width: E; of each modality where there are several.
        projection_width: width of the training-only projection.
        norm: `batch`, the faster; `group` where no scan may depend on another, as optim.cache_chunk needs.
        residual: for `multimodal`: whether a row of a matrix is added to what it attended to; the published network has
            no such path.
        shrink: for `fast`: edge of the blocks of voxels that are averaged before the first layer; 1 for none.
        mirror: for volumes: whether a finished network embeds each volume and its mirror image and takes the mean, so
            that a head that was stored mirrored gets the same answer.
        linear_grid: for volumes: blocks along each axis whose brightness a ridge regression takes beside the network;
            its score is one more number of the embedding, and the score told is the mean of both; 0 for none.
        initial_weights: state dict to begin with, path or URL; random when empty.
    """

    name: Literal["fast", "reference", "slice-tsm-resnet18", "tsm-resnet18", "resnet18", "resnet50", "multimodal"] = (
        "fast"
    )
    embedding_width: int = Field(default=256, ge=2)
    projection_width: int = Field(default=128, ge=2)
    norm: Literal["batch", "group"] = "batch"
    residual: bool = False
    shrink: int = Field(default=1, ge=1, le=8)
    mirror: bool = False
    linear_grid: int = Field(default=0, ge=0, le=32)
    initial_weights: str = ""


class AugmentRecipe(Recipe):
    """Random views, drawn per scan; all off by default.

    Attributes:
        flip: probability of mirroring left and right.
        shift_voxels: largest whole-voxel shift along each axis.
        gain: largest relative change of all intensities.
        noise: largest standard deviation of added Gaussian noise, in units of [0, 1].
    """

    flip: float = Field(default=0.0, ge=0, le=1)
    shift_voxels: int = Field(default=0, ge=0)
    gain: float = Field(default=0.0, ge=0, lt=1)
    noise: float = Field(default=0.0, ge=0, lt=1)


class OptimRecipe(Recipe):
    """Optimiser with linear warm-up and cosine decay, both anew in each phase.

    Attributes:
        name: `adamw`, or `sgd` with momentum 0.9.
        epochs: passes over the planned subjects, where the recipe has no phases.
        learning_rate: at its highest.
        head_factor: learning rate of projector and score head over that of the encoder.
        weight_decay: on weights; never on biases and normalisation.
        warmup_fraction: part of each phase with rising learning rate.
        clip_norm: largest norm of the gradient; 0 for none.
        cache_chunk: scans whose activations are alive at a time (gradient caching); 0 for the whole batch.
    """

    name: Literal["adamw", "sgd"] = "adamw"
    epochs: int = Field(default=10, ge=1)
    head_factor: float = Field(default=1.0, gt=0)
    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup_fraction: float = Field(default=0.0, ge=0, lt=1)
    clip_norm: float = Field(default=0.0, ge=0)
    cache_chunk: int = Field(default=0, ge=0)


class HeadRecipe(Recipe):
    """The progression head, fitted on frozen embeddings of training pairs.

    Attributes:
        on: what it sees of two scans: `embedding`: the difference of their embeddings; `score`: the difference of their
            predicted scores, which an objective must train.
        hidden: hidden units; 0 for the convex head.
        l2: penalties tried; the best on the validation pairs is kept.
        pairs: which training pairs: neighbouring visits, or every earlier with every later one.
        threshold: `fixed`: outcome.threshold; `tertiles`: the change that leaves a third of the training subjects'
            pairs of consecutive visits stable; it replaces outcome.threshold everywhere, whatever that was.
    """

    on: Literal["embedding", "score"] = "embedding"
    hidden: int = Field(default=0, ge=0)
    l2: tuple[float, ...] = Field(default=(1e-4, 1e-3, 1e-2, 1e-1), min_length=1)
    pairs: Literal["consecutive", "all"] = "all"
    threshold: Literal["fixed", "tertiles"] = "fixed"


class EnsembleRecipe(Recipe):
    """Networks that are trained apart and answer together.

    Attributes:
        members: how many; each trains without one part of the training subjects, and what it answers for that part
            calibrates the ensemble. 1 for a single network, calibrated on the validation subjects.
    """

    members: int = Field(default=1, ge=1, le=20)


class CheckpointRecipe(Recipe):
    """When the run is written down.

    Attributes:
        every_epochs: epochs between checkpoints.
        keep: how many of the latest stay.
        best: metric of the history whose best checkpoint stays too, named by checkpoints/best.json: `loss`,
            `retrieval_at_1` and `change_error` of the validation subjects, an objective's name, or that with
            `_over_chance`; empty for none.
        finish: whose weights the run ends with, those of the last epoch or of the best one.
    """

    every_epochs: int = Field(default=1, ge=1)
    keep: int = Field(default=2, ge=1)
    best: str = ""
    finish: Literal["last", "best"] = "last"


class PhaseRecipe(Recipe):
    """Epochs with objectives of their own, after those of the phase before.

    Attributes:
        name: for messages and the history.
        epochs: passes over the planned subjects.
        objective: parts of the loss.
        learning_rate: at its highest; that of [optim] when not given.
    """

    name: str
    epochs: int = Field(ge=1)
    objective: tuple[AnyTerm, ...] = Field(min_length=1)
    learning_rate: float | None = Field(default=None, gt=0)


class TrainRecipe(Recipe):
    """A whole run.

        recipe = load_recipe("clinimcl", ("optim.epochs=5", "seed=1"))
        result = train_run(recipe, store, location, progress=progress)

    Attributes:
        objective: parts of the loss, for a recipe of one phase.
        phase: the phases, where there are several; then `objective` is empty.
        task: what the embeddings are for, which decides the metrics of `interscan evaluate`: `progression` of pairs,
            `regression` of the score, its `severity` grades, or `classification` by a score of two values.
    """

    name: str
    seed: int = Field(default=0, ge=0)
    outcome: OutcomeSpec = MMSE
    device: Device = "auto"
    precision: Precision = "auto"
    data: DataRecipe = DataRecipe()
    split: SplitRecipe = SplitRecipe()
    encoder: EncoderRecipe = EncoderRecipe()
    objective: tuple[AnyTerm, ...] = ()
    phase: tuple[PhaseRecipe, ...] = ()
    task: Task = "progression"
    augment: AugmentRecipe = AugmentRecipe()
    optim: OptimRecipe = OptimRecipe()
    head: HeadRecipe = HeadRecipe()
    ensemble: EnsembleRecipe = EnsembleRecipe()
    checkpoint: CheckpointRecipe = CheckpointRecipe()

    @field_validator("outcome", mode="before")
    @classmethod
    def _complete_outcome(cls, value: Any) -> Any:
        """Settings without a name are of the default score; another score must say all of its own."""
        return MMSE.model_dump() | value if isinstance(value, dict) and "name" not in value else value

    @property
    def phases(self) -> tuple[PhaseRecipe, ...]:
        """The phases, one where the recipe names none."""
        return self.phase or (PhaseRecipe(name="train", epochs=self.optim.epochs, objective=self.objective),)

    @property
    def deciding(self) -> dict[str, Any]:
        """Every setting that decides the result, as plain values: all but `data.resident`."""
        return self.model_dump(mode="json", exclude={"data": {"resident"}})

    @property
    def epochs(self) -> int:
        """Number of epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def terms(self) -> tuple[Term, ...]:
        """Objectives of all phases."""
        return tuple(term for phase in self.phases for term in phase.objective)


def higher_is_better(metric: str) -> bool:
    """Whether a higher value of a metric that checkpoint.best names is better; losses are better low."""
    return metric == "retrieval_at_1"


def named_recipes() -> dict[str, Path]:
    """The recipes that come with interscan, by name."""
    folder = Path(str(resources.files("trainer") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(source: str, assignments: tuple[str, ...] = ()) -> TrainRecipe:
    """Read a recipe.

    Args:
        source: name of a recipe that comes with interscan, or path of a TOML file.
        assignments: `key=value` lines that replace single values.

    Raises:
        UsageError: no such recipe, an unknown key, a value out of range, or settings that exclude each other.
    """
    named = named_recipes()
    if source not in named and not source.endswith(".toml"):
        raise UsageError(f"{source}: no recipe of that name (there are {', '.join(named)}); or give a .toml file")
    path = named.get(source, Path(source))
    data: dict[str, Any] = override(read_toml(path), assignments)
    refuse_renamed(data, where=source)
    recipe = parse(TrainRecipe, data, where=source)
    refuse_contradictions(recipe, where=source)
    return recipe


def refuse_renamed(settings: Mapping[str, Any], *, where: str, error: type[InterscanError] = UsageError) -> None:
    """Refuse a recipe that still calls `task` by its former name `target`.

    Args:
        settings: the recipe's keys and values.
        where: how the message names the recipe.
        error: what to raise.

    Raises:
        InterscanError: the given type, with the new name of the key.
    """
    if "target" in settings:
        raise error(f"{where}: unknown key 'target'; target is now called task")
