"""What a training step draws depends on seed, epoch and batch alone, whatever the process drew before or draws after.

So a run that goes on from any checkpoint draws what the lost one would have drawn, without a generator's state in it.
Augmentation has a generator of its own for each batch (augment.py). Everything else, from mixtures of an objective to
the dropout of a layer that another library wrote, draws from torch's generators, and a step lends it fresh ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch

_LOSS = -1
"""In the place of the first visit: the loss is that of the whole batch."""
_FRAMES = 0xF4A3
"""Tells rows of numbers apart from other draws of the same batch."""


def batch_seed(*parts: int) -> int:
    """One seed from several numbers, far apart for neighbours (multiplier: Knuth, MMIX).

    Args:
        parts: for a batch its run's seed, its epoch and its number in the epoch.
    """
    mixed = 0
    for part in parts:
        mixed = (mixed * 6364136223846793005 + part + 1442695040888963407) % 2**62
    return mixed


@dataclass(frozen=True, slots=True)
class _Batch:
    """The batch that is being embedded: its seed, and the number of the first visit at hand."""

    seed: int
    first: int


_EMBEDDED: ContextVar[_Batch | None] = ContextVar("the batch that is being embedded", default=None)


@contextmanager
def drawing_for_visits(seed: int, device: torch.device, *, first: int) -> Iterator[None]:
    """Lend torch generators made for some neighbouring visits of a batch while they are embedded.

        with drawing_for_visits(batch_seed(7, epoch, batch), device, first=0):
            embedded = encoder.embed_visits(inputs, present_NM)

    Embedding the same visits again draws the same, as gradient caching needs it.

    Args:
        seed: from `batch_seed`.
        device: where it is computed.
        first: number of the first of these visits in the whole batch.
    """
    token = _EMBEDDED.set(_Batch(seed, first))
    try:
        with _generators(batch_seed(seed, first), device):
            yield
    finally:
        _EMBEDDED.reset(token)


@contextmanager
def drawing_for_loss(seed: int, device: torch.device) -> Iterator[None]:
    """Lend torch generators made for the loss of a batch, the same in all processes that share it.

    Args:
        seed: from `batch_seed`.
        device: where it is computed.
    """
    with _generators(batch_seed(seed, _LOSS), device):
        yield


def uniform_rows(num_rows: int, num_columns: int) -> torch.Tensor:
    """Numbers in [0, 1), float64 on the CPU, a row for each visit at hand.

    Within `drawing_for_visits` a visit's row depends on the batch and on its number in it, in whatever parts and by
    however many processes the batch is embedded. Elsewhere torch's generator draws, as for dropout.
    """
    batch = _EMBEDDED.get()
    if batch is None:
        return torch.rand(num_rows, num_columns, dtype=torch.float64, device="cpu")
    rows = np.random.default_rng([batch.seed, _FRAMES]).random((batch.first + num_rows, num_columns))
    return torch.from_numpy(rows[batch.first :])


@contextmanager
def _generators(seed: int, device: torch.device) -> Iterator[None]:
    """Torch's generators of the CPU and of the device, seeded; afterwards as they were."""
    # Not torch.manual_seed, which formats the stack for devices that are not there.
    generators = [torch.default_generator]
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        generators.append(torch.cuda.default_generators[index])
    states = [generator.get_state() for generator in generators]
    try:
        for generator in generators:
            generator.manual_seed(seed)
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)
