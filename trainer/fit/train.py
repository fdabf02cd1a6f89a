"""One training run from recipe and store to a finished run folder; run again, it resumes or says that it is done."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from preprocess.console import LOG
from preprocess.storage import Location
from preprocess.store import Store
from trainer.data.augment import Augment
from trainer.data.cohort import Cohort, read_cohort
from trainer.data.pairs import rescan_pairs, visit_pairs
from trainer.data.splits import split_subjects
from trainer.evaluate.similarity import same_subject_retrieval
from trainer.fit.checkpoint import Checkpoints
from trainer.fit.context import ScoreStatistics, build_objectives, score_statistics
from trainer.fit.embedding import embed_cohort
from trainer.fit.head import FittedHead, fit_head
from trainer.fit.loop import Loop, validation_figures
from trainer.fit.model import TrainingModel
from trainer.fit.precision import Compute, choose_compute
from trainer.fit.run import Run
from trainer.fit.stop import listening
from trainer.fit.tracking import Tracking
from trainer.recipe import LearnerTerm, TrainRecipe


def train_run(
    recipe: TrainRecipe,
    store: Store,
    location: Location,
    *,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Train to the end, from the latest checkpoint if there is one.

    Args:
        recipe: every setting.
        store: what to train on.
        location: the run's folder.
        progress: called with steps done and steps in all.

    Returns:
        The run's result: last epoch's figures, head, speed.

    Raises:
        InterscanError: the store or the run does not fit the recipe, or the run was stopped on request.
    """
    cohort = read_cohort(store, recipe.data.modality, recipe.outcome.name)
    split = split_subjects(
        cohort.subject_ids, validation=recipe.split.validation, test=recipe.split.test, seed=recipe.seed
    )
    compute = choose_compute(recipe.device, recipe.precision)
    training, validation = (cohort.of_subjects(split.of(part)) for part in ("train", "validation"))
    statistics = score_statistics(training)
    model = _new_model(recipe, in_channels=store.layout(recipe.data.modality).shape[0])
    checkpoints = Checkpoints(location, keep=recipe.checkpoint.keep)
    loop = _build_loop(recipe, model, store, training, validation, statistics, compute, checkpoints)
    # Only now, so that a recipe which cannot be followed leaves no run behind.
    run = Run.start(location, recipe, store, split)
    finished = run.result()
    if finished is not None:
        LOG.info("%s: already finished; nothing to do", location.uri)
        return finished
    _report_unpaired(training)
    with listening() as stop:
        state = checkpoints.load_latest()
        if state is not None:
            loop.restore(state)
            LOG.info("%s: going on after step %d of %d", location.uri, loop.position.step, loop.num_steps)
        with Tracking(location, first_epoch=loop.position.epoch) as tracking:
            loop.run(stop, tracking, progress)
        head = _fit_progression(model, recipe, store, training, validation, compute)
        if head is None:
            LOG.warning("no progression head: the training pairs show no two kinds of change in score and embedding")
        return _finish(run, loop, head, statistics)


def _build_loop(
    recipe: TrainRecipe,
    model: TrainingModel,
    store: Store,
    training: Cohort,
    validation: Cohort,
    statistics: ScoreStatistics | None,
    compute: Compute,
    checkpoints: Checkpoints,
) -> Loop:
    objectives = build_objectives(
        recipe.objective, statistics, outcome=recipe.outcome.name, outcome_threshold=recipe.outcome.threshold
    )
    if all(isinstance(term, LearnerTerm) for term in recipe.objective):
        # A batch in which no scan has a score would teach nothing.
        training = training.scored()
    visits = visit_pairs(validation, recipe.outcome, which="consecutive")
    can_retrieve = len(visits) > 0 and len(validation.places_by_subject) > 1

    def score(embeddings_NE: np.ndarray) -> dict[str, float]:
        if not can_retrieve:
            return {}
        found = same_subject_retrieval(embeddings_NE, validation.subject_ids, validation.days_N)
        return {"retrieval_at_1": found.value, "retrieval_chance": found.chance}

    return Loop(
        model,
        objectives,
        store,
        training,
        data=recipe.data,
        optim=recipe.optim,
        augment=Augment(**recipe.augment.model_dump()),
        compute=compute,
        seed=recipe.seed,
        checkpoints=checkpoints,
        every_epochs=recipe.checkpoint.every_epochs,
        validate=validation_figures(store, recipe.data.modality, validation, compute, score),
    )


def _new_model(recipe: TrainRecipe, *, in_channels: int) -> TrainingModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return TrainingModel(recipe.encoder, in_channels=in_channels)


def _fit_progression(
    model: TrainingModel, recipe: TrainRecipe, store: Store, training: Cohort, validation: Cohort, compute: Compute
) -> FittedHead | None:
    # In float32, as the exported model will compute.
    exact = Compute(compute.device, torch.float32)
    parts = []
    for cohort in (training, validation):
        embeddings_NE = embed_cohort(model.encoder, store, recipe.data.modality, cohort, exact)
        visits = visit_pairs(cohort, recipe.outcome, which=recipe.head.pairs).labelled()
        repeats = rescan_pairs(cohort, recipe.outcome).labelled()
        earlier = np.concatenate([visits.earlier_P, repeats.earlier_P])
        later = np.concatenate([visits.later_P, repeats.later_P])
        parts.append(
            (embeddings_NE[later] - embeddings_NE[earlier], np.concatenate([visits.labels_P, repeats.labels_P]))
        )
    return fit_head(*parts[0], *parts[1], hidden=recipe.head.hidden, strengths=recipe.head.l2, seed=recipe.seed)


def _finish(run: Run, loop: Loop, head: FittedHead | None, statistics: ScoreStatistics | None) -> dict[str, Any]:
    history = loop.position.history
    model = {
        "encoder": loop.model.encoder.state_dict(),
        "projector": loop.model.projector.state_dict(),
        "score_head": loop.model.score_head.state_dict(),
        "progression_head": head.head.state_dict() if head else None,
    }
    result = {
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "steps": loop.position.step,
        "volumes_per_s": sum(entry["volumes"] for entry in history) / sum(entry["seconds"] for entry in history),
        "last_epoch": history[-1],
        "score_statistics": statistics.to_dict() if statistics else None,
        "progression_head": head.summary() if head else None,
    }
    return run.finish(model, result)


def _report_unpaired(training: Cohort) -> None:
    """Say how many training subjects cannot be paired; they still serve objectives on single scans."""
    single = [subject for subject, places in training.places_by_subject.items() if len(places) == 1]
    if single:
        LOG.info(
            "%d of %d training subjects have one scan and are not paired", len(single), len(training.places_by_subject)
        )
