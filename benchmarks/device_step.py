"""The trainer's own training step on any device: views, InfoNCE, update; timed, with its memory, eager or compiled.

What is timed begins with stored bytes on the device and ends when the weights are changed, as in a run whose cohort
stays there; reading is what benchmarks/cuda.py measures besides.
"""

import gc
import statistics
import time
from dataclasses import dataclass
from typing import Any, Literal

import torch

from trainer.data.augment import Augment
from trainer.data.labels import Labels
from trainer.data.visits import VisitBatch
from trainer.fit.model import scan_model
from trainer.fit.optim import build_optimiser, build_schedule
from trainer.fit.precision import Compute
from trainer.fit.step import Step, Views
from trainer.objectives.clinimcl import InfoNce
from trainer.recipe import EncoderRecipe

Encoder = Literal["fast", "reference"]
AUGMENT = Augment(flip=0.5, shift_voxels=2, gain=0.1, noise=0.02)
"""As recipe `clinimcl`."""
_MANY_STEPS = 1_000_000
_WARM_UP = 3
"""Steps that are not timed: cuDNN chooses, the allocator grows, torch.compile compiles."""


class DeviceStep:
    """Steps of an encoder on a device.

    Args:
        name: of the encoder.
        compute: device and number format.
        views: whether scans are augmented; the published pipeline does not.
        backend: of torch.compile for the encoder; empty for eager.
    """

    def __init__(self, name: Encoder, compute: Compute, *, views: bool = True, backend: str = "") -> None:
        torch.manual_seed(0)
        self.compute = compute
        self._augment = AUGMENT if views else Augment(0.0, 0, 0.0, 0.0)
        model = scan_model(EncoderRecipe(name=name), in_channels=1)
        model.to(compute.device, memory_format=model.encoder.memory_format)  # type: ignore[call-overload]
        model.train()
        if backend:
            model.encoder.compile(backend=backend, dynamic=False)
        optimiser = build_optimiser(model, learning_rate=1e-4, weight_decay=1e-4)
        self._step = Step(
            model,
            [InfoNce(weight=1.0, temperature=0.07)],
            optimiser=optimiser,
            schedule=build_schedule(optimiser, phases=[(_MANY_STEPS, 1.0)], warmup_fraction=0.0),
            compute=compute,
        )
        self._taken = 0

    def take(self, voxels_NCDHW: torch.Tensor) -> float:
        """One step on pairs of scans side by side, as stored, on any device; returns its seconds."""
        device = self.compute.device
        begun = time.perf_counter()
        num_pairs = len(voxels_NCDHW) // 2
        draws = self._augment.draw(len(voxels_NCDHW), voxels_NCDHW[0].numel(), seed=0, epoch=0, batch=self._taken)
        views = Views(VisitBatch.of_scans("T1w", voxels_NCDHW, 1 / 255), self.compute, {"T1w": draws})
        unknown = torch.full((num_pairs, 2), float("nan"), device=device)
        self._step.gradients(views, Labels(unknown, torch.arange(num_pairs, device=device), unknown))
        if not self._step.update():
            raise RuntimeError("the loss or the gradient is not finite")
        wait_for(device)
        self._taken += 1
        return time.perf_counter() - begun


@dataclass(frozen=True)
class StepCase:
    """One step to time.

    Attributes:
        encoder: its name.
        edge: of a volume, in voxels.
        batch: volumes in a step.
        backend: of torch.compile; empty for eager.
    """

    encoder: Encoder
    edge: int
    batch: int
    backend: str = ""

    def time(self, compute: Compute, *, steps: int) -> dict[str, Any]:
        """Median ms a volume and peak memory; or that it does not fit, or that torch.compile fails, and how."""
        described = {
            "encoder": self.encoder, "edge": self.edge, "batch": self.batch, "mode": self.backend or "eager"
        }  # fmt: skip
        forget(compute.device)
        try:
            return described | self._time(compute, steps)
        except torch.OutOfMemoryError:
            return described | {"out_of_memory": True}
        except RuntimeError as error:  # what torch._dynamo raises is one
            if not self.backend:
                raise
            return described | {"failed": " ".join(str(error).split())[:160]}

    def _time(self, compute: Compute, steps: int) -> dict[str, Any]:
        begun = time.perf_counter()
        step = DeviceStep(self.encoder, compute, backend=self.backend)
        shape = (self.batch, 1, *[self.edge] * 3)
        voxels = torch.randint(0, 256, shape, dtype=torch.uint8, device=compute.device)
        for _ in range(_WARM_UP):
            step.take(voxels)
        warm_up_s = time.perf_counter() - begun
        seconds = [step.take(voxels) for _ in range(steps)]
        return {
            "ms_per_volume": 1000 * statistics.median(seconds) / self.batch,
            "least_ms_per_volume": 1000 * min(seconds) / self.batch,
            "peak_gb": peak_gb(compute.device),
            "warm_up_s": warm_up_s,
        }


def wait_for(device: torch.device) -> None:
    """Return when the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget(device: torch.device) -> None:
    """Begin with an empty device and a peak of nothing."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def peak_gb(device: torch.device) -> float | None:
    """Most that tensors took since `forget`, 1e9 bytes; None on a CPU, which does not count."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
