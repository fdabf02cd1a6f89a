"""Device and number formats: autocast to bfloat16 where it is native, float16 with a scaler on older GPUs."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from preprocess.errors import UsageError
from trainer.recipe import Device, Precision


@dataclass(frozen=True, slots=True)
class Compute:
    """Where and in which number format a step is computed.

    Attributes:
        device: `cpu` or a CUDA device.
        dtype: the number format of autocast; float32 turns autocast off.
    """

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> AbstractContextManager[object]:
        """The context a forward pass runs in."""
        if self.dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, on only for float16, whose gradients would underflow."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)

    @property
    def pin_memory(self) -> bool:
        """Whether batches are allocated for asynchronous copies to this device."""
        return self.device.type == "cuda"


def name_of(dtype: torch.dtype) -> str:
    """As recipes call it: `float32`, `bfloat16` or `float16`."""
    return str(dtype).removeprefix("torch.")


def choose_compute(device: Device, precision: Precision) -> Compute:
    """Resolve `auto` by what the machine has; `trainer.fit.trial` then tries whether it computes right.

    Raises:
        UsageError: CUDA requested and not there.
    """
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise UsageError("device is cuda and this machine offers no CUDA device; set device = 'auto' or 'cpu'")
    chosen = torch.device("cuda" if has_cuda and device != "cpu" else "cpu")
    if precision != "auto":
        return Compute(chosen, getattr(torch, precision))
    if chosen.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return Compute(chosen, torch.bfloat16 if native else torch.float16)
    # Emulated bfloat16 on a CPU is slower than float32.
    capabilities = torch.cpu.get_capabilities()
    native = bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return Compute(chosen, torch.bfloat16 if native else torch.float32)
