"""What a run will read, counted from its own epoch plans, and what one training step computes; touches no network."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from preprocess.errors import UsageError
from trainer.data.cohort import Cohort, Rows
from trainer.data.labels import Labels
from trainer.encoders.registry import input_channels
from trainer.fit.model import scan_model
from trainer.fit.run_plan import RunPlan
from trainer.recipe import EncoderRecipe, TrainRecipe

Precision = str
"""`float32`, `bfloat16` or `float16`."""


@dataclass(frozen=True)
class Workload:
    """How many volumes a run reads, and for what.

    Attributes:
        volumes_per_epoch: read for training, one number an epoch, member after member of an ensemble.
        num_steps: batches of all epochs.
        scans_per_subject: K, the scans of a subject in a batch.
        largest_batch: volumes of the largest batch.
        validation_volumes: embedded after each epoch, the mean over members.
        head_volumes: embedded once at the end, for the progression head.
        rows_N: rows of the store that training reads, ascending.
    """

    volumes_per_epoch: tuple[int, ...]
    num_steps: int
    scans_per_subject: int
    largest_batch: int
    validation_volumes: int
    head_volumes: int
    rows_N: Rows

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return len(self.volumes_per_epoch)

    @property
    def training_volumes(self) -> int:
        """Read for training, all epochs."""
        return sum(self.volumes_per_epoch)

    @property
    def embedded_volumes(self) -> int:
        """Read for validation and for the head."""
        return self.epochs * self.validation_volumes + self.head_volumes

    @property
    def num_requests(self) -> int:
        """Objects read: a volume is one."""
        return self.training_volumes + self.embedded_volumes


@dataclass(frozen=True, slots=True)
class StepWork:
    """One volume's share of a training step.

    Attributes:
        num_parameters: trained parameters.
        flop: floating point operations of forward and backward pass.
        saved_bytes: kept for the backward pass.
    """

    num_parameters: int
    flop: float
    saved_bytes: float


def count_workload(recipe: TrainRecipe, cohort: Cohort) -> Workload:
    """Count what `train_run` reads from first step to last, from the same `RunPlan`.

    Raises:
        UsageError: too few subjects to split or to batch, or see `RunPlan.of`.
    """
    members = RunPlan.of(recipe, cohort).members(cohort)
    epochs = [member.sampler.batches(epoch) for member in members for epoch in range(recipe.epochs)]
    return Workload(
        volumes_per_epoch=tuple(sum(batch.size for batch in batches) for batches in epochs),
        num_steps=sum(len(batches) for batches in epochs),
        scans_per_subject=epochs[0][0].shape[1],
        largest_batch=max(batch.size for batches in epochs for batch in batches),
        validation_volumes=round(sum(len(member.validation) for member in members) / len(members)),
        head_volumes=sum(len(member.training) + len(member.validation) for member in members),
        rows_N=np.unique(np.concatenate([member.sampler.cohort.rows_N for member in members])),
    )


def measure_step(encoder: EncoderRecipe, shape_CDHW: tuple[int, ...], precision: Precision) -> StepWork:
    """Count a training step's work by running it on tensors without memory.

    Args:
        encoder: the recipe's settings of the encoder.
        shape_CDHW: shape of one volume.
        precision: number format of autocast; `float32` turns autocast off.

    Returns:
        The work of one volume; objectives and views are not in it.

    Raises:
        UsageError: the encoder takes several modalities.
    """
    if encoder.name == "multimodal":
        raise UsageError(
            "plan measures one modality and encoder.name is 'multimodal'; time one epoch of the run instead"
        )
    num_volumes = 2  # BatchNorm refuses one
    saved: dict[int, int] = {}
    alive: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage: Any = tensor.untyped_storage()
        saved[storage._cdata] = storage.nbytes()
        alive.append(tensor)  # the next storage could get the address of a freed one
        return tensor

    # bfloat16 stands for float16: both are 2 bytes, and autocast on the CPU knows both.
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:
        model = scan_model(encoder, in_channels=input_channels(encoder.name, shape_CDHW))
        volumes = torch.empty(num_volumes, *shape_CDHW)
        hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
        with hooks, torch.autocast("cpu", torch.bfloat16, enabled=precision != "float32"):
            labels = Labels(torch.empty(1, num_volumes), torch.empty(1), torch.empty(1, num_volumes))
            output = model(volumes, labels)
        loss = output.embeddings_BKE.sum() + output.projections_BKP.sum() + output.predicted_BK.sum()
        torch.autograd.backward(loss)
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    activations = sum(num_bytes for address, num_bytes in saved.items() if address not in weights)
    return StepWork(
        num_parameters=num_parameters,
        flop=counter.get_total_flops() / num_volumes,
        saved_bytes=activations / num_volumes,
    )
