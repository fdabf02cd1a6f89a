"""Tries each layer of a model in reduced precision on this CPU, in memory full of NaN, against float32.

Fast kernels for few processors are used by few people, and some read memory that nothing has written: of fresh memory
that is zero, and later anything. So each convolution and linear layer is run on inputs of the shape it will meet,
forward and backward, while new memory holds NaN. What it computes is held against float32.

The bound. Operands are positive and have as many bits as the reduced format keeps, so no product is rounded and
nothing cancels. What is rounded is the result, once, and on some processors the sum after each element of the kernel,
or after each scan for the gradient of the weights: k sums. With u the relative error of one rounding, 2^-8 of bfloat16
and 2^-11 of float16, such a sum is off by u sqrt(k) / 3 (standard deviation: roundings are independent, and the earlier
sums smaller); (1 + 2 sqrt(k)) u is six times that.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from preprocess.console import LOG
from preprocess.errors import UsageError
from trainer.encoders.heads import PreciseLinear
from trainer.fit.distributed import ALONE, Group
from trainer.fit.heap import nan_in_new_memory
from trainer.fit.model import TrainingModel
from trainer.fit.precision import Compute, name_of
from trainer.recipe import DataRecipe, Precision

_TRIES = 3
"""Times a layer is run where not all new memory can be filled: one run in 20 then misses a fault (ADR 0011)."""
_MOST_SCANS = 4
"""In a trial: a layer that was wrong was so with a batch of 1, 2, 4 and 16 alike, and a trial of 16 takes long."""


@dataclass(frozen=True, slots=True)
class _Met:
    """A layer and what it meets.

    Attributes:
        name: in the model.
        layer: itself.
        shape: shape of its input.
        layout: strides of its input, in order of size, which distinguish channels-last from contiguous.
    """

    name: str
    layer: nn.Module
    shape: tuple[int, ...]
    layout: tuple[int, ...]


def settle(
    compute: Compute,
    precision: Precision,
    model: TrainingModel,
    row_shapes: Mapping[str, Sequence[int]],
    *,
    num_scans: int,
    group: Group = ALONE,
) -> Compute:
    """The device and number format of a run: on CPUs reduced precision only where every process's computes it right.

    Args:
        compute: from `choose_compute`.
        precision: the recipe's precision; it says whether float32 may be taken instead.
        model: what will be trained; left as it is.
        row_shapes: shape of a stored row, by modality.
        num_scans: that are computed at a time, at most.
        group: the processes that train together; all get the same answer.

    Raises:
        UsageError: the recipe names a reduced precision and a machine computes it wrong; `auto` takes float32 instead,
            with one line of warning.
    """
    own = name_of(compute.dtype)
    if group.any(own != group.from_first(own.encode()).decode()):
        fault = f"the machines of this training differ, this one would take {own}"
    elif compute.dtype is torch.float32 or compute.device.type != "cpu":
        return compute
    else:
        fault = fault_in(model, row_shapes, (1, min(num_scans, _MOST_SCANS)), compute)
        if not group.any(bool(fault)):
            return compute
        fault = fault or f"the machine of another process computes {own} wrong"
    if precision != "auto":
        raise UsageError(
            f"precision is '{precision}' and this machine computes it wrong: {fault}; set precision = 'auto' or "
            "'float32'"
        )
    LOG.warning("precision is auto: computing in float32, not %s: %s", own, fault)
    return Compute(compute.device, torch.float32)


def scans_at_once(data: DataRecipe, *, cache_chunk: int) -> int:
    """Scans, or views of them, whose activations are alive at a time in one process, at most."""
    scans_of_subject = {"pairs": 2, "scans": 1, "visits": data.num_visits}[data.sampling]
    whole = data.batch_size * scans_of_subject * data.views
    return min(whole, cache_chunk) if cache_chunk else whole


def fault_in(
    model: TrainingModel, row_shapes: Mapping[str, Sequence[int]], sizes: Sequence[int], compute: Compute
) -> str:
    """What this machine computes wrong in reduced precision, in words; empty where it computes all of it right.

    Args:
        model: networks, on any device; left as it is.
        row_shapes: shape of a stored row, by modality.
        sizes: numbers of scans to try.
        compute: the CPU, and the number format in question.
    """
    twin = copy.deepcopy(model).eval()
    twin.to("cpu", memory_format=model.encoder.memory_format)  # type: ignore[call-overload]
    tried: set[tuple[object, ...]] = set()
    for met in _layers_met(twin, row_shapes, sizes, compute):
        key = (repr(met.layer), met.shape, met.layout)
        if key in tried:
            continue
        tried.add(key)
        fault = _fault(met, compute)
        if fault:
            size = " x ".join(map(str, met.shape))
            return f"{fault} in {met.name} ({type(met.layer).__name__} of an input {size})"
    return ""


def _layers_met(
    model: TrainingModel, row_shapes: Mapping[str, Sequence[int]], sizes: Sequence[int], compute: Compute
) -> list[_Met]:
    """Every layer that autocast makes compute in reduced precision, with each input that it meets."""
    met: list[_Met] = []
    names = {layer: name for name, layer in model.named_modules()}

    def note(layer: nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        given = arguments[0]
        order = sorted(range(given.dim()), key=given.stride, reverse=True)
        met.append(_Met(names[layer], layer, tuple(given.shape), tuple(order)))

    hooks = [
        layer.register_forward_pre_hook(note)
        for layer in names
        if isinstance(layer, nn.modules.conv._ConvNd | nn.Linear) and not isinstance(layer, PreciseLinear)
    ]
    with torch.no_grad(), compute.autocast():
        for size in sizes:
            _run(model, row_shapes, size)
    for hook in hooks:
        hook.remove()
    return met


def _run(model: TrainingModel, row_shapes: Mapping[str, Sequence[int]], size: int) -> None:
    """Embed and project empty visits with every modality."""
    present_NM = torch.ones(size, len(row_shapes), dtype=torch.bool)
    inputs = {name: torch.zeros(size, *shape) for name, shape in row_shapes.items()}
    embedded = model.encoder.embed_visits(inputs, present_NM)
    model.projector(model.encoder.join(embedded, present_NM))


def _fault(met: _Met, compute: Compute) -> str:
    """Which of output and gradients is wrong, and how; empty for none."""
    generator = torch.Generator().manual_seed(0)

    def draw(shape: Sequence[int], scale: float) -> torch.Tensor:
        """Numbers from scale to twice that, exact in the reduced format."""
        drawn = (1 + torch.rand(tuple(shape), generator=generator)) * scale
        return drawn.to(compute.dtype).float()

    layer = copy.deepcopy(met.layer)
    weight = layer.get_parameter("weight")
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(draw(parameter.shape, weight[0].numel() ** -0.5))
    back = [met.layout.index(axis) for axis in range(len(met.shape))]
    inputs = draw([met.shape[axis] for axis in met.layout], 1.0).permute(back).requires_grad_()
    exact = layer(inputs)
    upstream = draw(exact.shape, exact.numel() ** -0.5)
    expected = (exact, *torch.autograd.grad(exact, [inputs, *layer.parameters()], upstream))
    num_sums = max(math.prod(weight.shape[2:]), met.shape[0])
    bound = (1 + 2 * math.sqrt(num_sums)) * torch.finfo(compute.dtype).eps / 2
    names = ["output", "gradient of the input", *(f"gradient of the {name}" for name, _ in layer.named_parameters())]
    for _ in range(_TRIES):
        with nan_in_new_memory() as is_all_filled, compute.autocast():
            output = layer(inputs)
        with nan_in_new_memory():
            found = (output, *torch.autograd.grad(output, [inputs, *layer.parameters()], upstream.to(output.dtype)))
        for name, is_, should in zip(names, found, expected, strict=True):
            difference = _difference(is_.detach().float(), should.detach(), bound)
            if difference:
                return f"the {name} {difference}"
        if is_all_filled:
            break
    return ""


def _difference(found: torch.Tensor, expected: torch.Tensor, bound: float) -> str:
    """How a tensor differs from the exact one by more than this part of an entry; empty where it does not."""
    wrong = int((~found.isfinite()).sum())
    if wrong:
        return f"holds {wrong} of {found.numel()} values that are not finite"
    error = float(((found - expected).abs() / expected.abs().clamp(min=torch.finfo(torch.float32).tiny)).max())
    return f"is off by {error:.1%} where rounding explains {bound:.1%}" if error > bound else ""
