"""Writes the model as TorchScript and as torch.export programs, and proves that all three compute the same.

TorchScript is deprecated since torch 2.11; the torch.export programs beside it are the way out, and are kept tested.
This is the only module of the trainer that names torch.jit.
"""

import io
import warnings
from dataclasses import dataclass

import torch
from torch import nn

from preprocess.errors import ArtefactError
from preprocess.manifest import COMPARE_PROGRAM_NAME, EMBED_PROGRAM_NAME, PROGRAM_NAME, SEVERITY_PROGRAM_NAME
from trainer.export.embedding import EmbeddingModel
from trainer.export.severity import SeverityModel
from trainer.fit.trained import PairModel

BATCH_SIZES = (1, 3, 8)
"""Batch sizes that parity is proven at."""
TOLERANCE = 1e-5
"""Largest absolute difference accepted: float32 sums in another order differ by a few 1e-7 of values near 1."""


class _Embed(nn.Module):
    def __init__(self, model: PairModel | EmbeddingModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, scans_B: torch.Tensor) -> torch.Tensor:
        return self.model.embed(scans_B)


class _Compare(nn.Module):
    def __init__(self, model: PairModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, earlier_BCDHW: torch.Tensor, later_BCDHW: torch.Tensor) -> torch.Tensor:
        return self.model.compare(earlier_BCDHW, later_BCDHW)


class _Judge(nn.Module):
    def __init__(self, model: PairModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, differences_BE: torch.Tensor) -> torch.Tensor:
        return self.model.judge(differences_BE)


class _Severity(nn.Module):
    def __init__(self, model: SeverityModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, scans_B: torch.Tensor) -> torch.Tensor:
        return self.model.severity(scans_B)


@dataclass(frozen=True, slots=True)
class _Method:
    """One method of the model.

    Attributes:
        name: its name in model.ts.
        module: the same as a module of its own.
        file_name: its torch.export program; None for one that costs no network, and is part of another's program.
        shapes: shape of each input without the batch.
    """

    name: str
    module: nn.Module
    file_name: str | None
    shapes: tuple[tuple[int, ...], ...]

    def draw(self, batch_size: int, draws: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Made-up inputs in [0, 1]."""
        return tuple(torch.rand((batch_size, *shape), generator=draws) for shape in self.shapes)


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
def export_programs(model: PairModel | EmbeddingModel, row_shape: tuple[int, ...]) -> Programs:
    """Export and compare.

    Args:
        model: in evaluation mode, on the CPU, float32.
        row_shape: shape of one input: (C, D, H, W) for a volume, (T, C, H, W) for a clip, (C, H, W) for an image.

    Raises:
        ArtefactError: an exported program differs from the model by more than `TOLERANCE`.
    """
    draws = torch.Generator().manual_seed(0)
    methods = _methods(model, row_shape)
    examples = {one.name: one.draw(3, draws) for one in methods}
    script_data, script = _torchscript(model, examples)
    files = {PROGRAM_NAME: script_data}
    files |= {one.file_name: _exported(one.module.eval(), examples[one.name]) for one in methods if one.file_name}
    loaded = {name: torch.export.load(io.BytesIO(files[name])).module() for name in files if name != PROGRAM_NAME}
    largest = 0.0
    for batch_size in BATCH_SIZES:
        for one in methods:
            inputs = one.draw(batch_size, draws)
            eager = one.module(*inputs)
            outputs = {f"{PROGRAM_NAME} {one.name}": getattr(script, one.name)(*inputs)}
            if one.file_name is not None:
                outputs[one.file_name] = loaded[one.file_name](*inputs)
            for name, exported in outputs.items():
                difference = float((exported - eager).abs().max())
                if not difference <= TOLERANCE:
                    raise ArtefactError(
                        f"{name} differs from the model by {difference:.2g} at batch {batch_size}, above "
                        f"{TOLERANCE:g}; nothing was exported"
                    )
                largest = max(largest, difference)
    return Programs(files, largest)


def _methods(model: PairModel | EmbeddingModel, row_shape: tuple[int, ...]) -> tuple[_Method, ...]:
    """`embed`, and what the model answers, if anything: of scans, and of pairs whose embeddings are there already."""
    embed = _Method("embed", _Embed(model), EMBED_PROGRAM_NAME, (row_shape,))
    if isinstance(model, PairModel):
        width = model.embed(torch.zeros((1, *row_shape))).shape[1]
        compare = _Method("compare", _Compare(model), COMPARE_PROGRAM_NAME, (row_shape, row_shape))
        return embed, compare, _Method("judge", _Judge(model), None, ((width,),))
    if isinstance(model, SeverityModel):
        return embed, _Method("severity", _Severity(model), SEVERITY_PROGRAM_NAME, (row_shape,))
    return (embed,)


def _torchscript(model: nn.Module, inputs: dict[str, tuple[torch.Tensor, ...]]) -> tuple[bytes, nn.Module]:
    """The model as a TorchScript file, and what that file holds when it is loaded again.

    Args:
        model: in evaluation mode.
        inputs: an example by method.
    """
    sink = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.* is deprecated", category=DeprecationWarning)
        torch.jit.save(torch.jit.trace_module(model, inputs), sink)  # type: ignore[no-untyped-call]
        sink.seek(0)
        loaded: nn.Module = torch.jit.load(sink, map_location="cpu")  # type: ignore[no-untyped-call]
    return sink.getvalue(), loaded


def _exported(module: nn.Module, example: tuple[torch.Tensor, ...]) -> bytes:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(module, example, dynamic_shapes=tuple({0: batch} for _ in example))
    # They would be saved too: 20 MB of random voxels beside 5 MB of weights.
    program.example_inputs = None
    sink = io.BytesIO()
    torch.export.save(program, sink)
    return sink.getvalue()
