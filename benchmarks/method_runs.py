"""Trains one arm of the comparison of methods and takes its figures on held-out subjects; numbers only, no report."""

import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from preprocess.storage import Location
from preprocess.store import Store
from trainer.data.cohort import Cohort
from trainer.data.pairs import visit_pairs
from trainer.data.splits import SPLITS
from trainer.encoders.visits import VisitEncoder
from trainer.evaluate import metrics, similarity
from trainer.evaluate.mlp_probe import mlp_probe
from trainer.evaluate.pair_figures import ScoredPairs, stranger_pairs
from trainer.evaluate.probes import Examples, ridge_probe
from trainer.evaluate.severity import anchor_distances, severity_figures
from trainer.fit.context import cohort_of
from trainer.fit.embedding import embed_cohort, embed_visits
from trainer.fit.precision import Compute
from trainer.fit.run import Run
from trainer.fit.train import train_run
from trainer.fit.trained import Trained, load_trained
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
    """A finished run with the embeddings of every split.

    Attributes:
        trained: the run.
        cohorts: scans by split.
        embeddings: of them.
        seconds: that training took.
        probabilities: of the positive class of the held-out visits, where the run has a fusion head.
    """

    trained: Trained
    cohorts: dict[str, Cohort]
    embeddings: dict[str, np.ndarray]
    seconds: float
    probabilities: np.ndarray | None = None

    def examples(self, split: str) -> Examples:
        """Scans of a split whose score is known."""
        cohort = self.cohorts[split]
        known = ~np.isnan(cohort.scores_N)
        return Examples(self.embeddings[split][known], cohort.scores_N[known], np.array(cohort.subject_ids)[known])


def train_arm(arm: Arm, store: Store, seed: int, common: tuple[str, ...]) -> TrainedArm:
    """Train an arm in a folder that is gone afterwards.

    Args:
        arm: what to train.
        store: on what.
        seed: of the split, the weights and the order of batches; equal seeds of two arms share all three.
        common: settings of all arms of a comparison; an arm's own win.
    """
    recipe: TrainRecipe = load_recipe(arm.recipe, (*common, *arm.settings, f"seed={seed}"))
    with tempfile.TemporaryDirectory() as folder:
        location = Location(Path(folder) / "run")
        begun = time.perf_counter()
        train_run(recipe, store, location, progress=lambda *_: None)
        seconds = time.perf_counter() - begun
        trained = load_trained(Run.open(location), store)
    cohort = cohort_of(store, recipe.data, recipe.outcome.name)
    cohorts = {name: cohort.of_subjects(trained.run.split.of(name)) for name in SPLITS}
    embeddings = {
        name: embed_cohort(trained.encoder, store, recipe.data.arrays, part, EXACT) for name, part in cohorts.items()
    }
    probabilities = None
    if isinstance(trained.encoder, VisitEncoder):
        probabilities = trained.class_probability(embed_visits(trained.encoder, store, cohorts["test"], EXACT))
    return TrainedArm(trained, cohorts, embeddings, seconds, probabilities)


def progression(one: TrainedArm) -> dict[str, float]:
    """Figures of methods for pairs of visits: change, identity, order of the score."""
    held, embeddings_NE = one.cohorts["test"], one.embeddings["test"]
    pairs = visit_pairs(held, one.trained.run.recipe.outcome, which="consecutive").labelled()
    found: dict[str, float] = {"minutes": one.seconds / 60}
    if one.trained.head is not None and len(pairs):
        probabilities_P3 = one.trained.probabilities(embeddings_NE[pairs.later_P] - embeddings_NE[pairs.earlier_P])
        found["macro_f1"] = metrics.macro_f1(pairs.labels_P, probabilities_P3.argmax(axis=1))
    retrieval = similarity.same_subject_retrieval(embeddings_NE, held.subject_ids, held.days_N)
    apart = similarity.within_between(embeddings_NE, held.subject_ids, held.days_N)
    found |= {"retrieval_at_1": retrieval.value, "within_between": apart.ratio}
    rho = distance_rho(strangers(one))
    return found | {"stranger_rho": rho, "score_mae": regression(one)["mae"]}


def strangers(one: TrainedArm) -> ScoredPairs:
    """Pairs of held-out scans of different people."""
    held = one.cohorts["test"]
    return stranger_pairs(one.embeddings["test"], held.scores_N, held.subject_ids, seed=0)


def distance_rho(pairs: ScoredPairs) -> float:
    """Spearman's rho of |score difference| with cosine distance; 0 for an embedding that has collapsed."""
    rho = float(stats.spearmanr(pairs.difference_P, pairs.distance_P).statistic)
    return rho if np.isfinite(rho) else 0.0


def regression(one: TrainedArm) -> dict[str, float]:
    """A ridge probe on frozen embeddings: errors in the unit of the score."""
    probe = ridge_probe(one.examples("train"), one.examples("validation"), seed=0)
    held = one.examples("test")
    error_N = probe.predict(held.features_NF) - held.labels_N
    return {"mae": float(np.abs(error_N).mean()), "mse": float((error_N**2).mean())}


def severity(one: TrainedArm) -> dict[str, float]:
    """An MLP probe for the grade, and the order of distances from the normal anchor."""
    parts = {name: one.examples(name) for name in SPLITS}
    whole = {name: Examples(p.features_NF, p.labels_N.astype(np.int64), p.subject_ids_N) for name, p in parts.items()}
    probe = mlp_probe(whole["train"], whole["validation"], seed=0)
    held = whole["test"]
    normal_KE = parts["train"].features_NF[parts["train"].labels_N == 0]
    figures: Any = severity_figures(
        held.labels_N,
        probe.predict(held.features_NF),
        anchor_distances(held.features_NF, normal_KE),
        held.subject_ids_N,
        num_grades=int(max(part.labels_N.max() for part in whole.values())) + 1,
        seed=0,
        num_resamples=1,
    )
    names = ("macro_f1", "maee", "tau_b", "tau_b_abnormal", "auc_abnormal")
    return {name: getattr(figures, name).value for name in names} | {"minutes": one.seconds / 60}


def classification(one: TrainedArm) -> dict[str, float]:
    """Two classes by the fusion head at probability one half."""
    held = one.cohorts["test"]
    positive_N = held.scores_N == one.trained.result["fusion_head"]["classes"][1]
    assert one.probabilities is not None
    return {
        "auc": float(roc_auc_score(positive_N, one.probabilities)),
        "balanced_accuracy": float(balanced_accuracy_score(positive_N, one.probabilities >= 0.5)),
        "minutes": one.seconds / 60,
    }
