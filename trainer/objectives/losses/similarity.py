"""What every objective shares: cosine similarity that survives any norm, masks, and refusals of wrong input.

All of it runs at float32 or above. Autocast is the caller's to switch off, with `full_precision` around the arithmetic.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch

GroupIds: TypeAlias = torch.Tensor | Sequence[str] | Sequence[int]
"""Subjects or class labels of a batch: a tensor of shape (B,), or a sequence of B strings or whole numbers."""


def full_precision(tensor: torch.Tensor) -> torch.autocast:
    """Switch autocast off for the tensor's device, so that matrix products keep the dtype of their inputs."""
    return torch.autocast(device_type=tensor.device.type, enabled=False)


def at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    """Raise half, bfloat16 and whole numbers to float32; float32 and float64 stay as they are."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def unit_rows(features_NE: torch.Tensor) -> torch.Tensor:
    """Divide every row by its L2 norm.

    Rows are first divided by their largest magnitude, so that squaring neither overflows (1e30) nor vanishes (1e-30);
    the direction does not depend on that divisor, which is why it carries no gradient. A zero row has no direction: it
    stays zero, has similarity 0 with everything, and its gradient is finite.

    Args:
        features_NE: float tensor whose last axis is the embedding; any number of axes before it.

    Returns:
        Tensor of the same shape, float32 (float64 when the input is).
    """
    features_NE = at_least_float32(features_NE)
    largest_N1 = features_NE.detach().abs().amax(dim=-1, keepdim=True)
    scaled_NE = features_NE / largest_N1.masked_fill(largest_N1 == 0, 1.0)
    squared_norm_N1 = scaled_NE.square().sum(dim=-1, keepdim=True)
    return scaled_NE * squared_norm_N1.masked_fill(largest_N1 == 0, 1.0).rsqrt()


def cosine_similarity(first_NE: torch.Tensor, second_ME: torch.Tensor) -> torch.Tensor:
    """Cosine similarity of every row of the first with every row of the second, shape (N, M), within [-1, 1]."""
    with full_precision(first_NE):
        first_NE, second_ME = unit_rows(first_NE), unit_rows(second_ME)
        dtype = torch.promote_types(first_NE.dtype, second_ME.dtype)
        return first_NE.to(dtype) @ second_ME.to(dtype).T


def same_group(group_ids: GroupIds, *, num_rows: int, name: str, device: torch.device) -> torch.Tensor:
    """Mark which rows of a batch belong to the same subject or class.

    Args:
        group_ids: tensor of shape (num_rows,), or as many strings or whole numbers.
        num_rows: rows of the batch.
        name: what messages call the argument.
        device: where the mask shall live.

    Returns:
        Boolean tensor of shape (num_rows, num_rows); the diagonal is true.

    Raises:
        ValueError: the number of ids is not `num_rows`, or an id is NaN and so equals nothing.
    """
    if isinstance(group_ids, torch.Tensor):
        codes_N = group_ids
    else:
        code_of = {group: code for code, group in enumerate(dict.fromkeys(group_ids))}
        codes_N = torch.tensor([code_of[group] for group in group_ids], dtype=torch.long)
    if codes_N.shape != (num_rows,):
        raise ValueError(f"{name} has shape {tuple(codes_N.shape)}; the batch needs ({num_rows},), one id a row")
    if codes_N.is_floating_point() and bool(codes_N.isnan().any()):
        raise ValueError(f"{name} holds {int(codes_N.isnan().sum())} NaN; leave rows without an id out of the batch")
    codes_N = codes_N.to(device)
    return codes_N[:, None] == codes_N[None, :]


def as_flags(flags: torch.Tensor, *, shape: tuple[int, ...], name: str, device: torch.device) -> torch.Tensor:
    """Read a tensor of flags.

    Args:
        flags: booleans, or numbers that are all 0 or 1.
        shape: shape the batch needs.
        name: what messages call the argument.
        device: where the mask shall live.

    Returns:
        Boolean tensor of that shape.

    Raises:
        ValueError: another shape, or a value that is neither 0 nor 1.
    """
    if flags.shape != shape:
        raise ValueError(f"{name} has shape {tuple(flags.shape)}; the batch needs {shape}")
    other = (flags != 0) & (flags != 1)
    if bool(other.any()):
        raise ValueError(f"{name} holds {flags[other][0].item()}; every value must be true or false (1 or 0)")
    return flags.to(device=device, dtype=torch.bool)


def require_positive(value: float, *, name: str) -> None:
    """Refuse zero, negative, infinite and NaN settings.

    Raises:
        ValueError: with the name and the value.
    """
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}; it must be a finite number above 0")


def require_features(tensor: torch.Tensor, *, name: str, axes: str) -> None:
    """Refuse embeddings of another rank than named, with an empty axis, or of a dtype that is not floating point.

    Args:
        tensor: the embeddings.
        name: what messages call the argument.
        axes: one letter for each expected axis, for example `BE`.

    Raises:
        ValueError: with the shape or dtype found.
    """
    if tensor.dim() != len(axes) or 0 in tensor.shape:
        expected = ", ".join(axes)
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; it must be ({expected}) with no axis of length 0")
    if not tensor.is_floating_point():
        raise ValueError(f"{name} has dtype {tensor.dtype}; embeddings must be floating point")
