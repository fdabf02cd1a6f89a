"""Weights alone are decayed, and the learning rate follows its closed form."""

import math

import pytest
import torch
from torch import nn

from trainer.fit.optim import build_optimiser, build_schedule


def model() -> nn.Module:
    return nn.Sequential(nn.Conv3d(1, 2, 3), nn.BatchNorm3d(2), nn.Flatten(), nn.Linear(2, 3), nn.LayerNorm(3))


def test_biases_and_normalisation_are_not_decayed_and_no_parameter_is_forgotten() -> None:
    network = model()
    optimiser = build_optimiser(network, learning_rate=0.1, weight_decay=0.3)
    decay = {id(one): group["weight_decay"] for group in optimiser.param_groups for one in group["params"]}
    named = dict(network.named_parameters())
    assert decay.keys() == {id(one) for one in named.values()}
    assert {name for name, one in named.items() if decay[id(one)] == 0.3} == {"0.weight", "3.weight"}
    assert {name for name, one in named.items() if decay[id(one)] == 0.0} == named.keys() - {"0.weight", "3.weight"}


def test_a_step_without_gradient_decays_weights_by_the_decoupled_rule() -> None:
    network = nn.Linear(2, 2)
    before = {name: one.detach().clone() for name, one in network.named_parameters()}
    optimiser = build_optimiser(network, learning_rate=0.1, weight_decay=0.3)
    for one in network.parameters():
        one.grad = torch.zeros_like(one)
    optimiser.step()
    # Loshchilov and Hutter 2019: w <- w - lr * decay * w.
    torch.testing.assert_close(network.weight.detach(), before["weight"] * (1 - 0.1 * 0.3))
    assert torch.equal(network.bias, before["bias"])


@pytest.mark.parametrize(("num_steps", "fraction"), [(10, 0.0), (10, 0.2), (7, 0.5), (1, 0.0), (3, 0.99)])
def test_the_learning_rate_rises_linearly_then_falls_along_half_a_cosine(num_steps: int, fraction: float) -> None:
    optimiser = build_optimiser(model(), learning_rate=0.5, weight_decay=0.1)
    schedule = build_schedule(optimiser, phases=[(num_steps, 1.0)], warmup_fraction=fraction)
    found = []
    for _ in range(num_steps):
        found.append({group["lr"] for group in optimiser.param_groups})
        optimiser.step()
        schedule.step()
    warmup = round(fraction * num_steps)
    for step, rates in enumerate(found):
        if step < warmup:
            expected = 0.5 * (step + 1) / warmup
        else:
            expected = 0.25 * (1 + math.cos(math.pi * (step - warmup) / (num_steps - warmup)))
        assert len(rates) == 1
        assert rates.pop() == pytest.approx(expected)
    if warmup < num_steps:
        assert optimiser.param_groups[0]["lr"] == pytest.approx(0.0, abs=1e-12)


def test_a_restored_schedule_goes_on_where_the_lost_one_was() -> None:
    def start() -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
        optimiser = build_optimiser(model(), learning_rate=0.5, weight_decay=0.1)
        return optimiser, build_schedule(optimiser, phases=[(9, 1.0)], warmup_fraction=0.3)

    optimiser, schedule = start()
    other_optimiser, other_schedule = start()
    for _ in range(4):
        optimiser.step()
        schedule.step()
    other_optimiser.load_state_dict(optimiser.state_dict())
    other_schedule.load_state_dict(schedule.state_dict())
    for _ in range(4):
        for one, its in ((optimiser, schedule), (other_optimiser, other_schedule)):
            one.step()
            its.step()
        assert optimiser.param_groups[0]["lr"] == other_optimiser.param_groups[0]["lr"]
