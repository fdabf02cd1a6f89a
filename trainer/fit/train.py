"""One training run from recipe and store to a finished run folder; run again, it resumes or says that it is done.

Under torchrun all processes train; the first alone writes, validates and fits the head.
"""

import json
import os
from collections.abc import Callable
from contextlib import ExitStack

import torch

from preprocess.console import LOG
from preprocess.errors import UsageError
from preprocess.lease import RUN, Lease, LeasedLocation
from preprocess.storage import Location
from preprocess.store import Store
from trainer.contradictions import refuse_contradictions
from trainer.data.augment import Augment
from trainer.data.splits import Split
from trainer.data.standards import fit_standard
from trainer.encoders.visits import VisitEncoder
from trainer.fit.background import Background
from trainer.fit.batches import TrainingBatches
from trainer.fit.checkpoint import Checkpoints, dump_state, load_state
from trainer.fit.context import (
    build_objectives,
    report_unpaired,
    two_classes,
)
from trainer.fit.distributed import joined, world_of
from trainer.fit.ensemble import train_ensemble
from trainer.fit.finishing import finish
from trainer.fit.loop import Loop
from trainer.fit.optim import Optimisation
from trainer.fit.parts import Parts
from trainer.fit.phases import Phase
from trainer.fit.precision import Compute, choose_compute
from trainer.fit.run import Run, git_revision
from trainer.fit.run_files import RunResult
from trainer.fit.saving import Saving
from trainer.fit.stop import StopRequest, listening
from trainer.fit.supply import SupplyOptions
from trainer.fit.tracking import Tracking
from trainer.fit.validation import validation_figures, validation_metrics
from trainer.recipe import TrainRecipe

_FINISHED = b"finished"
"""What the first process sends to the others instead of a state."""


def train_run(
    recipe: TrainRecipe,
    store: Store,
    location: Location,
    *,
    progress: Callable[[int, int], None],
    supply: SupplyOptions | None = None,
    split: Split | None = None,
    stop: StopRequest | None = None,
) -> RunResult:
    """Train to the end, from the latest checkpoint if there is one.

    Args:
        recipe: every setting.
        store: what to train on.
        location: the run's folder.
        progress: called with steps done and steps in all.
        supply: memory and disk cache of this machine.
        split: who trains, validates and is held out; drawn as the recipe's split says when not given.
        stop: says when to stop, from a caller who listens to signals; this function listens when not given.

    Returns:
        The run's result: last epoch's metrics, head, speed; the same in all processes.

    Raises:
        InterscanError: the store or the run does not fit the recipe, the run does not fit into the device, another
            process trains the run, or the run was stopped on request.
    """
    refuse_contradictions(recipe, where=recipe.name)
    compute = choose_compute(recipe.device, recipe.precision)
    if recipe.ensemble.members > 1:
        return _train_members(recipe, store, location, compute, progress, supply, split, stop)
    with joined(compute.device) as group, ExitStack() as stack:
        stop = stop or stack.enter_context(listening(interruptible=group.world_size == 1))
        if group.world_size > 1 and recipe.data.max_left_out > 0:
            raise UsageError(
                f"data.max_left_out is {recipe.data.max_left_out} and {group.world_size} processes share each batch, "
                "which must stay whole; set data.max_left_out = 0"
            )
        if group.world_size > 1 and recipe.data.modalities:
            raise UsageError(
                f"data.modalities has {len(recipe.data.modalities)} names and {group.world_size} processes were "
                "started; visits with several modalities train in one process: start it without torchrun"
            )
        parts = Parts.read(recipe, store, compute, group, supply or SupplyOptions(), split)
        try:
            with parts.supply:
                take_part = _lead if group.is_first else _follow
                return take_part(parts, location, stop, progress)
        except torch.OutOfMemoryError as error:
            raise UsageError(
                f"{compute.device}: out of memory ({str(error).partition('. ')[0]}); lower data.batch_size or set "
                "optim.cache_chunk in a new run, or go on with data.resident = 'host'"
            ) from error


def _train_members(
    recipe: TrainRecipe,
    store: Store,
    location: Location,
    compute: Compute,
    progress: Callable[[int, int], None],
    supply: SupplyOptions | None,
    split: Split | None,
    stop: StopRequest | None,
) -> RunResult:
    if world_of(dict(os.environ)) is not None:
        raise UsageError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']} and the {recipe.ensemble.members} members of an ensemble train "
            "in one process; start it without torchrun, or set ensemble.members = 1"
        )
    with ExitStack() as stack:
        return train_ensemble(
            recipe,
            store,
            location,
            train_one=train_run,
            compute=compute,
            progress=progress,
            supply=supply,
            split=split,
            stop=stop or stack.enter_context(listening()),
        )


