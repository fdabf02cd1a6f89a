"""The training loop: plan an epoch, stream it, step, validate, write down; resumes to the same weights.

What a step sees depends on seed, epoch and batch only, so a run that was cut off at any point and started again ends
where an uninterrupted one ends. The plan is that of all processes together, each reads its part of every batch.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
import torch

from preprocess.console import LOG
from preprocess.errors import Interrupted, RunError
from trainer.data.sampling import MIN_BATCH
from trainer.data.visits import VisitBatch
from trainer.fit.batches import Indices, TrainingBatches
from trainer.fit.checkpoint import State
from trainer.fit.diagnosis import diagnose, require_finite_weights
from trainer.fit.distributed import ALONE, Group
from trainer.fit.model import TrainingModel
from trainer.fit.optim import Optimisation, build_optimiser, build_schedule
from trainer.fit.phases import Phase, phase_of
from trainer.fit.precision import Compute, name_of
from trainer.fit.saving import Saving
from trainer.fit.step import Step
from trainer.fit.stop import StopRequest
from trainer.fit.synced_norm import synchronise
from trainer.fit.tracking import History, Tracking

_COLLAPSE = 0.97
"""A loss that `warns_at_chance` and is above this part of its chance level for an epoch has learned nothing."""


@dataclass(slots=True)
class Position:
    """How far training is, and the sums of the epoch under way."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    history: History = field(default_factory=list)


