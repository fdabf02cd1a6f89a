"""Yes-or-no arguments of the objectives: tensors of booleans, or of the numbers 0 and 1, as one boolean mask."""

import torch


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