def _lead(parts: Parts, location: Location, stop: StopRequest, progress: Callable[[int, int], None]) -> RunResult:
    """Train in the first process, which alone writes."""
    recipe, group = parts.plan.recipe, parts.group
    lease = Lease(location, RUN, does="trains")
    background = Background(lease.beat, pulse_s=lease.beat_s)
    leased = LeasedLocation(location, lease)
    origin = {
        "recipe": recipe.deciding,
        "fingerprint": parts.store.manifest.fingerprint,
        "git_revision": git_revision(),
    }
    checkpoints = Checkpoints(leased, keep=recipe.checkpoint.keep, background=background, origin=origin)
    loop = _build_loop(parts, checkpoints)
    # Only now, so that a recipe which cannot be followed leaves no run behind.
    run = Run.start(location, recipe, parts.store, parts.plan.split)
    result = run.result()
    if result is None:
        with lease:
            result = run.result()  # another process may have finished it before it let go
            if result is None:
                result = _train_leased(parts, Run(leased, run.record), loop, checkpoints, background, stop, progress)
                group.from_first(result.to_json())
                return result
    LOG.info("%s: already finished; nothing to do", location.uri)
    group.from_first(_FINISHED)
    group.from_first(result.to_json())
    return result


def _train_leased(
    parts: Parts,
    run: Run,
    loop: Loop,
    checkpoints: Checkpoints,
    background: Background,
    stop: StopRequest,
    progress: Callable[[int, int], None],
) -> RunResult:
    if not parts.plan.recipe.data.modalities:
        report_unpaired(parts.plan.training)
    with background:
        state = checkpoints.load_latest()
        if state is not None:
            loop.restore(state, lost_steps=checkpoints.lost_steps)
            LOG.info("%s: going on after step %d of %d", run.location.uri, loop.position.step, loop.num_steps)
        elif isinstance(parts.model.encoder, VisitEncoder):
            _standardise(parts, parts.model.encoder)
        if parts.group.world_size > 1:
            LOG.info("%d processes share each batch", parts.group.world_size)
            parts.group.from_first(dump_state(loop.state()))
        with Tracking(run.location, first_epoch=loop.position.epoch) as tracking:
            loop.run(stop, tracking, progress)
        if parts.plan.recipe.checkpoint.finish == "best":
            _go_back_to_best(loop, checkpoints)
        return finish(parts, run, loop)


def _go_back_to_best(loop: Loop, checkpoints: Checkpoints) -> None:
    """Take the weights of the best epoch; the history stays whole."""
    state = checkpoints.load_best()
    assert state is not None, "every run that names a best figure has saved one"
    loop.model.load_state_dict(state["model"])
    LOG.info("finished with the weights after epoch %d, the best by its figure", state["position"]["epoch"])


def _standardise(parts: Parts, encoder: VisitEncoder) -> None:
    """Standardise arrays by the training subjects' rows."""
    presence_NM = parts.plan.training.presence_NM
    for column, name in enumerate(encoder.modalities):
        if name in encoder.standardised:
            rows_P = parts.plan.training.rows_N[presence_NM[:, column]]
            encoder.set_standard(name, fit_standard(parts.store, name, rows_P, reader=parts.supply.readers[name]))


def _follow(parts: Parts, location: Location, stop: StopRequest, progress: Callable[[int, int], None]) -> RunResult:
    """Train in another process: the state comes from the first, and nothing is written."""
    loop = _build_loop(parts, Checkpoints(location, keep=1))
    state = parts.group.from_first(None)
    if state != _FINISHED:
        loop.restore(load_state(state, where="the first process's state"))
        loop.run(stop, None, progress)
    return RunResult.model_validate(json.loads(parts.group.from_first(None)))


def _build_loop(parts: Parts, checkpoints: Checkpoints) -> Loop:
    recipe, compute = parts.plan.recipe, parts.compute
    training, validation = parts.plan.training, parts.plan.validation
    phases = [
        Phase(
            phase.name,
            phase.epochs,
            build_objectives(
                phase.objective, parts.statistics, outcome=recipe.outcome, classes=two_classes(training.scores_N)
            ),
            phase.learning_rate,
        )
        for phase in recipe.phases
    ]
    figures = validation_figures(validation, recipe, parts.statistics)
    augment = Augment(**recipe.augment.model_dump(), axes=parts.model.encoder.input_axes[1:])
    batches = TrainingBatches(
        parts.plan.sampler,
        parts.supply,
        # Visits with several modalities are never augmented.
        augment={} if recipe.data.modalities else {recipe.data.modality: augment},
        num_views=recipe.data.views,
        compute=compute,
        group=parts.group,
    )
    return Loop(
        parts.model,
        phases,
        batches,
        optimisation=Optimisation(**recipe.optim.model_dump(exclude={"epochs"})),
        compute=compute,
        saving=Saving(checkpoints, recipe.checkpoint.every_epochs, recipe.checkpoint.best),
        validate=validation_metrics(parts.supply, validation, compute, figures),
        group=parts.group,
    )
