"""The step that is timed is one: it changes the weights, on whole bytes and on floats, eager and compiled alike."""

import pytest
import torch

from benchmarks.device_step import DeviceStep, StepCase
from trainer.fit.precision import Compute

EXACT = Compute(torch.device("cpu"), torch.float32)


def weights_after(step: DeviceStep, voxels: torch.Tensor) -> list[torch.Tensor]:
    step.take(voxels)
    return [value.clone() for value in step._step._model.state_dict().values()]


@pytest.mark.parametrize("backend", ["", "aot_eager"])
def test_a_step_changes_the_weights_and_the_compiled_one_to_the_same(backend: str) -> None:
    voxels = torch.randint(0, 256, (4, 1, 16, 16, 16), dtype=torch.uint8)
    step = DeviceStep("reference", EXACT, backend=backend)
    before = [value.clone() for value in step._step._model.state_dict().values()]
    after = weights_after(step, voxels)
    eager = weights_after(DeviceStep("reference", EXACT), voxels)
    assert any(not torch.equal(one, other) for one, other in zip(before, after, strict=True))
    for one, other in zip(after, eager, strict=True):
        torch.testing.assert_close(
            one, other, rtol=1e-3, atol=2.5e-4
        )  # AdamW moves by 1e-4, whichever way rounding goes


def test_scans_of_the_published_pipeline_are_floats_of_the_same_range() -> None:
    voxels = torch.randint(0, 256, (4, 1, 16, 16, 16), dtype=torch.uint8)
    of_bytes, of_floats = (
        weights_after(DeviceStep("reference", EXACT, views=False), given) for given in (voxels, voxels.float())
    )
    assert all(torch.equal(one, other) for one, other in zip(of_bytes, of_floats, strict=True))


def test_a_case_that_does_not_fit_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: DeviceStep, voxels: torch.Tensor) -> float:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(DeviceStep, "take", full)
    metrics = StepCase("fast", 16, 4).time(EXACT, steps=1)
    assert metrics == {"encoder": "fast", "edge": 16, "batch": 4, "mode": "eager", "out_of_memory": True}


def test_a_compiler_that_fails_is_told_and_an_eager_failure_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: DeviceStep, voxels: torch.Tensor) -> float:
        raise RuntimeError("no C compiler\nhere")

    monkeypatch.setattr(DeviceStep, "take", broken)
    assert StepCase("fast", 16, 4, "aot_eager").time(EXACT, steps=1)["failed"] == "no C compiler here"
    with pytest.raises(RuntimeError, match="no C compiler"):
        StepCase("fast", 16, 4).time(EXACT, steps=1)
