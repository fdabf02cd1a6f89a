"""A heap full of NaN: whatever reads memory that nobody wrote computes NaN, and does so each time."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_M_PERTURB = -6
"""Option of glibc's mallopt(3): what new memory is filled with, as the complement of the last byte."""


@contextmanager
def poisoned_heap() -> Iterator[bool]:
    """While the block runs, new memory is NaN in float32, bfloat16 and float16 (bytes 0xFF).

    Yields:
        Whether it is; another C library than glibc has no such option.
    """
    if not sys.platform.startswith("linux"):
        yield False
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_PERTURB, 0x100)
    try:
        yield bool(torch.empty(1000).isnan().all())
    finally:
        libc.mallopt(_M_PERTURB, 0)


def fill_and_free() -> None:
    """Leave NaN in freed blocks of many sizes, which the next allocations are given."""
    held = [torch.full((2**power * part // 16,), torch.nan) for power in range(4, 23) for part in (4, 5, 6, 7)]
    del held
