"""No encoder computes what lay in memory, however small its grid; a wide layer is torch's own."""

from collections.abc import Callable, Iterator
from itertools import product
from typing import get_args

import pytest
import torch
from torch import nn

from trainer.encoders import EncoderName, build_encoder
from trainer.encoders.multimodal import ModalitySpec
from trainer.encoders.narrow import Conv2d, Conv3d, guard_convolutions
from trainer.encoders.visits import VisitEncoder
from trainer.fit.heap import nan_in_new_memory

pytestmark = pytest.mark.numeric

SMALLEST: dict[str, tuple[int, ...]] = {
    "reference": (1, 16, 16, 16),
    "fast": (1, 16, 16, 16),
    "slice-tsm-resnet18": (1, 16, 16, 16),
    "tsm-resnet18": (8, 1, 16, 16),
    "resnet18": (1, 16, 16),
    "resnet50": (1, 16, 16),
}
GRIDS = [
    *SMALLEST.items(),
    ("reference", (1, 32, 32, 32)),
    ("reference", (1, 17, 33, 47)),
    ("reference", (2, 32, 48, 64)),
    ("fast", (3, 31, 16, 48)),
    ("fast", (1, 64, 64, 64)),
    ("slice-tsm-resnet18", (1, 16, 32, 16)),
    ("resnet18", (3, 16, 64)),
    ("resnet50", (1, 64, 16)),
]
U = 2.0**-8
"""Largest relative error of one rounding to bfloat16, which keeps 8 bits."""


def test_every_encoder_of_recipes_is_looked_at() -> None:
    assert set(SMALLEST) == set(get_args(EncoderName))


