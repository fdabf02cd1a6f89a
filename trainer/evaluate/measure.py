"""Measures a finished run on its held-out subjects: every metric of its task by name, and nothing is written."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from preprocess.distances import cosine_distances
from preprocess.errors import StoreError
from preprocess.store import Store
from trainer.data.cohort import Cohort
from trainer.data.pairs import Pairs, rescan_pairs, visit_pairs
from trainer.encoders.visits import VisitEncoder
from trainer.evaluate.answers import answer_metrics
from trainer.evaluate.identity import identity_metrics
from trainer.evaluate.probes import best_threshold
from trainer.evaluate.tasks import Embedded, normal_score, stranger_correlation, task_metrics
from trainer.evaluate.turns import Answers, Turn, member_turns
from trainer.fit.embedding import embed_cohort, embed_visits
from trainer.fit.precision import Compute, choose_compute
from trainer.fit.run import Run
from trainer.fit.trained import Trained, load_trained
from trainer.metrics import embedding_space
from trainer.metrics.evaluation import Metric
from trainer.metrics.intervals import cluster_bootstrap
from trainer.metrics.pair_distances import change_correlation, noise_floor
from trainer.metrics.tasks import binary_metrics, finite_vector, spearman
from trainer.recipe import TrainRecipe


class _Draws(NamedTuple):
    """How the bootstrap draws subjects."""

    seed: int
    num_resamples: int


@dataclass(frozen=True)
class HeldOut:
    """The held-out subjects' scans, embedded, and their pairs."""

    cohort: Cohort
    embeddings_NE: np.ndarray
    pairs: Pairs
    labelled: Pairs
    repeats: Pairs

    def distances(self, pairs: Pairs) -> np.ndarray:
        """Cosine distance of each pair."""
        return cosine_distances(self.embeddings_NE, pairs.earlier_P, pairs.later_P)

    def subjects(self, pairs: Pairs) -> np.ndarray:
        """Subject of each pair; those that share scans of equal content count as one."""
        return np.array(self.cohort.groups)[pairs.earlier_P]


@dataclass(frozen=True)
class Measured:
    """What a run's networks show on its held-out subjects.

    Attributes:
        trained: the networks.
        held_out: the subjects' embedded scans.
        probabilities_P3: the held-out labelled pairs' changes as predicted; None where the recipe predicts none.
        answers: the same with those of training people by members that have not seen them; None likewise.
        metrics: by name.
    """

    trained: Trained
    held_out: HeldOut
    probabilities_P3: np.ndarray | None
    answers: Answers | None
    metrics: dict[str, Metric]


def measure_run(
    run: Run, store: Store, cohort: Cohort, *, num_resamples: int = 2000, in_turns: bool = False
) -> Measured:
    """Measure a run on its held-out subjects and write nothing.

    Args:
        run: a finished run.
        store: what it was trained on.
        cohort: what its recipe reads of that store.
        num_resamples: number of bootstrap resamples; 0 gives metrics without intervals, in a fraction of the time.
        in_turns: whether the training people of an ensemble count too, each answered by the member that has not seen
            them; else the held-out people alone.

    Raises:
        RunError: the run is not finished, or its weights were deleted.
        StoreError: the store has no scan of the held-out subjects.
    """
    return measure_trained(load_trained(run, store), store, cohort, num_resamples=num_resamples, in_turns=in_turns)


