"""Within the block new memory is NaN, and after it computing goes on as before."""

import sys

import pytest
import torch

from trainer.fit.heap import fill_and_free, nan_in_new_memory

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.skipif(sys.platform != "linux", reason="filling each allocation is an option of glibc")
@pytest.mark.parametrize("dtype", DTYPES)
def test_all_new_memory_is_nan_in_every_format_that_is_computed_in(dtype: torch.dtype) -> None:
    sizes = [3, 8, 100, 4096, 10**5, 3 * 10**6]
    with nan_in_new_memory() as is_all_filled:
        found = [bool(torch.empty(size, dtype=dtype).isnan().all()) for size in sizes]
    assert is_all_filled
    assert found == [True] * len(sizes)


def test_what_is_written_stays_and_arithmetic_is_untouched() -> None:
    kept = torch.arange(1000.0)
    with nan_in_new_memory():
        doubled = kept * 2
    assert torch.equal(doubled, torch.arange(0.0, 2000.0, 2.0))
    assert float(doubled.sum()) == 999_000


def test_afterwards_and_after_an_error_new_memory_is_left_alone() -> None:
    with pytest.raises(RuntimeError, match="inside"), nan_in_new_memory():
        raise RuntimeError("inside")
    held = [torch.empty(1000) for _ in range(50)]  # more blocks than were freed with NaN in them
    fresh = [torch.empty(1000) for _ in range(50)]
    assert not all(bool(one.isnan().all()) for one in fresh)
    assert len(held) == 50


def test_freed_blocks_of_many_sizes_are_given_out_with_nan_in_them() -> None:
    found = []
    for power in range(6, 15):
        fill_and_free()
        found.append(bool(torch.empty(2**power).isnan().any()))
    assert sum(found) > len(found) / 2
