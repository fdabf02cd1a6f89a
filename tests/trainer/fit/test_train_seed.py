"""Everything that a run draws comes from the recipe's seed, whatever was drawn in the process before."""

from pathlib import Path
from typing import Any

import pytest
import torch

from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import default_scans, tiny_recipe, write_store
from trainer.fit.run import Run
from trainer.fit.train import train_run

MIXING: dict[str, Any] = {
    "task": "regression",
    "data": {"sampling": "scans", "views": 2},
    "objective": [{"name": "supremix", "window": 3.0}],
}
"""SupReMix draws which samples of a batch it mixes, and how much of each."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_store(tmp_path / "store", default_scans(num_subjects=12, odd=False))


def weights_of(store: Store, location: Path, *, drawn_before: int, **changes: Any) -> torch.Tensor:
    torch.manual_seed(drawn_before)
    train_run(tiny_recipe(**{**MIXING, **changes}), store, Location(location), progress=lambda done, total: None)
    state, _ = Run.open(Location(location)).load_model()
    return torch.cat([one.flatten().double() for one in state["encoder"].values()])


def test_an_objective_that_draws_gives_the_same_weights_for_the_same_seed(store: Store, tmp_path: Path) -> None:
    first, second = (weights_of(store, tmp_path / f"{seed}", drawn_before=seed) for seed in (1, 2))
    assert torch.equal(first, second)