def measure_trained(
    trained: Trained, store: Store, cohort: Cohort, *, num_resamples: int = 2000, in_turns: bool = False
) -> Measured:
    """Measure the networks of a run, whatever their weights; arguments and errors as of `measure_run`.

    Args:
        trained: the networks, and the run whose recipe and split they follow.
        store: what the run was trained on.
        cohort: what its recipe reads of that store.
        num_resamples: number of bootstrap resamples; 0 gives metrics without intervals, in a fraction of the time.
        in_turns: whether the training people of an ensemble count too.
    """
    run = trained.run
    held_out = _embed_held_out(trained, store, cohort)
    draws = _Draws(run.recipe.seed, num_resamples)
    found = _similarity_metrics(held_out, draws)
    projections_NP = trained.projections(held_out.embeddings_NE)
    if projections_NP is not None and can_identify(held_out):
        found |= identity_metrics(projections_NP, held_out.cohort, **draws._asdict(), prefix="projection_")
    found |= _score_metrics(held_out, trained, draws)
    found |= _published_metrics(held_out, trained, store, cohort, draws)
    probabilities_P3, answers = None, None
    if run.recipe.task == "progression" and trained.head is not None and len(held_out.labelled):
        labelled = held_out.labelled
        differences_PE = held_out.embeddings_NE[labelled.later_P] - held_out.embeddings_NE[labelled.earlier_P]
        probabilities_P3 = trained.probabilities(differences_PE)
        told_P = trained.improvements(differences_PE)
        own = Turn(run.split.of("train"), held_out.cohort, labelled, probabilities_P3, told_P)
        earlier = member_turns(trained, store, cohort, exact_compute(run.recipe)) if in_turns else ()
        outcome = run.recipe.outcome
        answers = Answers((*earlier, own), outcome.higher_is_better, outcome.change_noise)
        found |= answer_metrics(answers, trained.result.progression_head, **draws._asdict())
    return Measured(trained, held_out, probabilities_P3, answers, found)


def _published_metrics(
    held_out: HeldOut, trained: Trained, store: Store, cohort: Cohort, draws: _Draws
) -> dict[str, Metric]:
    """What the paper of the recipe's method reports, beyond progression."""
    recipe, held = trained.run.recipe, Embedded(held_out.cohort, held_out.embeddings_NE)
    has_scores = not np.isnan(held_out.cohort.scores_N).all()
    found = {"stranger_correlation": stranger_correlation(held, *draws)} if has_scores else {}
    if recipe.task == "progression" or not has_scores:
        return found
    if recipe.task == "classification":
        return found | _classified(trained, store, cohort, held.cohort, draws)
    training, validation = (
        Embedded(part, embed_with(trained, store, part))
        for part in (cohort.of_subjects(trained.run.split.of(name)) for name in ("train", "validation"))
    )
    return found | task_metrics(recipe.task, training, validation, held, normal=normal_score(recipe), **draws._asdict())


def _classified(trained: Trained, store: Store, cohort: Cohort, held: Cohort, draws: _Draws) -> dict[str, Metric]:
    """Two classes by the fusion head, whose threshold comes from the validation subjects."""
    assert isinstance(trained.encoder, VisitEncoder)
    assert trained.result.fusion_head is not None
    negative, positive = trained.result.fusion_head.classes
    answers = []
    for part in (cohort.of_subjects(trained.run.split.of("validation")), held):
        known = part.at(np.flatnonzero(np.isin(part.scores_N, (negative, positive))).tolist())
        visits = embed_visits(trained.encoder, store, known, Compute(torch.device("cpu"), torch.float32))
        answers.append((known, known.scores_N == positive, trained.class_probability(visits)))
    (_, chosen_N, chosen_probability_N), (known, positive_N, probability_N) = answers
    threshold = best_threshold(chosen_N, chosen_probability_N) if 0 < chosen_N.mean() < 1 else 0.5
    measured = binary_metrics(positive_N, probability_N, probability_N >= threshold, known.groups, **draws._asdict())
    return {
        "class_balanced_accuracy": measured.balanced_accuracy,
        "class_auc": measured.auc,
        "class_sensitivity": measured.sensitivity,
        "class_specificity": measured.specificity,
    }


def can_identify(held_out: HeldOut) -> bool:
    """Whether somebody has visits on two days, and somebody else was scanned."""
    return len(held_out.pairs) > 0 and len(held_out.cohort.indices_by_subject) > 1


