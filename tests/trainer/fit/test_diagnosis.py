"""What made a step not finite is found from the same batch in float32, and the setting that mends it is named."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import nn

from preprocess.errors import RunError
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import MODALITY, default_scans, tiny_recipe, write_store
from tests.support.loops import build_loop
from tests.support.processes import in_processes
from trainer.data.visits import VisitBatch
from trainer.fit.checkpoint import Checkpoints
from trainer.fit.diagnosis import require_finite_weights
from trainer.fit.distributed import Group
from trainer.fit.loop import Loop
from trainer.fit.precision import choose_compute
from trainer.fit.stop import StopRequest
from trainer.objectives.base import Term
from trainer.objectives.terms import BatchOutput, Value


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_store(tmp_path / "store", default_scans(num_subjects=8, odd=False))


def build(store: Store, run: Location, *, precision: str = "float32", **changes: Any) -> Loop:
    return build_loop(tiny_recipe(**changes), store, run, seed=0, compute=choose_compute("cpu", precision))[0]


def train(loop: Loop) -> str:
    """What ends the training; the model is as it was before the step that failed."""
    states = []
    gradients = loop._step.gradients

    def watched(*batch: Any) -> Any:
        states.append((copy.deepcopy(loop.model.state_dict()), torch.get_rng_state()))
        return gradients(*batch)

    loop._step.gradients = watched  # type: ignore[method-assign]
    with pytest.raises(RunError) as raised:
        loop.run(StopRequest(), None, lambda done, total: None)
    assert "\n" not in str(raised.value)
    before, numbers = states[-2]  # the last one is the batch computed once more
    assert torch.equal(torch.get_rng_state(), numbers)
    for name, value in loop.model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    return str(raised.value)


class HalfBreaks(nn.Module):
    """Finite in float32; under autocast its output, or the gradient behind it, is not."""

    def __init__(self, inner: nn.Module, *, backward_only: bool) -> None:
        super().__init__()
        self.inner = inner
        self.backward_only = backward_only

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.inner(inputs)
        if torch.is_autocast_enabled("cpu"):
            if not self.backward_only:
                return outputs * torch.nan
            outputs.register_hook(lambda gradient: gradient * torch.nan)
        return outputs


@pytest.mark.parametrize(("backward_only", "what"), [(True, "the gradient is not finite"), (False, "the loss is nan")])
def test_what_is_finite_in_float32_is_blamed_on_the_precision(
    store: Store, tmp_path: Path, backward_only: bool, what: str
) -> None:
    loop = build(store, Location(tmp_path / "run"), precision="bfloat16")
    loop.model.encoder.features = HalfBreaks(loop.model.encoder.features, backward_only=backward_only)
    assert train(loop) == (
        f"{what} at step 1 of 6; computed again in float32 the same batch gives finite ones, so bfloat16 is to blame: "
        "start a new run with precision = 'float32'"
    )
    assert Checkpoints(Location(tmp_path / "run"), keep=1).load_latest() is None


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_voxels_that_are_no_numbers_are_blamed_on_the_data_with_the_subject(tmp_path: Path, precision: str) -> None:
    store = write_store(tmp_path / "store", default_scans(num_subjects=8, odd=False), dtype="float32")
    loop = build(store, Location(tmp_path / "run"), precision=precision, data={"batch_size": 8})
    views, chosen = loop._batches.views, []

    def spoiled(indices_BK: np.ndarray, read: VisitBatch, **position: int) -> Any:
        voxels = read.stored[MODALITY].unflatten(0, indices_BK.shape)
        voxels[1, 1, :, 2, 3, 4] = torch.nan
        chosen.append(loop._training.subject_ids[indices_BK[1, 1]])
        return views(indices_BK, read, **position)

    loop._batches.views = spoiled  # type: ignore[method-assign]
    message = train(loop)
    assert "it is not finite either: data.modality: the scan of " in message
    assert (
        f"the scan of {chosen[0]} holds 1 values that are not finite; check the data with interscan verify" in message
    )


def test_weights_that_are_no_numbers_are_blamed_on_where_they_come_from(store: Store, tmp_path: Path) -> None:
    loop = build(store, Location(tmp_path / "run"))
    with torch.no_grad():
        loop.model.encoder.linear.bias[0] = torch.inf
    message = train(loop)
    assert "1 of the model's tensors hold weights that are not finite, first encoder.linear.bias" in message
    assert "check encoder.initial_weights, or start a new run with a lower optim.learning_rate" in message


def test_finite_weights_that_overflow_are_blamed_on_the_learning_rate(store: Store, tmp_path: Path) -> None:
    loop = build(store, Location(tmp_path / "run"), objective=[{"name": "learner", "variant": "mse"}])
    with torch.no_grad():
        loop.model.score_head.linear.weight.fill_(3e30)
    message = train(loop)
    assert "scans and weights are finite (the largest weight is 3e+30) and learner overflows" in message
    assert message.endswith("start a new run with a lower optim.learning_rate, or with optim.clip_norm")


def test_a_learning_rate_far_too_high_ends_with_its_name_and_leaves_the_last_checkpoint_good(
    store: Store, tmp_path: Path
) -> None:
    run = Location(tmp_path / "run")
    loop = build(store, run, optim={"epochs": 5, "learning_rate": 1e36, "name": "sgd"})
    with pytest.raises(RunError, match=r"optim\.learning_rate"):
        loop.run(StopRequest(), None, lambda done, total: None)
    state = Checkpoints(run, keep=2).load_latest()
    assert state is None or all(bool(one.isfinite().all()) for one in state["model"].values())


class Exploding(Term):
    """An objective with a finite value and a gradient that is not: the root at 0."""

    name: Literal["exploding"] = "exploding"

    def __call__(self, output: BatchOutput) -> Value:
        loss = (0 * output.projections_BKP).square().sum().sqrt()
        return Value(loss, 0.0)


def test_a_gradient_that_is_no_number_never_reaches_the_weights(store: Store, tmp_path: Path) -> None:
    loop = build(store, Location(tmp_path / "run"))
    exploding: Any = Exploding()
    for phase in loop._phases:
        phase.objectives[:] = [exploding]
    message = train(loop)
    assert message.startswith("the gradient is not finite at step 1 of 6; computed again it is not finite either: ")
    assert "the gradient overflows" in message


def fail_in_one(group: Group, store_uri: str) -> list[str]:
    """What ends the training of this process of two, where precision and where data fail in the other one."""
    messages = []
    for what in ("precision", "data"):
        loop, _ = build_loop(
            tiny_recipe(data={"batch_size": 4}),
            Store.open(store_uri),
            Location(f"{store_uri}-run-{what}"),
            seed=0,
            group=group,
            compute=choose_compute("cpu", "bfloat16" if what == "precision" else "float32"),
        )
        if group.rank == 1 and what == "precision":
            loop.model.encoder.features = HalfBreaks(loop.model.encoder.features, backward_only=True)
        if group.rank == 1 and what == "data":
            views = loop._batches.views

            def spoiled(indices_BK: np.ndarray, read: VisitBatch, views: Any = views, **position: int) -> Any:
                voxels = torch.full(read.stored[MODALITY].shape, torch.nan)
                return views(indices_BK, replace(read, stored={MODALITY: voxels}), **position)

            loop._batches.views = spoiled  # type: ignore[method-assign]
        with pytest.raises(RunError) as raised:
            loop.run(StopRequest(), None, lambda done, total: None)
        messages.append(str(raised.value))
    return messages


def test_all_processes_stop_at_the_step_that_fails_in_one(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", default_scans(num_subjects=8, odd=False))
    answers = in_processes(2, fail_in_one, tmp_path / "answers", store.location.uri)
    for precision, data in answers:
        assert precision.startswith("the gradient is not finite at step 1 of ")
        assert "so bfloat16 is to blame" in precision
        assert "at step 1 of " in data
    assert "it is not finite either: scans that another process reads hold values" in answers[0][1]
    assert "it is not finite either: data.modality: the scan of " in answers[1][1]


@pytest.mark.parametrize("spoil", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("entry", ["weight", "running_var"])
def test_weights_and_running_statistics_are_checked_before_a_save(spoil: float, entry: str) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    require_finite_weights(model, steps_done=7)
    with torch.no_grad():
        getattr(model[1], entry)[2] = spoil
    with pytest.raises(RunError, match=rf"first 1\.{entry} after step 7, and no checkpoint was made of them"):
        require_finite_weights(model, steps_done=7)
