"""The training loop: plan an epoch, stream it, step, validate, write down; resumes to the same weights.

What a step sees depends on seed, epoch and batch only, so a run that was cut off at any point and started again ends
where an uninterrupted one ends.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from preprocess.console import LOG
from preprocess.errors import Interrupted, RunError
from preprocess.store import Store
from preprocess.transforms import unit_scale
from trainer.data.augment import Augment
from trainer.data.cohort import Cohort
from trainer.data.sampling import Batches, plan_epoch
from trainer.data.stream import VolumeStream
from trainer.fit.checkpoint import Checkpoints, State
from trainer.fit.embedding import embed_cohort
from trainer.fit.model import TrainingModel
from trainer.fit.optim import build_optimiser, build_schedule
from trainer.fit.precision import Compute
from trainer.fit.stop import StopRequest
from trainer.fit.tracking import History, Tracking
from trainer.objectives.terms import Objective, total
from trainer.recipe import DataRecipe, OptimRecipe

_COLLAPSE = 0.97
"""A contrastive loss above this part of its chance level for a whole epoch has learned nothing."""


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

    Args:
        model: networks; moved to the device.
        objectives: parts of the loss.
        store: where volumes are.
        training: scans to train on.
        data: sampling, batch size, read-ahead.
        optim: epochs and AdamW settings.
        augment: random views.
        compute: device and number format.
        seed: of the run.
        checkpoints: where state goes.
        every_epochs: epochs between checkpoints.
        validate: figures of the model after an epoch, by name.
    """

    def __init__(
        self,
        model: TrainingModel,
        objectives: Sequence[Objective],
        store: Store,
        training: Cohort,
        *,
        data: DataRecipe,
        optim: OptimRecipe,
        augment: Augment,
        compute: Compute,
        seed: int,
        checkpoints: Checkpoints,
        every_epochs: int,
        validate: Callable[[nn.Module], dict[str, float]],
    ) -> None:
        self.model = model.to(compute.device, memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self._objectives = objectives
        self._store = store
        self._training = training
        self._data = data
        self._optim = optim
        self._augment = augment
        self._compute = compute
        self._seed = seed
        self._checkpoints = checkpoints
        self._every_epochs = every_epochs
        self._validate = validate
        self._scale = unit_scale(store.manifest.recipe.dtype)
        self._optimiser = build_optimiser(model, learning_rate=optim.learning_rate, weight_decay=optim.weight_decay)
        num_steps = sum(len(self.plan(epoch)) for epoch in range(optim.epochs))
        self._schedule = build_schedule(self._optimiser, num_steps=num_steps, warmup_fraction=optim.warmup_fraction)
        self._scaler = compute.scaler()
        self.num_steps = num_steps
        self.position = Position()

    def plan(self, epoch: int) -> Batches:
        """The batches of an epoch, as places in the training cohort."""
        return plan_epoch(
            self._training,
            sampling=self._data.sampling,
            batch_size=self._data.batch_size,
            subjects_per_epoch=self._data.subjects_per_epoch,
            seed=self._seed,
            epoch=epoch,
        )

    def state(self) -> State:
        """Everything needed to go on after the last step."""
        position = self.position
        return {
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "scaler": self._scaler.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "position": {"epoch": position.epoch, "batch": position.batch, "step": position.step},
            "sums": dict(position.sums),
            "history": [dict(entry) for entry in position.history],
        }

    def restore(self, state: State) -> None:
        """The inverse of `state`."""
        self.model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self._scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["torch_rng"])
        self.position = Position(**state["position"], sums=dict(state["sums"]), history=list(state["history"]))

    def run(self, stop: StopRequest, tracking: Tracking, progress: Callable[[int, int], None]) -> None:
        """Train to the end.

        Args:
            stop: asked after every step.
            tracking: told of every epoch.
            progress: called with steps done and steps in all.

        Raises:
            Interrupted: stopped on request, after a checkpoint.
            RunError: the loss is not finite.
            StoreError: a row is missing or damaged.
        """
        self.model.train()
        position = self.position
        while position.epoch < self._optim.epochs:
            self._run_epoch(stop, progress)
            position.history.append(self._close_epoch())
            position.epoch, position.batch, position.sums = position.epoch + 1, 0, {}
            tracking.record(position.history)
            if position.epoch % self._every_epochs == 0 or position.epoch == self._optim.epochs:
                self._checkpoints.save(self.state(), step=position.step)

    def _run_epoch(self, stop: StopRequest, progress: Callable[[int, int], None]) -> None:
        position = self.position
        plan = self.plan(position.epoch)[position.batch :]
        rows = [self._training.rows_N[batch] for batch in plan]
        started = time.perf_counter()
        with VolumeStream(
            self._store,
            self._data.modality,
            rows,
            in_flight=self._data.in_flight,
            pin_memory=self._compute.pin_memory,
        ) as stream:
            for places_BK, voxels_BKCDHW in zip(plan, stream, strict=True):
                self._step(places_BK, voxels_BKCDHW)
                position.batch += 1
                position.step += 1
                progress(position.step, self.num_steps)
                if stop.wanted:
                    break
        self._add("bytes", stream.counts.bytes_fetched)
        self._add("seconds", time.perf_counter() - started)
        if stop.wanted:
            self._checkpoints.save(self.state(), step=position.step)
            raise Interrupted(
                f"stopped after step {position.step} of {self.num_steps}, checkpoint written; "
                "run the same command again to go on"
            )

    def _step(self, places_BK: np.ndarray, voxels_BKCDHW: torch.Tensor) -> None:
        position = self.position
        device = self._compute.device
        volumes_NCDHW = self._augment(
            voxels_BKCDHW.flatten(0, 1).to(device, non_blocking=self._compute.pin_memory),
            scale=self._scale,
            seed=self._seed,
            epoch=position.epoch,
            batch=position.batch,
        )
        scores_BK = torch.as_tensor(self._training.scores_N[places_BK], dtype=torch.float32, device=device)
        subjects_B = torch.as_tensor(self._training.subject_codes_N[places_BK[:, 0]], device=device)
        with self._compute.autocast():
            output = self.model(volumes_NCDHW, scores_BK, subjects_B)
        loss, values = total(self._objectives, output)
        loss_value = float(loss.detach())
        if not math.isfinite(loss_value):
            raise RunError(
                f"the loss is {loss_value} at step {position.step + 1} of {self.num_steps}; start a new run with a "
                "lower optim.learning_rate, or with optim.clip_norm"
            )
        self._optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(self._scaler.scale(loss))
        if self._optim.clip_norm > 0:
            self._scaler.unscale_(self._optimiser)
            nn.utils.clip_grad_norm_(self.model.parameters(), self._optim.clip_norm)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._schedule.step()
        num_scans = places_BK.size
        self._add("volumes", num_scans)
        self._add("loss", loss_value * num_scans)
        for name, value in values.items():
            self._add(f"{name}.volumes", num_scans)
            self._add(name, float(value.loss.detach()) * num_scans)
            self._add(f"{name}.chance", value.chance * num_scans)

    def _add(self, name: str, amount: float) -> None:
        self.position.sums[name] = self.position.sums.get(name, 0.0) + amount

    def _close_epoch(self) -> dict[str, float]:
        """Means of the epoch, its speed, and the validation figures."""
        sums = self.position.sums
        entry: dict[str, float] = {
            "epoch": float(self.position.epoch),
            "step": float(self.position.step),
            "learning_rate": self._optimiser.param_groups[0]["lr"],
            "loss": sums["loss"] / sums["volumes"],
            "volumes": sums["volumes"],
            "seconds": sums["seconds"],
            "volumes_per_s": sums["volumes"] / sums["seconds"],
            "mb_per_s": sums["bytes"] / sums["seconds"] / 1e6,
        }
        for objective in self._objectives:
            if objective.name not in sums:
                continue
            chance = sums[f"{objective.name}.chance"]
            entry[objective.name] = sums[objective.name] / sums[f"{objective.name}.volumes"]
            if chance > 0:
                entry[f"{objective.name}_over_chance"] = sums[objective.name] / chance
        if entry.get("info_nce_over_chance", 0.0) >= _COLLAPSE:
            LOG.warning(
                "epoch %d: info_nce is %.2f of its chance level ln B: collapsed, or not begun to learn",
                self.position.epoch,
                entry["info_nce_over_chance"],
            )
        return {**entry, **self._validate(self.model)}


def validation_figures(
    store: Store, modality: str, cohort: Cohort, compute: Compute, score: Callable[[np.ndarray], dict[str, float]]
) -> Callable[[nn.Module], dict[str, float]]:
    """A function that embeds the validation subjects and hands the embeddings to `score`.

    Args:
        store: where volumes are.
        modality: which array.
        cohort: the validation subjects' scans.
        compute: device and number format.
        score: figures of embeddings_NE by name.
    """

    def figures(model: nn.Module) -> dict[str, float]:
        encoder: Any = model.encoder
        embeddings_NE = embed_cohort(encoder, store, modality, cohort, compute)
        return score(embeddings_NE)

    return figures
