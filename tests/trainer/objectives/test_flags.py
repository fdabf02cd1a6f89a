"""Flags may be booleans or zeros and ones, and nothing else."""

import pytest
import torch

from trainer.objectives.flags import as_flags

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32])
def test_flags_of_any_dtype_become_the_same_mask(dtype):
    given = torch.tensor([1, 0, 0, 1], dtype=dtype)
    mask = as_flags(given, shape=(4,), name="same_B", device=CPU)
    assert mask.dtype == torch.bool
    assert mask.tolist() == [True, False, False, True]


@pytest.mark.parametrize("value", [-1.0, 0.5, float("nan")])
def test_value_that_is_neither_true_nor_false_is_refused(value):
    with pytest.raises(ValueError, match=f"same_B holds {value}"):
        as_flags(torch.tensor([1.0, value]), shape=(2,), name="same_B", device=CPU)


def test_column_of_flags_is_refused_before_it_broadcasts():
    with pytest.raises(ValueError, match=r"same_B has shape \(4, 1\); the batch needs \(4,\)"):
        as_flags(torch.ones(4, 1), shape=(4,), name="same_B", device=CPU)
