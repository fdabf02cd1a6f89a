"""Cosine similarity against torch and closed forms, masks of groups and flags, and refusals."""

import math

import pytest
import torch

from trainer.objectives.losses.similarity import (
    as_flags,
    at_least_float32,
    cosine_similarity,
    require_features,
    require_positive,
    same_group,
    unit_rows,
)

CPU = torch.device("cpu")


def features(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_similarity_is_that_of_torch_for_every_pair_of_rows():
    first, second = features(5, 7), features(3, 7, seed=1)
    expected = torch.nn.functional.cosine_similarity(first[:, None], second[None], dim=2)
    torch.testing.assert_close(cosine_similarity(first, second), expected)


@pytest.mark.parametrize("norm", [1e-30, 1e-20, 1.0, 1e20, 1e30])
def test_direction_survives_norms_whose_square_leaves_float32(norm):
    rows = features(4, 16)
    torch.testing.assert_close(unit_rows(rows * norm), torch.nn.functional.normalize(rows), rtol=1e-5, atol=1e-6)


def test_gradient_of_unit_rows_is_the_analytical_one():
    rows = features(3, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(unit_rows, (rows,))


def test_zero_row_has_no_direction_and_a_finite_gradient():
    rows = features(3, 4)
    rows[1] = 0
    rows.requires_grad_()
    similarity = cosine_similarity(rows, rows)
    assert torch.equal(similarity[1], torch.zeros(3))
    similarity.sum().backward()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


def test_nan_is_passed_on_and_not_hidden():
    rows = features(2, 4)
    rows[0, 0] = math.nan
    assert unit_rows(rows)[0].isnan().all()
    assert unit_rows(rows)[1].isfinite().all()


@pytest.mark.parametrize(
    ("given", "raised"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.int64, torch.float32),
    ],
)
def test_precision_is_raised_to_float32_and_never_lowered(given, raised):
    assert at_least_float32(torch.ones(2, dtype=given)).dtype == raised


def test_similarity_ignores_autocast():
    first, second = features(6, 32), features(6, 32, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        inside = cosine_similarity(first, second)
    assert torch.equal(inside, cosine_similarity(first, second))


@pytest.mark.parametrize(
    "ids",
    [["b", "a", "b", "c"], [7, 3, 7, 1], torch.tensor([7, 3, 7, 1]), torch.tensor([0.7, 0.3, 0.7, 0.1])],
    ids=["strings", "ints", "tensor", "floats"],
)
def test_rows_are_of_one_group_when_their_ids_are_equal(ids):
    mask = same_group(ids, num_rows=4, name="ids", device=CPU)
    plain = [7, 3, 7, 1]
    assert mask.tolist() == [[a == b for b in plain] for a in plain]


def test_wrong_number_of_ids_is_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"ids has shape \(3,\); the batch needs \(4,\)"):
        same_group(["a", "b", "c"], num_rows=4, name="ids", device=CPU)


def test_nan_id_is_refused_because_it_equals_nothing():
    with pytest.raises(ValueError, match="1 NaN"):
        same_group(torch.tensor([1.0, math.nan]), num_rows=2, name="ids", device=CPU)


@pytest.mark.parametrize("value", [0.0, -0.1, math.nan, math.inf])
def test_setting_that_is_not_a_finite_number_above_zero_is_refused(value):
    with pytest.raises(ValueError, match=f"temperature is {value}"):
        require_positive(value, name="temperature")


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(3), r"shape \(3,\); it must be \(B, E\)"),
        (torch.zeros(0, 3), r"shape \(0, 3\)"),
        (torch.zeros(2, 3, dtype=torch.uint8), "dtype torch.uint8"),
    ],
)
def test_embeddings_of_wrong_rank_size_or_dtype_are_refused(tensor, message):
    with pytest.raises(ValueError, match=message):
        require_features(tensor, name="first_BE", axes="BE")


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
