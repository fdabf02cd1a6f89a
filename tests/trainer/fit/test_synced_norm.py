"""Statistics, gradients and state are those of BatchNorm3d over the whole batch, however it is divided."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.support.processes import in_processes
from trainer.fit.distributed import ALONE, Group
from trainer.fit.synced_norm import SyncedBatchNorm, synchronise

SPLIT = (3, 1)


def layer_and_batch() -> tuple[nn.BatchNorm3d, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    layer = nn.BatchNorm3d(4)
    with torch.no_grad():
        layer.weight.copy_(torch.rand(4, generator=generator) + 0.5)
        layer.bias.copy_(torch.rand(4, generator=generator))
    batch = 50 + torch.randn(4, 4, 3, 5, 2, generator=generator) * torch.tensor([0.1, 1, 3, 10]).view(1, 4, 1, 1, 1)
    return layer, batch, torch.randn(batch.shape, generator=generator)


def normalise(group: Group) -> dict[str, Any]:
    """Two training passes over this process's part, then one in evaluation mode."""
    layer, batch, towards = layer_and_batch()
    synced: nn.Module = SyncedBatchNorm(layer, group)
    start = sum(SPLIT[: group.rank])
    part = slice(start, start + SPLIT[group.rank])
    own = batch[part].clone().requires_grad_()
    synced(own * 0.5)
    output = synced(own)
    torch.autograd.backward((output * towards[part]).sum())
    state = {name: value.clone() for name, value in synced.state_dict().items()}
    evaluated = synced.eval()(own.detach())
    gradients = [group.sum(one.grad) for one in synced.parameters() if one.grad is not None]
    return {
        "output": output.detach(),
        "own": own.grad,
        "weights": gradients,
        "state": state,
        "evaluated": evaluated.detach(),
    }


def test_two_processes_normalise_as_one_does_over_an_uneven_batch(tmp_path: Path) -> None:
    parts = in_processes(2, normalise, tmp_path / "answers")
    layer, batch, towards = layer_and_batch()
    whole = batch.clone().requires_grad_()
    layer(whole * 0.5)
    output = layer(whole)
    torch.autograd.backward((output * towards).sum())
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    close = {"rtol": 1e-4, "atol": 1e-4}
    torch.testing.assert_close(torch.cat([part["output"] for part in parts]), output.detach(), **close)
    torch.testing.assert_close(torch.cat([part["own"] for part in parts]), whole.grad, rtol=1e-3, atol=1e-3)
    for part in parts:
        assert part["state"].keys() == state.keys()
        for name, value in state.items():
            torch.testing.assert_close(part["state"][name], value, rtol=1e-5, atol=1e-5)
        for found, parameter in zip(part["weights"], layer.parameters(), strict=True):
            torch.testing.assert_close(found, parameter.grad, rtol=1e-3, atol=1e-3)
    evaluated = torch.cat([part["evaluated"] for part in parts])
    torch.testing.assert_close(evaluated, layer.eval()(batch).detach(), **close)


def test_the_answer_has_the_inputs_dtype_and_float32_statistics() -> None:
    layer, batch, _ = layer_and_batch()
    found = SyncedBatchNorm(layer, ALONE)(batch.bfloat16())
    assert found.dtype is torch.bfloat16
    expected = layer_and_batch()[0](batch.bfloat16().float())
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("world_size", [1, 2])
def test_layers_are_exchanged_only_where_there_are_several_processes(world_size: int) -> None:
    model = nn.Sequential(nn.Conv3d(1, 4, 1), nn.Sequential(nn.BatchNorm3d(4), nn.ReLU()))
    before = {name: value.data_ptr() for name, value in model.state_dict().items()}
    synchronise(model, Group(0, world_size))
    assert type(model[1][0]) is (nn.BatchNorm3d if world_size == 1 else SyncedBatchNorm)
    assert {name: value.data_ptr() for name, value in model.state_dict().items()} == before
