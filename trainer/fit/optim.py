"""AdamW or SGD without decay on biases and normalisation; linear warm-up and cosine decay to zero in each phase."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

_MOMENTUM = 0.9


@dataclass(frozen=True, slots=True)
class Optimisation:
    """How weights are updated.

        Optimisation(learning_rate=1e-3, weight_decay=1e-4, clip_norm=1.0)

    Attributes:
        learning_rate: the encoder's highest learning rate, reached at the end of warm-up.
        weight_decay: on weights; never on biases and normalisation.
        name: `adamw`, or `sgd` with momentum 0.9.
        head_factor: learning rate of the heads over that of the encoder.
        warmup_fraction: part of each phase with rising learning rate.
        clip_norm: largest norm of the gradient; 0 for none.
        cache_chunk: scans whose activations are alive at a time; 0 for the whole batch.
    """

    learning_rate: float
    weight_decay: float
    name: Literal["adamw", "sgd"] = "adamw"
    head_factor: float = 1.0
    warmup_fraction: float = 0.0
    clip_norm: float = 0.0
    cache_chunk: int = 0


def build_optimiser(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    name: Literal["adamw", "sgd"] = "adamw",
    head_factor: float = 1.0,
) -> torch.optim.Optimizer:
    """An optimiser over all parameters; those with fewer than two axes (biases, normalisation) are not decayed.

    Args:
        model: with its networks as children; all but `encoder` are heads.
        learning_rate: the encoder's highest learning rate.
        weight_decay: weight decay of parameters with two axes or more.
        name: `adamw`, or `sgd` with momentum 0.9.
        head_factor: learning rate of the heads over that of the encoder.
    """
    groups = []
    for is_head in (False, True) if head_factor != 1 else (None,):
        own = [one for key, one in model.named_parameters() if is_head in (None, not key.startswith("encoder."))]
        rate = learning_rate * (head_factor if is_head else 1.0)
        groups += [
            {"params": [one for one in own if one.ndim >= 2], "weight_decay": weight_decay, "lr": rate},
            {"params": [one for one in own if one.ndim < 2], "weight_decay": 0.0, "lr": rate},
        ]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=_MOMENTUM, fused=True)
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def build_schedule(
    optimiser: torch.optim.Optimizer, *, phases: Sequence[tuple[int, float]], warmup_fraction: float
) -> torch.optim.lr_scheduler.LambdaLR:
    """Learning rate over the steps of each phase: up linearly for the given fraction, then down along half a cosine.

    Args:
        optimiser: whose learning rates are changed.
        phases: number of steps and factor of the learning rate of each phase.
        warmup_fraction: part of each phase with rising learning rate.
    """

    def factor(step: int) -> float:
        for num_steps, phase_factor in phases[:-1]:
            if step < num_steps:
                return phase_factor * _shape(step, num_steps, warmup_fraction)
            step -= num_steps
        num_steps, phase_factor = phases[-1]
        return phase_factor * _shape(step, num_steps, warmup_fraction)

    return torch.optim.lr_scheduler.LambdaLR(optimiser, factor)


def _shape(step: int, num_steps: int, warmup_fraction: float) -> float:
    warmup = round(warmup_fraction * num_steps)
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, num_steps - warmup)
    return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
