"""Convolutions that leave reduced precision where their input is as narrow as their padding.

oneDNN's bfloat16 kernels for AVX-512 (torch 2.13) read memory that nothing has written, and for a few shapes write
where they may not, where an edge of the input is at most twice the padding: of Conv3d with kernel 3 and padding 1
inputs of 1 and 2 voxels, of kernel 5 and padding 2 up to 4, of Conv2d with stride 2 an input of 1 pixel. Where the heap
held NaN, the gradient of the weights is NaN; it can be finite and wrong too. Such layers are the last and smallest of a
network: in float32 they cost little. docs/adr/0011-narrow-convolutions-in-float32.md has the shapes that were tried.
"""

import torch
from torch import nn


class _ExactWhereNarrow(nn.Module):
    """The part that both convolutions share."""

    padding: str | tuple[int, ...]
    weight: torch.Tensor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Convolve; on a CPU under autocast in the dtype of the weights where the input is narrow."""
        kind = input.device.type
        # Sizes are looked at under autocast alone: recorded graphs, made without it, stay free of them.
        if kind == "cpu" and torch.is_autocast_enabled(kind) and self._is_narrow(input):
            with torch.autocast(kind, enabled=False):
                return self._convolved(input.to(self.weight.dtype))
        return self._convolved(input)

    def _is_narrow(self, input: torch.Tensor) -> bool:
        assert not isinstance(self.padding, str), "give the padding in voxels"
        edges = input.shape[-len(self.padding) :]
        return any(edge <= 2 * padding for edge, padding in zip(edges, self.padding, strict=True))

    def _convolved(self, input: torch.Tensor) -> torch.Tensor:
        convolved: torch.Tensor = super().forward(input)
        return convolved


class Conv2d(_ExactWhereNarrow, nn.Conv2d):
    """`torch.nn.Conv2d`, in float32 where its input is narrow; parameters and their names are the same."""


class Conv3d(_ExactWhereNarrow, nn.Conv3d):
    """`torch.nn.Conv3d`, in float32 where its input is narrow; parameters and their names are the same."""


def guard_convolutions(module: nn.Module) -> None:
    """Make every plain convolution below a module one of this file.

    Only its class changes: parameters stay, and no random number is drawn, as building it anew would.
    """
    kinds: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: Conv2d, nn.Conv3d: Conv3d}
    for layer in module.modules():
        if type(layer) in kinds:
            layer.__class__ = kinds[type(layer)]
