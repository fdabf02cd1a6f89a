"""A layer that reads memory nobody wrote, or computes wrong, is found and named; then float32 is taken, with a line."""

import copy
import logging
import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from preprocess.errors import UsageError
from preprocess.storage import Location
from tests.support.cohorts import tiny_recipe, write_store
from tests.support.loops import EXACT
from tests.support.processes import in_processes
from trainer.encoders.multimodal import ModalitySpec
from trainer.encoders.visits import VisitEncoder
from trainer.fit.distributed import Group
from trainer.fit.heap import nan_in_new_memory
from trainer.fit.model import TrainingModel, scan_model
from trainer.fit.precision import Compute, name_of
from trainer.fit.run import Run
from trainer.fit.tracking import read_history
from trainer.fit.train import train_run
from trainer.fit.trial import fault_in, scans_at_once, settle
from trainer.recipe import DataRecipe, EncoderRecipe

pytestmark = pytest.mark.numeric

HALF = Compute(torch.device("cpu"), torch.bfloat16)
SMALLEST: dict[str, tuple[int, ...]] = {
    "reference": (1, 16, 16, 16),
    "fast": (1, 16, 16, 16),
    "slice-tsm-resnet18": (1, 16, 16, 16),
    "tsm-resnet18": (8, 1, 16, 16),
    "resnet18": (1, 16, 16),
    "resnet50": (1, 16, 16),
}
ROWS = {"T1w": SMALLEST["fast"]}


class ReadsWhatNobodyWrote(nn.Linear):
    """Under autocast it adds nothing, made of memory that nothing has written: right, unless that holds NaN."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        output = super().forward(input)
        return output + 0 * torch.empty_like(output) if torch.is_autocast_enabled("cpu") else output


class _Stretched(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, output: torch.Tensor) -> torch.Tensor:
        return output.clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * 1.1


class WrongGradient(nn.Linear):
    """Under autocast its gradients are a tenth too large."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        output = super().forward(input)
        return _Stretched.apply(output) if torch.is_autocast_enabled("cpu") else output


def a_model(name: str = "fast") -> TrainingModel:
    torch.manual_seed(0)
    return scan_model(EncoderRecipe(name=name, embedding_width=8, projection_width=4), in_channels=1)


def faulty(kind: type[nn.Linear]) -> TrainingModel:
    model = a_model()
    model.projector.layers[2] = kind(8, 4)
    return model


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, logger="interscan")
    return caplog


@pytest.mark.parametrize("name", SMALLEST)
def test_no_encoder_has_a_fault_at_its_smallest_grid(name: str) -> None:
    assert fault_in(a_model(name), {"any": SMALLEST[name]}, (1, 3), HALF) == ""


def test_the_multimodal_encoder_has_none_either() -> None:
    torch.manual_seed(0)
    specs = {"T1w": ModalitySpec("volume", (1, 32, 32, 32)), "clinical": ModalitySpec("vector", (3,))}
    model = TrainingModel(VisitEncoder(specs, embedding_width=4), projection_width=4)
    assert fault_in(model, {name: spec.shape for name, spec in specs.items()}, (1,), HALF) == ""


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_layer_that_reads_memory_nobody_wrote_is_found_by_its_name(dtype: torch.dtype) -> None:
    fault = fault_in(faulty(ReadsWhatNobodyWrote), ROWS, (1, 5), Compute(torch.device("cpu"), dtype))
    assert "values that are not finite in projector.layers.2 (ReadsWhatNobodyWrote of an input" in fault


def test_a_gradient_that_is_finite_and_wrong_is_found_too() -> None:
    fault = fault_in(faulty(WrongGradient), ROWS, (2,), HALF)
    assert fault.startswith("the gradient of the input is off by 1")
    assert "where rounding explains 1.5%" in fault  # of sums over two scans: (1 + 2 sqrt(2)) / 256


