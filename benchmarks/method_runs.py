"""Trains one arm of the comparison of methods and measures it as `interscan evaluate` does; numbers only, no report."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from preprocess.storage import Location
from preprocess.store import Store
from trainer.data.splits import SPLITS
from trainer.evaluate.measure import Measured, measure_run
from trainer.evaluate.tasks import Embedded, task_metrics
from trainer.fit.context import cohort_of
from trainer.fit.embedding import embed_cohort
from trainer.fit.precision import Compute
from trainer.fit.run import Run
from trainer.fit.train import train_run
from trainer.fit.trained import Trained
from trainer.metrics.evaluation import Metric
from trainer.metrics.pair_distances import ScoredPairs, stranger_pairs
from trainer.recipe import TrainRecipe, load_recipe

EXACT = Compute(torch.device("cpu"), torch.float32)


@dataclass(frozen=True)
class Arm:
    """One method with its settings.

    Attributes:
        name: for the table.
        recipe: name of a recipe that comes with interscan.
        settings: recipe values that differ.
        quick: settings on top of its own for a run that only shows that it runs.
    """

    name: str
    recipe: str
    settings: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()

    def shortened(self) -> "Arm":
        """The arm as `--quick` runs it."""
        return replace(self, settings=(*self.settings, *self.quick))


@dataclass(frozen=True)
class TrainedArm:
    """A finished run as it was measured, with the embeddings of every split.

    Attributes:
        measured: networks and metrics, without intervals.
        splits: scans of each split with their embeddings.
        seconds: that training took.
    """

    measured: Measured
    splits: dict[str, Embedded]
    seconds: float

    @property
    def trained(self) -> Trained:
        """The networks."""
        return self.measured.trained

    @property
    def embeddings(self) -> dict[str, np.ndarray]:
        """Embeddings (N, E) by split."""
        return {name: part.embeddings_NE for name, part in self.splits.items()}


def train_arm(arm: Arm, store: Store, seed: int, common: tuple[str, ...]) -> TrainedArm:
    """Train and measure an arm in a folder that is gone afterwards.

    Args:
        arm: what to train.
        store: on what.
        seed: of the split, the weights and the order of batches; equal seeds of two arms share all three.
        common: settings of all arms of a comparison; an arm's own win.
    """
    recipe: TrainRecipe = load_recipe(arm.recipe, (*common, *arm.settings, f"seed={seed}"))
    cohort = cohort_of(store, recipe.data, recipe.outcome.name)
    with tempfile.TemporaryDirectory() as folder:
        location = Location(Path(folder) / "run")
        begun = time.perf_counter()
        train_run(recipe, store, location, progress=lambda *_: None)
        seconds = time.perf_counter() - begun
        run = Run.open(location)
        measured = measure_run(run, store, cohort, num_resamples=0)
    splits = {"test": Embedded(measured.held_out.cohort, measured.held_out.embeddings_NE)}
    for name in ("train", "validation"):
        part = cohort.of_subjects(run.split.of(name))
        embeddings_NE = embed_cohort(measured.trained.encoder, store, recipe.data.arrays, part, EXACT)
        splits[name] = Embedded(part, embeddings_NE)
    return TrainedArm(measured, splits, seconds)


def numbers(one: TrainedArm) -> dict[str, float]:
    """Metrics by the names that `interscan evaluate` gives them, and `minutes` of training.

    Of runs for change, also those of a probe that reads the score, which evaluate takes where the score is the target.
    A metric that is not defined, as the rank correlation of a collapsed embedding, counts as chance.
    """
    recipe, metrics = one.trained.run.recipe, dict(one.measured.metrics)
    if recipe.task == "progression":
        parts = (one.splits[name] for name in SPLITS)
        metrics |= task_metrics("regression", *parts, normal=0.0, seed=recipe.seed, num_resamples=0)
    found = {name: metric.chance if metric.value is None else metric.value for name, metric in metrics.items()}
    return {"minutes": one.seconds / 60} | {name: value for name, value in found.items() if value is not None}


def strangers(one: TrainedArm) -> tuple[ScoredPairs, Metric]:
    """Pairs of held-out scans of different people, and how far their distance follows the difference of scores."""
    held, seed = one.splits["test"], one.trained.run.recipe.seed
    pairs = stranger_pairs(held.embeddings_NE, held.cohort.scores_N, held.cohort.subject_ids, seed=seed)
    return pairs, one.measured.metrics["stranger_correlation"]
