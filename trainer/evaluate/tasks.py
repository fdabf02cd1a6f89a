"""The published metrics of each task, from frozen embeddings: regression of a score, grades of severity.

Probes are fitted on training subjects and chosen on validation subjects; held-out subjects are only scored.
"""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

from preprocess.distances import distances_from_mean
from trainer.data.cohort import Cohort
from trainer.evaluate.mlp_probe import mlp_probe
from trainer.evaluate.probes import Examples, ridge_probe
from trainer.metrics.evaluation import Metric
from trainer.metrics.intervals import cluster_bootstrap
from trainer.metrics.pair_distances import distance_correlation, stranger_pairs
from trainer.metrics.severity import SeverityMetrics, normal_indices, severity_metrics
from trainer.metrics.tasks import RegressionMetrics, regression_metrics, spearman
from trainer.recipe import TrainRecipe

_NUM_BINS = 10
"""Bins of the training scores' range in which by-shot errors count training scans."""


@dataclass(frozen=True)
class Embedded:
    """Scans of one split with their frozen embeddings.

    Attributes:
        cohort: the scans.
        embeddings_NE: in its order.
    """

    cohort: Cohort
    embeddings_NE: np.ndarray

    def examples(self) -> Examples:
        """The scans whose score is known, as a probe takes them."""
        known_N = ~np.isnan(self.cohort.scores_N)
        return Examples(
            self.embeddings_NE[known_N],
            self.cohort.scores_N[known_N],
            np.array(self.cohort.groups)[known_N],
        )


def task_metrics(
    task: Literal["regression", "severity"],
    training: Embedded,
    validation: Embedded,
    held_out: Embedded,
    *,
    normal: float,
    seed: int,
    num_resamples: int = 2000,
) -> dict[str, Metric]:
    """Metrics of a probe on frozen embeddings.

    Args:
        task: what the embeddings are for.
        training: subjects that probes are fitted on.
        validation: subjects on whose scans penalty and epoch are chosen.
        held_out: subjects that are scored.
        normal: grade of a normal scan, whose training embeddings make the anchor of severity.
        seed: decides the draws of the probe and of the bootstrap.
        num_resamples: number of bootstrap resamples; 0 gives metrics without intervals.

    Raises:
        UsageError: the scores of the training subjects cannot be learned from, for example one class only.
    """
    if task == "regression":
        return _regression(training.examples(), validation.examples(), held_out.examples(), seed, num_resamples)
    return _severity(training.examples(), validation.examples(), held_out.examples(), normal, seed, num_resamples)


def stranger_correlation(held_out: Embedded, seed: int, num_resamples: int = 2000) -> Metric:
    """Spearman's rho of |score difference| with cosine distance, over pairs of different people (LEARNER's plot)."""
    cohort = held_out.cohort
    pairs = stranger_pairs(held_out.embeddings_NE, cohort.scores_N, cohort.subject_ids, seed=seed)
    return distance_correlation(pairs, cohort.subject_ids, seed=seed, num_resamples=num_resamples)


def normal_score(recipe: TrainRecipe) -> float:
    """Which score is normal: what the recipe's objectives call so, 0 where none says."""
    named = (getattr(term, "normal", None) for term in recipe.terms)
    return next((float(normal) for normal in named if normal is not None), 0.0)


def _regression(
    training: Examples, validation: Examples, held_out: Examples, seed: int, num_resamples: int
) -> dict[str, Metric]:
    probe = ridge_probe(training, validation)
    true_N, guess_N = held_out.labels_N.astype(float), probe.predict(held_out.features_NF)
    train_T = training.labels_N.astype(float)
    width = float(np.ptp(train_T)) / _NUM_BINS or 1.0
    found = _named(
        "probe_",
        regression_metrics(
            true_N,
            guess_N,
            held_out.subject_ids_N,
            train_scores_T=train_T,
            bin_width=width,
            seed=seed,
            num_resamples=num_resamples,
        ),
    )
    rho = cluster_bootstrap(
        lambda rows: spearman(guess_N[rows], true_N[rows]),
        held_out.subject_ids_N,
        seed=seed,
        num_resamples=num_resamples,
    )
    return {"probe_spearman": Metric.from_interval(rho, num=len(true_N), chance=0.0), **found}


def _severity(
    training: Examples, validation: Examples, held_out: Examples, normal: float, seed: int, num_resamples: int
) -> dict[str, Metric]:
    grades, code_N = np.unique(training.labels_N, return_inverse=True)
    # Grades in order, the normal one first, whatever numbers the table uses.
    coded = Examples(training.features_NF, code_N.astype(np.int64), training.subject_ids_N)
    chosen, scored = (
        Examples(one.features_NF, np.searchsorted(grades, one.labels_N).astype(np.int64), one.subject_ids_N)
        for one in (_of_grades(validation, grades), _of_grades(held_out, grades))
    )
    probe = mlp_probe(coded, chosen, seed=seed)
    normals_KE = training.features_NF[normal_indices(training.labels_N, normal)]
    found = severity_metrics(
        scored.labels_N,
        probe.predict(scored.features_NF),
        distances_from_mean(scored.features_NF, normals_KE),
        scored.subject_ids_N,
        num_grades=len(grades),
        seed=seed,
        num_resamples=num_resamples,
    )
    return _named("severity_", found)


def _of_grades(examples: Examples, grades: np.ndarray) -> Examples:
    return examples.take(np.flatnonzero(np.isin(examples.labels_N, grades)))


def _named(prefix: str, metrics: RegressionMetrics | SeverityMetrics) -> dict[str, Metric]:
    return {f"{prefix}{one.name}": getattr(metrics, one.name) for one in fields(metrics)}
