"""The training recipe: every setting of a run, frozen, read from TOML; named recipes lie in trainer/recipes/."""

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from preprocess.errors import UsageError
from preprocess.manifest import OutcomeSpec
from preprocess.recipe import Recipe, override, parse, read_toml

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
BestFigure = Literal["", "loss", "info_nce", "info_nce_over_chance", "learner", "learner_over_chance", "retrieval_at_1"]
HIGHER_IS_BETTER = {
    "loss": False,
    "info_nce": False,
    "info_nce_over_chance": False,
    "learner": False,
    "learner_over_chance": False,
    "retrieval_at_1": True,
}
"""Of each figure that checkpoint.best may name."""


class SplitRecipe(Recipe):
    """Fractions of subjects; the rest trains."""

    validation: float = Field(default=0.15, gt=0, lt=1)
    test: float = Field(default=0.15, gt=0, lt=1)


class DataRecipe(Recipe):
    """What is read, and how an epoch is made of it.

    Attributes:
        modality: array of the store.
        sampling: `pairs`: two visits of each subject in a batch; `scans`: single scans.
        batch_size: subjects a batch, at most.
        subjects_per_epoch: fraction of the training subjects drawn each epoch.
        in_flight: most requests for volumes at once.
        max_left_out: subjects with a missing or damaged volume that an epoch may go without before the run fails.
    """

    modality: str = "T1w"
    sampling: Literal["pairs", "scans"] = "pairs"
    batch_size: int = Field(default=8, ge=2)
    subjects_per_epoch: float = Field(default=1.0, gt=0, le=1)
    in_flight: int = Field(default=64, ge=1)
    max_left_out: int = Field(default=0, ge=0)


class EncoderRecipe(Recipe):
    """The network.

    Attributes:
        name: `fast`, or `reference` for the encoder of the ClinImCL paper.
        embedding_width: E.
        projection_width: width of the training-only projection.
        norm: `batch`, the faster; `group` where no scan may depend on another, as optim.cache_chunk needs.
    """

    name: Literal["fast", "reference"] = "fast"
    embedding_width: int = Field(default=256, ge=2)
    projection_width: int = Field(default=128, ge=2)
    norm: Literal["batch", "group"] = "batch"


class InfoNceTerm(Recipe):
    """`info_nce` on the projections of two visits; needs data.sampling = `pairs`."""

    name: Literal["info_nce"]
    weight: float = Field(default=1.0, gt=0)
    temperature: float = Field(default=0.07, gt=0)


class LearnerTerm(Recipe):
    """`learner` on embeddings and predicted scores; score statistics come from the training subjects.

    Attributes:
        variant: `mse`, `contrastive`, `weighted` or `regressed`.
        weight: of the whole term in the loss.
        contrast_weight: of the contrastive part within the term.
        margin: of the contrastive part.
        threshold: largest score difference that counts as alike; the outcome's threshold when not given.
    """

    name: Literal["learner"]
    variant: Literal["mse", "contrastive", "weighted", "regressed"] = "regressed"
    weight: float = Field(default=1.0, gt=0)
    contrast_weight: float = Field(default=1.0, gt=0)
    margin: float = Field(default=1.0, gt=0)
    threshold: float | None = Field(default=None, gt=0)


Term = Annotated[InfoNceTerm | LearnerTerm, Field(discriminator="name")]


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
    """AdamW with linear warm-up and cosine decay.

    Attributes:
        epochs: passes over the planned subjects.
        learning_rate: at its highest.
        weight_decay: on weights; never on biases and normalisation.
        warmup_fraction: part of all steps with rising learning rate.
        clip_norm: largest norm of the gradient; 0 for none.
        cache_chunk: scans whose activations are alive at a time (gradient caching); 0 for the whole batch.
    """

    epochs: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    warmup_fraction: float = Field(default=0.0, ge=0, lt=1)
    clip_norm: float = Field(default=0.0, ge=0)
    cache_chunk: int = Field(default=0, ge=0)


class HeadRecipe(Recipe):
    """The progression head, fitted on frozen embeddings of training pairs.

    Attributes:
        hidden: hidden units; 0 for the convex head.
        l2: strengths tried; the best on the validation pairs is kept.
        pairs: which training pairs: neighbouring visits, or every earlier with every later one.
    """

    hidden: int = Field(default=0, ge=0)
    l2: tuple[float, ...] = Field(default=(1e-4, 1e-3, 1e-2, 1e-1), min_length=1)
    pairs: Literal["consecutive", "all"] = "all"


class CheckpointRecipe(Recipe):
    """When the run is written down.

    Attributes:
        every_epochs: epochs between checkpoints.
        keep: how many of the latest stay.
        best: figure of the history whose best checkpoint stays too, named by checkpoints/best.json; empty for none.
    """

    every_epochs: int = Field(default=1, ge=1)
    keep: int = Field(default=2, ge=1)
    best: BestFigure = ""


class TrainRecipe(Recipe):
    """A whole run."""

    name: str
    seed: int = Field(default=0, ge=0)
    outcome: OutcomeSpec = OutcomeSpec(
        name="mmse", higher_is_better=True, threshold=2.0, source="smallest change usually taken as real on the MMSE"
    )
    device: Device = "auto"
    precision: Precision = "auto"
    data: DataRecipe = DataRecipe()
    split: SplitRecipe = SplitRecipe()
    encoder: EncoderRecipe = EncoderRecipe()
    objective: tuple[Term, ...] = Field(min_length=1)
    augment: AugmentRecipe = AugmentRecipe()
    optim: OptimRecipe = OptimRecipe()
    head: HeadRecipe = HeadRecipe()
    checkpoint: CheckpointRecipe = CheckpointRecipe()


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
    recipe = parse(TrainRecipe, data, where=source)
    refuse_contradictions(recipe, where=source)
    return recipe


def refuse_contradictions(recipe: TrainRecipe, *, where: str) -> None:
    """Refuse settings that are each in range and exclude each other.

    Args:
        recipe: every setting.
        where: how messages name it.

    Raises:
        UsageError: with both settings and the remedy.
    """
    names = [term.name for term in recipe.objective]
    if len(set(names)) < len(names):
        raise UsageError(f"{where}: the objectives are {', '.join(names)}; name each once, with the sum of its weights")
    if recipe.data.sampling != "pairs" and any(isinstance(term, InfoNceTerm) for term in recipe.objective):
        raise UsageError(
            f"{where}: info_nce compares two visits, data.sampling is 'scans'; set data.sampling = 'pairs'"
        )
    if recipe.optim.cache_chunk > 0 and recipe.encoder.norm == "batch":
        raise UsageError(
            f"{where}: optim.cache_chunk is {recipe.optim.cache_chunk} and encoder.norm is 'batch', whose statistics "
            "of the whole batch no chunk has; set encoder.norm = 'group', or optim.cache_chunk = 0"
        )
    wanted = recipe.checkpoint.best.removesuffix("_over_chance")
    if wanted in ("info_nce", "learner") and wanted not in names:
        raise UsageError(
            f"{where}: checkpoint.best is {recipe.checkpoint.best!r} and the objectives are {', '.join(names)}; name a "
            "figure of one of them, loss or retrieval_at_1"
        )