class Loop:
    """Trains one model on one cohort.

        loop = Loop(model, phases, batches, optimisation=optimisation, compute=compute, saving=saving, validate=score)
        loop.restore(state)  # only where a run goes on from a checkpoint
        loop.run(stop, tracking, progress)

    Args:
        model: networks; moved to the device.
        phases: objectives, epoch by epoch.
        batches: what it trains on.
        optimisation: how weights are updated.
        compute: device and number format.
        saving: where state goes, and when.
        validate: metrics of the model after an epoch, by name; called in the group's first process.
        group: the processes that train together.

    Raises:
        UsageError: too few subjects for a batch, or for so many processes.
    """

    def __init__(
        self,
        model: TrainingModel,
        phases: Sequence[Phase],
        batches: TrainingBatches,
        *,
        optimisation: Optimisation,
        compute: Compute,
        saving: Saving,
        validate: Callable[[TrainingModel], dict[str, float]],
        group: Group = ALONE,
    ) -> None:
        synchronise(model, group)
        self.model = model.to(compute.device, memory_format=model.encoder.memory_format)  # type: ignore[call-overload]
        self._phases = phases
        self._batches = batches
        self.sampler = batches.sampler
        self._training = batches.sampler.cohort
        self._epochs = sum(phase.epochs for phase in phases)
        self._compute = compute
        self._seed = batches.sampler.seed
        self._saving = saving
        self._checkpoints = saving.checkpoints
        self._validate = validate
        self._group = group
        self._optimiser = build_optimiser(
            model,
            learning_rate=optimisation.learning_rate,
            weight_decay=optimisation.weight_decay,
            name=optimisation.name,
            head_factor=optimisation.head_factor,
        )
        plans = [self.sampler.batches(epoch) for epoch in range(self._epochs)]
        group.require_enough(min(len(batch) for plan in plans for batch in plan))
        steps = [0] * len(phases)
        for epoch, plan in enumerate(plans):
            steps[phase_of(phases, epoch)[0]] += len(plan)
        factors = [(phase.learning_rate or optimisation.learning_rate) / optimisation.learning_rate for phase in phases]
        self._schedule = build_schedule(
            self._optimiser, phases=list(zip(steps, factors, strict=True)), warmup_fraction=optimisation.warmup_fraction
        )
        self._step = Step(
            model,
            phases[0].objectives,
            optimiser=self._optimiser,
            schedule=self._schedule,
            compute=compute,
            clip_norm=optimisation.clip_norm,
            cache_chunk=optimisation.cache_chunk,
            group=group,
        )
        self._scaler = self._step.scaler
        self.num_steps = sum(steps)
        self.position = Position()

    @property
    def precision(self) -> str:
        """The number format that steps are computed in, as recipes call it."""
        return name_of(self._compute.dtype)

    def state(self) -> State:
        """Everything needed to go on after the last step."""
        position = self.position
        return {
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "precision": self.precision,
            "position": {"epoch": position.epoch, "batch": position.batch, "step": position.step},
            "sums": dict(position.sums),
            "history": [dict(entry) for entry in position.history],
        }

    def restore(self, state: State, *, lost_steps: int = 0) -> None:
        """The inverse of `state`.

        Args:
            state: what `state` returned, in this run.
            lost_steps: steps that the run had done beyond it and that are computed again; recorded in the history.
        """
        self.model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        if state["scaler"]:  # empty where the run has not computed in float16 so far
            self._scaler.load_state_dict(state["scaler"])
        before = state.get("precision", self.precision)
        if before != self.precision and self._group.is_first:
            LOG.warning(
                "computed in %s so far, on this machine in %s: the figures will differ by rounding from those of one "
                "machine; go on where the run began to keep them alike",
                before,
                self.precision,
            )
        self.position = Position(**state["position"], sums=dict(state["sums"]), history=list(state["history"]))
        if lost_steps:
            self._add("lost_steps", lost_steps)

    def run(self, stop: StopRequest, tracking: Tracking | None, progress: Callable[[int, int], None]) -> None:
        """Train to the end.

        Args:
            stop: checked after every step, in every process; a stop requested in one stops all.
            tracking: records every epoch; None in all processes but the first.
            progress: called with steps done and steps in all.

        Raises:
            Interrupted: stopped on request, after a checkpoint.
            RunError: the loss is not finite, another process ended, or another took over the run.
            StorageError: a checkpoint could not be written.
            StoreError: a row is missing or damaged.
        """
        self.model.train()
        position = self.position
        while position.epoch < self._epochs:
            self._run_epoch(stop, progress)
            require_finite_weights(self.model, steps_done=position.step, group=self._group)
            position.history.append(self._close_epoch())
            position.epoch, position.batch, position.sums = position.epoch + 1, 0, {}
            if tracking is not None:
                tracking.record(position.history)
            if self._group.is_first and self._saving.is_due(position.epoch, num_epochs=self._epochs):
                best = self._saving.newly_best(position.history, num_epochs=self._epochs)
                self._checkpoints.save_async(self.state(), step=position.step, best=best)
        self._checkpoints.wait()

    def _run_epoch(self, stop: StopRequest, progress: Callable[[int, int], None]) -> None:
        position = self.position
        phase = phase_of(self._phases, position.epoch)[1]
        self._step.objectives = phase.objectives
        if position.batch == 0:
            # Within an epoch it is part of the checkpoint: the weights that made it are gone.
            self._place_anchor(phase)
        plan = self.sampler.batches(position.epoch)[position.batch :]
        stopping = False
        started = perf_counter()
        with self._batches.read(plan) as stream:
            for indices_BK, read in zip(plan, stream, strict=True):
                began = perf_counter()
                kept_BK = np.delete(indices_BK, read.left_out, axis=0)
                if len(kept_BK) >= MIN_BATCH:
                    self._train_on(kept_BK, read)
                self._add("step_seconds", perf_counter() - began)
                position.batch += 1
                position.step += 1
                progress(position.step, self.num_steps)
                self._checkpoints.raise_failure()
                stopping = self._group.any(stop.requested)
                if stopping:
                    break
        self._add("seconds", perf_counter() - started)
        self._add("wait_seconds", stream.counts.wait_seconds)
        self._add("bytes", self._group.total(stream.counts.bytes_fetched))
        self._add("device_hits", self._group.total(stream.counts.device_hits))
        if stopping:
            require_finite_weights(self.model, steps_done=position.step, group=self._group)
            if self._group.is_first:
                self._checkpoints.save_last(self.state(), step=position.step)
            raise Interrupted(
                f"stopped after step {position.step} of {self.num_steps}, checkpoint written; "
                "run the same command again to go on"
            )

    def _place_anchor(self, phase: Phase) -> None:
        """Make the mean embedding of the training scans that an objective of the phase chooses the model's anchor."""
        for objective in phase.objectives:
            chosen = objective.anchor_scans(self._training.scores_N, seed=self._seed)
            if chosen is None:
                continue
            embeddings_NE = self._batches.supply.embed(
                self.model.encoder, self._training.at(chosen.tolist()), self._compute
            )
            self.model.anchor_E.copy_(torch.from_numpy(embeddings_NE.mean(axis=0)))

    def _train_on(self, indices_BK: Indices, read: VisitBatch) -> None:
        position = self.position
        views = self._batches.views(indices_BK, read, epoch=position.epoch, batch=position.batch)
        batch = (views, self._batches.labels(indices_BK))
        loss, values = self._step.gradients(*batch)
        if not self._step.update():
            what = "the gradient is not finite" if math.isfinite(loss) else f"the loss is {loss}"
            why = diagnose(
                self._step,
                self.model,
                batch,
                self._batches.subjects(indices_BK),
                precision=self.precision,
                steps_done=position.step,
                group=self._group,
            )
            raise RunError(f"{what} at step {position.step + 1} of {self.num_steps}; {why}")
        num_scans = indices_BK.size
        self._add("volumes", num_scans)
        self._add("loss", loss * num_scans)
        for name, value in values.items():
            self._add(f"{name}.volumes", num_scans)
            self._add(name, float(value.loss.detach()) * num_scans)
            self._add(f"{name}.chance", value.chance * num_scans)

    def _add(self, name: str, amount: float) -> None:
        self.position.sums[name] = self.position.sums.get(name, 0.0) + amount

    def _close_epoch(self) -> dict[str, float]:
        """Means of the epoch, its speed, and the validation metrics.

        `utilisation` is the time in steps over the wall time of the epoch's steps, as MLPerf Storage defines it;
        it and `wait_seconds` are those of this process, speeds and `device_hits` (`ReadCounts`) of all processes.
        """
        sums = self.position.sums
        entry: dict[str, float] = {
            "epoch": float(self.position.epoch),
            "phase": float(phase_of(self._phases, self.position.epoch)[0]),
            "step": float(self.position.step),
            "learning_rate": self._optimiser.param_groups[0]["lr"],
            "loss": sums["loss"] / sums["volumes"],
            "volumes": sums["volumes"],
            "seconds": sums["seconds"],
            "volumes_per_s": sums["volumes"] / sums["seconds"],
            "mb_per_s": sums["bytes"] / sums["seconds"] / 1e6,
            "wait_seconds": sums["wait_seconds"],
            "utilisation": sums["step_seconds"] / sums["seconds"],
        }
        entry |= {name: sums[name] for name in ("lost_steps", "device_hits") if sums.get(name)}
        for objective in phase_of(self._phases, self.position.epoch)[1].objectives:
            if objective.name not in sums:
                continue
            chance = sums[f"{objective.name}.chance"]
            entry[objective.name] = sums[objective.name] / sums[f"{objective.name}.volumes"]
            if chance > 0:
                entry[f"{objective.name}_over_chance"] = sums[objective.name] / chance
        if not self._group.is_first:
            return entry
        for objective in phase_of(self._phases, self.position.epoch)[1].objectives:
            over_chance = entry.get(f"{objective.name}_over_chance", 0.0)
            if objective.warns_at_chance and over_chance >= _COLLAPSE:
                LOG.warning(
                    "epoch %d: %s is %.2f of its chance level: collapsed, or not begun to learn",
                    self.position.epoch,
                    objective.name,
                    over_chance,
                )
        return {**entry, **self._validate(self.model)}