def test_a_trial_leaves_the_model_and_the_random_numbers_as_they_were() -> None:
    model = a_model("tsm-resnet18")
    before, numbers = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    assert fault_in(model, {"US": SMALLEST["tsm-resnet18"]}, (1,), HALF) == ""
    assert model.training
    assert torch.equal(torch.get_rng_state(), numbers)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_where_all_is_right_the_precision_stays(warnings: pytest.LogCaptureFixture) -> None:
    assert settle(HALF, "auto", a_model(), ROWS, num_scans=4) == HALF
    assert settle(HALF, "bfloat16", a_model(), ROWS, num_scans=4) == HALF
    assert settle(EXACT, "auto", faulty(ReadsWhatNobodyWrote), ROWS, num_scans=4) == EXACT
    assert warnings.messages == []


def test_auto_computes_in_float32_with_one_line_that_says_why(warnings: pytest.LogCaptureFixture) -> None:
    assert settle(HALF, "auto", faulty(ReadsWhatNobodyWrote), ROWS, num_scans=4) == EXACT
    (line,) = warnings.messages
    assert line.startswith("precision is auto: computing in float32, not bfloat16: the output holds ")
    assert "projector.layers.2" in line
    assert "\n" not in line


def test_a_precision_that_was_requested_is_refused_with_the_remedy() -> None:
    expected = r"precision is 'bfloat16' and this machine computes it wrong: .*set precision = 'auto' or 'float32'"
    with pytest.raises(UsageError, match=expected):
        settle(HALF, "bfloat16", faulty(ReadsWhatNobodyWrote), ROWS, num_scans=4)


def settle_apart(group: Group) -> list[str]:
    """What this process of two settles on: where its peer lacks the format, where the peer errs, where all is well."""
    own = HALF if group.is_first else EXACT
    erring = faulty(ReadsWhatNobodyWrote) if group.rank == 1 else a_model()
    cases = [(own, a_model()), (HALF, erring), (HALF, a_model())]
    return [name_of(settle(it, "auto", model, ROWS, num_scans=2, group=group).dtype) for it, model in cases]


def test_all_processes_settle_on_the_same(tmp_path: Path) -> None:
    first, second = in_processes(2, settle_apart, tmp_path / "answers")
    assert first == second == ["float32", "float32", "bfloat16"]


@pytest.mark.parametrize(
    ("settings", "chunk", "scans"),
    [
        ({"sampling": "pairs", "batch_size": 8}, 0, 16),
        ({"sampling": "scans", "batch_size": 8, "views": 2}, 0, 16),
        ({"sampling": "visits", "batch_size": 4, "num_visits": 3}, 0, 12),
        ({"sampling": "pairs", "batch_size": 8}, 4, 4),
    ],
)
def test_as_many_scans_are_tried_as_are_computed_at_a_time(
    settings: dict[str, Any], chunk: int, scans: Sequence[int]
) -> None:
    assert scans_at_once(DataRecipe(**settings), cache_chunk=chunk) == scans


@pytest.mark.parametrize("name", ["reference", "fast"])
@pytest.mark.parametrize("precision", ["auto", "bfloat16"])
def test_a_run_on_memory_full_of_nan_computes_the_same_numbers(tmp_path: Path, name: str, precision: str) -> None:
    store = write_store(tmp_path / "store")
    recipe = tiny_recipe(precision=precision, encoder={"name": name})
    weights = []
    for memory in ("plain", "poisoned"):
        with ExitStack() as stack:
            if memory == "poisoned":
                stack.enter_context(nan_in_new_memory())
            run = Location(tmp_path / memory)
            train_run(recipe, store, run, progress=lambda done, total: None)
        weights.append(Run.open(run).load_model()[0]["encoder"])
        assert all(math.isfinite(value) for entry in read_history(run) for value in entry.values())
    for key, value in weights[0].items():
        assert torch.equal(value, weights[1][key])
