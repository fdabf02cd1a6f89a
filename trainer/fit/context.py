"""What the training subjects alone decide: threshold, score statistics, and the objectives built with them."""

from collections.abc import Sequence

import numpy as np

from preprocess.console import LOG
from preprocess.errors import StoreError, UsageError
from preprocess.manifest import OutcomeSpec
from preprocess.store import Store
from trainer.data.cohort import Cohort, read_cohort, read_visits
from trainer.data.pairs import tertile_threshold, visit_pairs
from trainer.objectives.base import ScoreStatistics, Term, TrainingScores
from trainer.objectives.terms import Objective
from trainer.recipe import DataRecipe, TrainRecipe


def cohort_of(store: Store, data: DataRecipe, outcome: str) -> Cohort:
    """What a recipe reads of a store: the scans of its modality, or the visits with its modalities.

    Raises:
        StoreError: see `read_cohort` and `read_visits`.
    """
    if data.modalities:
        return read_visits(store, data.modalities, outcome)
    return read_cohort(store, data.modality, outcome)


def training_cohort(store: Store, recipe: TrainRecipe) -> Cohort:
    """As `cohort_of`, for a recipe that is to be trained: scores that it needs have to be there.

    A recipe needs the scores that it names, or that its task or one of its objectives is about. Others train without.

    Raises:
        StoreError: the recipe needs a score that the index does not have, or as `cohort_of`.
    """
    outcome, there = recipe.outcome.name, store.manifest.outcomes
    if there and outcome not in there:
        names = [term.name for term in recipe.terms if term.needs_scores]
        if names or recipe.task != "progression" or "outcome" in recipe.model_fields_set:
            why = f"objective {names[0]} needs it" if names else "the recipe names it"
            raise StoreError(
                f"{store.location.uri}: no outcome {outcome!r} in the index, and {why}; it has {', '.join(there)}: set "
                "outcome.name, outcome.higher_is_better and outcome.threshold in the recipe, or choose one without "
                "scores such as clinimcl"
            )
        LOG.info("no %s in the index (it has %s): trained without scores", outcome, ", ".join(there))
    return cohort_of(store, recipe.data, outcome)


def two_classes(scores_N: np.ndarray) -> tuple[float, float] | None:
    """The two values that known scores have, the lower first; None when they have fewer or more."""
    values = np.unique(scores_N[~np.isnan(scores_N)])
    return (float(values[0]), float(values[1])) if len(values) == 2 else None


def score_statistics(training: Cohort) -> ScoreStatistics | None:
    """Statistics of the known scores; None when fewer than two differ."""
    known = training.scores_N[~np.isnan(training.scores_N)]
    if len(known) < 2 or known.min() == known.max():
        return None
    return ScoreStatistics(float(known.mean()), float(known.std()), float(np.ptp(known)))


def with_threshold(recipe: TrainRecipe, training: Cohort) -> TrainRecipe:
    """The recipe with the threshold that head.threshold requests, in outcome.threshold; itself where that is `fixed`.

    Everything after reads outcome.threshold: labels, objectives, evaluation and artefact. The same training subjects
    give the same number, so a run that is resumed compares equal.

    Args:
        recipe: as the user wrote it, or as an earlier call returned it.
        training: the training subjects' scans.

    Raises:
        UsageError: tertiles are requested and no pair of consecutive visits changed.
    """
    if recipe.head.threshold == "fixed":
        return recipe
    pairs = visit_pairs(training, recipe.outcome, which="consecutive").labelled()
    threshold = tertile_threshold(pairs.delta_P)
    if threshold is None:
        raise UsageError(
            f"head.threshold is 'tertiles' and the {len(training.indices_by_subject)} training subjects have "
            f"{len(pairs)} pairs of consecutive visits with {recipe.outcome.name} at both, of which 0 changed; "
            "check the tables, or set head.threshold = 'fixed'"
        )
    num_subjects = len({training.subject_ids[index] for index in pairs.earlier_P})
    source = f"tertiles of {len(pairs)} training pairs of {num_subjects} subjects"
    outcome = recipe.outcome.model_copy(update={"threshold": threshold, "source": source})
    return recipe.model_copy(update={"outcome": outcome})


def require_modalities(training: Cohort, modalities: Sequence[str]) -> None:
    """Refuse a modality that no training subject has.

    Raises:
        UsageError: there is one.
    """
    for column, name in enumerate(modalities):
        if not training.presence_NM[:, column].any():
            raise UsageError(
                f"data.modalities: no training subject has {name}; leave it out, or change seed for another split"
            )


def report_unpaired(training: Cohort) -> None:
    """Say how many training subjects cannot be paired; they still serve objectives on single scans."""
    single = [subject for subject, indices in training.indices_by_subject.items() if len(indices) == 1]
    if single:
        LOG.info(
            "%d of %d training subjects have one scan and are not paired", len(single), len(training.indices_by_subject)
        )


def build_objectives(
    terms: Sequence[Term],
    statistics: ScoreStatistics | None,
    *,
    outcome: OutcomeSpec,
    classes: tuple[float, float] | None = None,
) -> list[Objective]:
    """The recipe's terms as functions of a batch.

    Args:
        terms: the objectives of one phase, as the recipe has them.
        statistics: mean, sd and range of the training subjects' scores; None without two different scores.
        outcome: score, direction and threshold.
        classes: the two values of the training subjects' scores, the positive one last; None where there are others.

    Raises:
        UsageError: a term needs scores and the training subjects have none that differ, or it needs two classes.
    """
    scores = TrainingScores(outcome, statistics, classes)
    return [term.objective(scores) for term in terms]