def exact_compute(recipe: TrainRecipe) -> Compute:
    """Float32 on the recipe's device, as the exported model will compute."""
    return Compute(choose_compute(recipe.device, "float32").device, torch.float32)


def embed_with(trained: Trained, store: Store, cohort: Cohort) -> np.ndarray:
    """Embeddings (N, E) of a cohort's scans, in float32 on the recipe's device; then the encoder is on the CPU."""
    recipe = trained.run.recipe
    compute = exact_compute(recipe)
    embeddings_NE = embed_cohort(trained.encoder.to(compute.device), store, recipe.data.arrays, cohort, compute)
    trained.encoder.to("cpu")
    return embeddings_NE


def _embed_held_out(trained: Trained, store: Store, cohort: Cohort) -> HeldOut:
    run = trained.run
    held = cohort.of_subjects(run.split.of("test"))
    if len(held) == 0:
        raise StoreError(
            f"{store.location.uri}: no scan of the run's held-out subjects; give the store it was trained on"
        )
    embeddings_NE = embed_with(trained, store, held)
    pairs = visit_pairs(held, run.recipe.outcome, which="consecutive")
    return HeldOut(held, embeddings_NE, pairs, pairs.labelled(), rescan_pairs(held, run.recipe.outcome))


def _similarity_metrics(held_out: HeldOut, draws: _Draws) -> dict[str, Metric]:
    cohort, embeddings_NE = held_out.cohort, held_out.embeddings_NE
    found = {"embedding_spread": Metric(value=embedding_space.embedding_spread(embeddings_NE), num=len(cohort))}
    if can_identify(held_out):
        found |= identity_metrics(embeddings_NE, cohort, **draws._asdict())
        apart = embedding_space.within_between(embeddings_NE, cohort.subject_ids, cohort.days_N)
        found["within_distance"] = Metric(value=apart.within, num=apart.num_within)
        found["between_distance"] = Metric(value=apart.between, num=apart.num_between)
        found["within_between_ratio"] = Metric(value=apart.ratio, num=apart.num_within)
    if len(held_out.repeats):
        floor = noise_floor(held_out.distances(held_out.repeats))
        found["noise_floor_median"] = Metric(value=floor.median, num=floor.num)
        found["noise_floor_95"] = Metric(value=floor.percentile_95, num=floor.num)
    if len(held_out.labelled):
        distance_P, delta_P = held_out.distances(held_out.labelled), held_out.labelled.delta_P
        interval = cluster_bootstrap(
            lambda rows: change_correlation(distance_P[rows], delta_P[rows]).rho,
            held_out.subjects(held_out.labelled),
            **draws._asdict(),
        )
        found["change_correlation"] = Metric.from_interval(interval, num=len(delta_P), chance=0.0)
    return found


def _score_metrics(held_out: HeldOut, trained: Trained, draws: _Draws) -> dict[str, Metric]:
    predicted_N = trained.predicted_scores(held_out.embeddings_NE)
    known_N = ~np.isnan(held_out.cohort.scores_N)
    if predicted_N is None or not known_N.any():
        return {}
    true = held_out.cohort.scores_N[known_N]
    guess = finite_vector(predicted_N[known_N], len(true), "predicted scores")
    error = np.abs(guess - true)
    subjects = np.array(held_out.cohort.groups)[known_N]
    assert trained.result.score_statistics is not None
    mean = trained.result.score_statistics.mean
    mae = cluster_bootstrap(lambda rows: float(error[rows].mean()), subjects, **draws._asdict())
    rho = cluster_bootstrap(lambda rows: spearman(guess[rows], true[rows]), subjects, **draws._asdict())
    return {
        "mae": Metric.from_interval(mae, num=len(true), chance=float(np.abs(true - mean).mean())),
        "spearman": Metric.from_interval(rho, num=len(true), chance=0.0),
    }