def as_computed(encoder: nn.Module, inputs: tuple[object, ...]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Embeddings, and gradients of every parameter, under bf16 autocast on a heap of NaN."""
    with nan_in_new_memory(), torch.autocast("cpu", torch.bfloat16):
        embeddings = encoder(*inputs)
    weights = torch.rand(embeddings.shape, generator=torch.Generator().manual_seed(5))
    with nan_in_new_memory():
        torch.autograd.backward((embeddings * weights).sum())
    return embeddings, {name: one.grad for name, one in encoder.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("batch_size", [2, 5])
@pytest.mark.parametrize(("name", "shape"), GRIDS)
def test_nothing_in_memory_reaches_embedding_or_gradients(
    name: EncoderName, shape: tuple[int, ...], batch_size: int, channels_last: bool
) -> None:
    torch.manual_seed(0)
    channels = shape[build_encoder(name, in_channels=1, embedding_width=8).input_axes.index("C") - 1]
    encoder = build_encoder(name, in_channels=channels, embedding_width=8)
    if channels_last:
        encoder.to(memory_format=encoder.memory_format)
    scans = torch.rand(batch_size, *shape, requires_grad=True)
    embeddings, gradients = as_computed(encoder, (scans,))
    assert embeddings.isfinite().all()
    assert gradients.keys() == dict(encoder.named_parameters()).keys()
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert scans.grad is not None
    assert scans.grad.isfinite().all()


@pytest.mark.parametrize("name", SMALLEST)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_in_evaluation_the_smallest_grid_embeds_as_in_float32(name: EncoderName, batch_size: int) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(name, in_channels=1, embedding_width=8).eval()
    scans = torch.rand(batch_size, *SMALLEST[name])
    with torch.no_grad():
        expected = encoder(scans)
        with nan_in_new_memory(), torch.autocast("cpu", torch.bfloat16):
            found = encoder(scans)
    # At most 50 layers round one after the other, each at random: sqrt(50) = 7 roundings.
    assert float((found - expected).norm() / expected.norm()) < 7 * U


@pytest.mark.parametrize("edge", [32, 47])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_nothing_in_memory_reaches_the_multimodal_encoder(edge: int, batch_size: int) -> None:
    torch.manual_seed(0)
    specs = {
        "T1w": ModalitySpec("volume", (1, edge, 32, 32)),
        "sc": ModalitySpec("matrix", (3, 3)),
        "clinical": ModalitySpec("vector", (1,)),
    }
    encoder = VisitEncoder(specs, embedding_width=8)
    inputs = {name: torch.rand(batch_size, *spec.shape) for name, spec in specs.items()}
    embeddings, gradients = as_computed(encoder, (inputs, torch.ones(batch_size, 3, dtype=torch.bool)))
    assert embeddings.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients.values())


def exact_and_found(
    layer: nn.Module, inputs: torch.Tensor, dtype: torch.dtype
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Output, gradient of the input and gradients of the parameters, in float64 and under autocast on a heap of NaN.

    All operands are positive and of 8 bits: no product is rounded and nothing cancels.
    """
    generator = torch.Generator().manual_seed(1)

    def draw(shape: torch.Size, scale: float) -> torch.Tensor:
        return ((1 + torch.rand(shape, generator=generator)) * scale).bfloat16().float()

    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(draw(parameter.shape, 2.0**-4))
    inputs = draw(inputs.shape, 1.0).requires_grad_()
    with nan_in_new_memory(), torch.autocast("cpu", dtype):
        output = layer(inputs)
    upstream = draw(output.shape, 1.0)
    with nan_in_new_memory():
        found = torch.autograd.grad(output, [inputs, *layer.parameters()], upstream.to(output.dtype))
    exact_layer = layer.double()
    exact_inputs = inputs.detach().double().requires_grad_()
    exact_output = exact_layer(exact_inputs)
    exact = torch.autograd.grad(exact_output, [exact_inputs, *exact_layer.parameters()], upstream.double())
    yield from zip((exact_output, *exact), (output, *found), strict=True)


@pytest.mark.parametrize("first_edge", [1, 2, 3])
@pytest.mark.parametrize(("build", "kernel", "padding", "stride"), [
    (Conv3d, 3, 1, 1), (Conv3d, 3, 1, 2), (Conv3d, 5, 2, 1), (Conv2d, 3, 1, 1), (Conv2d, 3, 1, 2), (Conv2d, 7, 3, 2),
])  # fmt: skip
def test_narrow_inputs_are_convolved_to_the_rounding_of_the_result(
    build: Callable[..., nn.Module], kernel: int, padding: int, stride: int, first_edge: int
) -> None:
    rank = 3 if build is Conv3d else 2
    for edges in product((1, 2, 3), repeat=rank - 1):
        layer = build(8, 16, kernel, padding=padding, stride=stride)
        for exact, found in exact_and_found(layer, torch.empty(2, 8, first_edge, *edges), torch.bfloat16):
            # The result is rounded, and before it, on some processors, the sum after each element of the kernel.
            torch.testing.assert_close(found.double(), exact, rtol=(kernel**rank + 1) * U, atol=0)


def test_only_narrow_layers_leave_reduced_precision() -> None:
    layer = Conv3d(8, 16, 3, padding=1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.rand(1, 8, 3, 3, 3)).dtype is torch.bfloat16
        for axis in (2, 3, 4):
            shape = [1, 8, 9, 9, 9]
            shape[axis] = 2
            assert layer(torch.rand(shape)).dtype is torch.float32
        assert Conv2d(8, 16, 3, padding=0)(torch.rand(1, 8, 3, 3)).dtype is torch.bfloat16


def test_without_autocast_a_guarded_convolution_is_torchs_own_bit_for_bit() -> None:
    torch.manual_seed(0)
    plain, guarded = (nn.Sequential(nn.Conv3d(2, 8, 3, padding=1), nn.ReLU(), nn.Conv3d(8, 4, 1)) for _ in range(2))
    guarded.load_state_dict(plain.state_dict())
    before = torch.get_rng_state()
    guard_convolutions(guarded)
    assert torch.equal(torch.get_rng_state(), before)
    assert [type(layer) for layer in guarded] == [Conv3d, nn.ReLU, Conv3d]
    assert guarded.state_dict().keys() == plain.state_dict().keys()
    for edge in (1, 2, 7):
        volumes = torch.rand(2, 2, edge, edge, edge)
        assert torch.equal(guarded(volumes), plain(volumes))
