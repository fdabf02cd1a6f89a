"""Writes the model as TorchScript and as torch.export programs, and proves that all three compute the same.

TorchScript is deprecated since torch 2.11; the torch.export programs beside it are the way out, and are kept tested.
This is the one place of the trainer that names torch.jit.
"""

import io
import warnings
from dataclasses import dataclass

import torch
from torch import nn

from preprocess.errors import ArtefactError
from preprocess.manifest import COMPARE_PROGRAM_NAME, EMBED_PROGRAM_NAME, PROGRAM_NAME
from trainer.fit.trained import PairModel

BATCH_SIZES = (1, 3, 8)
"""Batch sizes that parity is proven at."""
TOLERANCE = 1e-5
"""Largest absolute difference accepted: float32 sums in another order differ by a few 1e-7 of values near 1."""


class _Embed(nn.Module):
    def __init__(self, model: PairModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, volumes_BCDHW: torch.Tensor) -> torch.Tensor:
        return self.model.embed(volumes_BCDHW)


class _Compare(nn.Module):
    def __init__(self, model: PairModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, earlier_BCDHW: torch.Tensor, later_BCDHW: torch.Tensor) -> torch.Tensor:
        return self.model.compare(earlier_BCDHW, later_BCDHW)


@dataclass(frozen=True, slots=True)
class Programs:
    """The exported programs.

    Attributes:
        files: contents by file name.
        largest_difference: found between eager and exported outputs, over all programs and batch sizes.
    """

    files: dict[str, bytes]
    largest_difference: float


@torch.no_grad()
def export_programs(model: PairModel, volume_shape: tuple[int, ...]) -> Programs:
    """Export and compare.

    Args:
        model: in evaluation mode, on the CPU, float32.
        volume_shape: (C, D, H, W).

    Raises:
        ArtefactError: an exported program differs from the model by more than `TOLERANCE`.
    """
    draws = torch.Generator().manual_seed(0)
    example = [torch.rand((3, *volume_shape), generator=draws) for _ in range(2)]
    script_data, script = _torchscript(model, *example)
    files = {
        PROGRAM_NAME: script_data,
        EMBED_PROGRAM_NAME: _exported(_Embed(model).eval(), (example[0],)),
        COMPARE_PROGRAM_NAME: _exported(_Compare(model).eval(), tuple(example)),
    }
    embed = torch.export.load(io.BytesIO(files[EMBED_PROGRAM_NAME])).module()
    compare = torch.export.load(io.BytesIO(files[COMPARE_PROGRAM_NAME])).module()
    largest = 0.0
    for batch_size in BATCH_SIZES:
        earlier, later = (torch.rand((batch_size, *volume_shape), generator=draws) for _ in range(2))
        embeddings, probabilities = model.embed(earlier), model.compare(earlier, later)
        outputs = {
            f"{PROGRAM_NAME} embed": (script.embed(earlier), embeddings),
            f"{PROGRAM_NAME} compare": (script.compare(earlier, later), probabilities),
            EMBED_PROGRAM_NAME: (embed(earlier), embeddings),
            COMPARE_PROGRAM_NAME: (compare(earlier, later), probabilities),
        }
        for name, (exported, eager) in outputs.items():
            difference = float((exported - eager).abs().max())
            if not difference <= TOLERANCE:
                raise ArtefactError(
                    f"{name} differs from the model by {difference:.2g} at batch {batch_size}, above {TOLERANCE:g}; "
                    "nothing was exported"
                )
            largest = max(largest, difference)
    return Programs(files, largest)


def _torchscript(model: PairModel, earlier: torch.Tensor, later: torch.Tensor) -> tuple[bytes, PairModel]:
    """The model as a TorchScript file, and what that file holds when it is loaded again."""
    sink = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.* is deprecated", category=DeprecationWarning)
        inputs = {"embed": earlier, "compare": (earlier, later)}
        torch.jit.save(torch.jit.trace_module(model, inputs), sink)  # type: ignore[no-untyped-call]
        sink.seek(0)
        loaded: PairModel = torch.jit.load(sink, map_location="cpu")  # type: ignore[no-untyped-call]
    return sink.getvalue(), loaded


def _exported(module: nn.Module, example: tuple[torch.Tensor, ...]) -> bytes:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(module, example, dynamic_shapes=tuple({0: batch} for _ in example))
    # They would be saved too: 20 MB of random voxels beside 5 MB of weights.
    program.example_inputs = None
    sink = io.BytesIO()
    torch.export.save(program, sink)
    return sink.getvalue()
