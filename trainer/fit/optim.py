"""AdamW without decay on biases and normalisation, linear warm-up, cosine decay to zero."""

import math

import torch
from torch import nn


def build_optimiser(model: nn.Module, *, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW over all parameters; those with fewer than two axes (biases, normalisation) are not decayed."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    free = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def build_schedule(
    optimiser: torch.optim.Optimizer, *, num_steps: int, warmup_fraction: float
) -> torch.optim.lr_scheduler.LambdaLR:
    """Learning rate over `num_steps` steps: up linearly for the given fraction, then down along half a cosine."""
    warmup = round(warmup_fraction * num_steps)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        done = (step - warmup) / max(1, num_steps - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, factor)
