"""The counts are what a run then really reads; a step's work is what real tensors show."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from preprocess.errors import UsageError
from preprocess.storage import Location
from tests.support.cohorts import MODALITY, default_scans, tiny_recipe, write_store
from tests.trainer.plan.conftest import SlowStore
from trainer.data.cohort import read_cohort
from trainer.data.labels import Labels
from trainer.fit.model import scan_model
from trainer.fit.supply import SupplyOptions
from trainer.fit.train import train_run
from trainer.plan.workload import count_workload, measure_step
from trainer.recipe import EncoderRecipe

LEARNER = [{"name": "learner"}]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"data": {"sampling": "scans", "batch_size": 4}, "objective": LEARNER},
        {"data": {"subjects_per_epoch": 0.5}, "optim": {"epochs": 3}, "seed": 4},
    ],
    ids=["pairs", "scans with scores", "half the subjects"],
)
def test_volumes_and_requests_are_those_of_the_run(
    slow_store: SlowStore, tmp_path: Path, changes: dict[str, Any]
) -> None:
    recipe = tiny_recipe(**changes)
    store, fs = slow_store(0.0)
    workload = count_workload(recipe, read_cohort(store, MODALITY, "mmse"))
    assert fs.requested == []
    result = train_run(
        recipe,
        store,
        Location(tmp_path / "run"),
        progress=lambda done, total: None,
        supply=SupplyOptions(keep_resident=False),
    )
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["volumes"] for entry in log] == list(workload.volumes_per_epoch)
    assert result.steps == workload.num_steps
    assert len(fs.requested) == workload.num_requests
    requested_rows = {int(path.split("/c/")[1].split("/")[0]) for path in fs.requested}
    assert set(workload.rows_N.tolist()) <= requested_rows


def test_a_cohort_too_small_is_refused_as_training_would(tmp_path: Path) -> None:
    store = write_store(tmp_path, default_scans(num_subjects=2, odd=False))
    with pytest.raises(UsageError, match="subjects cannot be split"):
        count_workload(tiny_recipe(), read_cohort(store, MODALITY, "mmse"))


@pytest.mark.parametrize("name", ["fast", "reference"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_bytes_saved_are_those_that_real_tensors_save(name: str, precision: str) -> None:
    recipe = EncoderRecipe(name=name, embedding_width=32, projection_width=8)
    model = scan_model(recipe, in_channels=1)
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        output = model(torch.rand(2, 1, 32, 32, 32), Labels(torch.zeros(1, 2), torch.zeros(1), torch.zeros(1, 2)))
        assert output.embeddings_BKE.requires_grad
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    real = sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in weights)
    work = measure_step(recipe, (1, 32, 32, 32), precision)
    # Tensors without memory may miss a copy that a real kernel makes for its own layout.
    assert work.saved_bytes == pytest.approx(real / 2, rel=0.02)
    assert work.num_parameters == sum(parameter.numel() for parameter in model.parameters())


def test_the_flop_are_those_counted_by_hand() -> None:
    # Reference encoder at 16^3, each convolution 2 * 27 * in * out * voxels forward; backward twice that, but the first
    # convolution's input needs no gradient.
    edges, widths = (8, 4, 2, 1), (1, 16, 32, 64, 128)
    forward = [2 * 27 * widths[i] * widths[i + 1] * edges[i] ** 3 for i in range(4)]
    width, projection = 8, 4
    linear = 2 * (128 * width + width * width + width * projection + width)
    by_hand = 3 * (sum(forward) + linear) - forward[0]
    work = measure_step(
        EncoderRecipe(name="reference", embedding_width=width, projection_width=projection), (1, 16, 16, 16), "float32"
    )
    assert work.flop == pytest.approx(by_hand, rel=1e-3)
    assert not isinstance(torch.empty(1), torch._subclasses.FakeTensor)  # nothing stays fake


def test_the_members_of_an_ensemble_are_counted_one_after_another(tmp_path: Path) -> None:
    cohort = read_cohort(write_store(tmp_path / "store", default_scans(num_subjects=30, odd=False)), MODALITY, "mmse")
    settings = {"objective": [{"name": "pair_change"}], "head": {"on": "score"}, "optim": {"epochs": 2}}
    single = count_workload(tiny_recipe(**settings), cohort)
    triple = count_workload(tiny_recipe(**settings, ensemble={"members": 3}), cohort)
    assert triple.epochs == 3 * single.epochs
    # Each member goes without a third of the training people.
    assert triple.training_volumes == pytest.approx(2 * single.training_volumes, rel=0.1)
    assert triple.rows_N.tolist() == single.rows_N.tolist()
