"""Every process makes the same parts from recipe and store."""

from pathlib import Path

import torch

from tests.support.cohorts import tiny_recipe, write_store
from trainer.fit.distributed import Group
from trainer.fit.parts import Parts
from trainer.fit.precision import Compute
from trainer.fit.supply import SupplyOptions


def test_two_readings_make_equal_networks_and_plans(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store")
    compute = Compute(torch.device("cpu"), torch.float32)
    first, second = (Parts.read(tiny_recipe(), store, compute, Group(), SupplyOptions(), None) for _ in range(2))
    with first.supply, second.supply:
        assert first.plan.split == second.plan.split
        assert first.statistics == second.statistics
        assert first.statistics is not None
        for one, other in zip(first.model.state_dict().values(), second.model.state_dict().values(), strict=True):
            assert torch.equal(one, other)
