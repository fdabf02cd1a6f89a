"""New memory that holds NaN for a while, so that whatever reads what nobody has written computes NaN."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_M_PERTURB = -6
"""Option of glibc's mallopt(3): fill new memory with the complement of the last byte of the number given."""
_FILL_WITH_FF = 0x100
"""Bytes of 0xFF are NaN in float32, bfloat16 and float16. The number itself may not be 0, which means: do not fill."""


@contextmanager
def nan_in_new_memory() -> Iterator[bool]:
    """While the block runs, new memory of the CPU is NaN as far as that can be had.

    With glibc each allocation is filled, in all threads; no correct program notices. Elsewhere, or with another
    allocator instead of the C library's, blocks of many sizes are filled and freed first, for the next allocations
    to find; nine in ten do.

    Yields:
        Whether each allocation is filled.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt"):
        fill_and_free()
        yield False
        return
    assert libc is not None
    libc.mallopt(_M_PERTURB, _FILL_WITH_FF)
    try:
        is_all_filled = bool(torch.empty(1000).isnan().all())
        if not is_all_filled:
            fill_and_free()
        yield is_all_filled
    finally:
        libc.mallopt(_M_PERTURB, 0)


def fill_and_free() -> None:
    """Leave NaN in freed blocks of 64 bytes to 8 MB."""
    held = [torch.full((2**power * quarters // 4,), torch.nan) for power in range(4, 21) for quarters in (4, 5, 6, 7)]
    # Held until all are filled, so that each is another block.
    del held
