"""Trains a model on a synthetic cohort, or leaves it as it begins, and keeps what it makes of that and of real images.

Embeddings are kept, not scores: a run that was cut off goes on where it stopped, and scoring again trains nothing.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.method_runs import EXACT, Arm, train_arm
from benchmarks.real_cohorts import RealImages
from preprocess.store import Store
from trainer.data.cohort import Cohort
from trainer.data.splits import SPLITS, split_subjects
from trainer.evaluate.probes import Examples
from trainer.fit.context import cohort_of
from trainer.fit.embedding import embed_cohort
from trainer.fit.model import new_model
from trainer.recipe import TrainRecipe, load_recipe


@dataclass(frozen=True)
class Embedded:
    """What one model makes of the synthetic cohort it is for and of the real images.

    Attributes:
        real_NE: the real images.
        real_predicted_N: their scores by the model's own head; None where it has none.
        cohorts: the synthetic scans by split.
        embeddings: of them.
        test_predicted_N: scores of the held-out ones by the head; None likewise.
        seconds: of training.
    """

    real_NE: np.ndarray
    real_predicted_N: np.ndarray | None
    cohorts: dict[str, Cohort]
    embeddings: dict[str, np.ndarray]
    test_predicted_N: np.ndarray | None
    seconds: float

    def examples(self, split: str) -> Examples:
        """Synthetic scans of a split with their scores."""
        cohort = self.cohorts[split]
        return Examples(self.embeddings[split], cohort.scores_N, np.array(cohort.subject_ids))


def embed_arm(
    arm: Arm, store: Store, real: RealImages, seed: int, common: tuple[str, ...], *, train: bool, kept_in: Path
) -> Embedded:
    """Train an arm, or only draw its first weights, and embed with it; what was kept before is read again.

    Args:
        arm: the method.
        store: the synthetic cohort.
        real: the real images.
        seed: of split, weights and order.
        common: settings of all arms.
        train: whether it trains at all.
        kept_in: folder of what is kept.
    """
    recipe: TrainRecipe = load_recipe(arm.recipe, (*common, *arm.settings, f"seed={seed}"))
    cohort = cohort_of(store, recipe.data, recipe.outcome.name)
    split = split_subjects(
        cohort.subject_ids, validation=recipe.split.validation, test=recipe.split.test,
        train=recipe.split.train, seed=seed, together=cohort.together,
    )  # fmt: skip
    cohorts = {name: cohort.of_subjects(split.of(name)) for name in SPLITS}
    what = f"{train} {recipe.model_dump_json()} {store.manifest.index_sha256} {real.subject_ids}"
    kept = kept_in / f"{hashlib.sha256(what.encode()).hexdigest()[:24]}.npz"
    if not kept.exists():
        arrays = _trained(arm, store, real, seed, common) if train else _untrained(recipe, store, real, cohorts)
        kept_in.mkdir(parents=True, exist_ok=True)
        np.savez(kept, allow_pickle=False, **arrays)
    with np.load(kept, allow_pickle=False) as found:
        return Embedded(
            real_NE=found["real"],
            real_predicted_N=found.get("real_predicted"),
            cohorts=cohorts,
            embeddings={name: found[name] for name in SPLITS},
            test_predicted_N=found.get("test_predicted"),
            seconds=float(found["seconds"]),
        )


def _trained(arm: Arm, store: Store, real: RealImages, seed: int, common: tuple[str, ...]) -> dict[str, np.ndarray]:
    one = train_arm(arm, store, seed, common)
    arrays = {"real": real.embed(one.trained.encoder, store), **one.embeddings, "seconds": np.array(one.seconds)}
    for name, part in (("real", arrays["real"]), ("test", one.embeddings["test"])):
        predicted_N = one.trained.predicted_scores(part)
        if predicted_N is not None:
            arrays[f"{name}_predicted"] = predicted_N
    return arrays


def _untrained(
    recipe: TrainRecipe, store: Store, real: RealImages, cohorts: dict[str, Cohort]
) -> dict[str, np.ndarray]:
    encoder = new_model(recipe, store).encoder.eval()
    embeddings = {name: embed_cohort(encoder, store, recipe.data.arrays, part, EXACT) for name, part in cohorts.items()}
    return {"real": real.embed(encoder, store), **embeddings, "seconds": np.array(0.0)}
