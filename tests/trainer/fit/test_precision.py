"""Device and number format follow the machine, and what it lacks is refused."""

import pytest
import torch

from preprocess.errors import UsageError
from trainer.fit.precision import Compute, choose_compute


@pytest.fixture(autouse=True)
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_cuda_that_is_not_there_is_refused_with_the_remedy() -> None:
    with pytest.raises(UsageError, match="no CUDA device; set device = 'auto' or 'cpu'"):
        choose_compute("cuda", "auto")


@pytest.mark.parametrize(
    ("capabilities", "dtype"),
    [
        ({"amx_bf16": True, "avx512_bf16": False}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": False, "avx512_bf16": False}, torch.float32),
        ({"neon": True}, torch.float32),
    ],
)
@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_auto_takes_bfloat16_only_where_the_cpu_has_it(
    monkeypatch: pytest.MonkeyPatch, device: str, capabilities: dict[str, bool], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert choose_compute(device, "auto") == Compute(torch.device("cpu"), dtype)


@pytest.mark.parametrize(("native", "dtype"), [(True, torch.bfloat16), (False, torch.float16)])
def test_auto_takes_float16_on_gpus_without_native_bfloat16(
    monkeypatch: pytest.MonkeyPatch, native: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda *, including_emulation: native and not including_emulation
    )
    compute = choose_compute("auto", "auto")
    assert compute == Compute(torch.device("cuda"), dtype)
    assert compute.pin_memory
    assert choose_compute("cpu", "float32").device.type == "cpu"


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_stated_precision_is_taken_and_decides_what_matmul_computes_in(precision: str) -> None:
    compute = choose_compute("cpu", precision)
    assert compute.dtype is getattr(torch, precision)
    with compute.autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is compute.dtype
    assert not compute.pin_memory


def test_only_float16_scales_the_loss_and_the_scale_survives_a_checkpoint() -> None:
    assert not choose_compute("cpu", "float32").scaler().is_enabled()
    assert not choose_compute("cpu", "bfloat16").scaler().is_enabled()
    scaler = choose_compute("cpu", "float16").scaler()
    assert scaler.is_enabled()
    weight = torch.nn.Parameter(torch.ones(()))
    optimiser = torch.optim.SGD([weight], lr=0.1)
    torch.autograd.backward(scaler.scale(weight * float("inf")))
    scaler.step(optimiser)
    scaler.update()
    assert float(weight.detach()) == 1.0
    restored = choose_compute("cpu", "float16").scaler()
    before = restored.state_dict()["scale"]
    restored.load_state_dict(scaler.state_dict())
    assert restored.state_dict() == scaler.state_dict()
    assert restored.state_dict()["scale"] == before / 2
