"""ConPrO's two phases against torch's cosine_embedding_loss, softplus on plain cosines and the published floor."""

import inspect
import math
from functools import partial

import pytest
import torch
from torch.nn.functional import cosine_embedding_loss, cosine_similarity, softplus

from trainer.objectives.losses import margin_contrast, preference

NUM_PAIRS, WIDTH = 6, 5
FLAGS = torch.tensor([1, 0, 0, 1, 1, 0], dtype=torch.bool)


def batch(num_pairs=NUM_PAIRS, seed=0, dtype=torch.float32):
    """Two sides and an anchor, stacked as rows: shape (2B + 1, E)."""
    return torch.randn(2 * num_pairs + 1, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def contrast_of(rows, flags=None, **settings):
    num_pairs = len(rows) // 2
    flags = torch.arange(num_pairs) % 2 == 0 if flags is None else flags
    return margin_contrast(rows[:num_pairs], rows[num_pairs : 2 * num_pairs], flags, **settings)


def preference_of(rows, flags=None, **settings):
    num_pairs = len(rows) // 2
    flags = torch.arange(num_pairs) % 2 == 0 if flags is None else flags
    return preference(rows[:num_pairs], rows[num_pairs : 2 * num_pairs], rows[-1], flags, **settings)


# Margin contrast


@pytest.mark.parametrize("margin", [0.5, 1.0, 1.5, 2.0])
def test_margin_contrast_is_torchs_cosine_embedding_loss_with_margin_one_minus_ours(margin):
    rows = batch()
    first, second = rows[:NUM_PAIRS], rows[NUM_PAIRS:-1]
    expected = cosine_embedding_loss(first, second, FLAGS.float() * 2 - 1, margin=1 - margin)
    torch.testing.assert_close(margin_contrast(first, second, FLAGS, margin=margin), expected)


@pytest.mark.parametrize("margin", [0.7, 2.0])
def test_margin_contrast_is_that_of_brute_force_loops(margin):
    rows = batch(dtype=torch.float64)
    terms = []
    for a, b, same in zip(rows[:NUM_PAIRS].tolist(), rows[NUM_PAIRS:-1].tolist(), FLAGS.tolist(), strict=True):
        d = 1 - cosine(a, b)
        terms.append(d if same else max(0.0, margin - d))
    loss = contrast_of(rows, FLAGS, margin=margin)
    assert loss.item() == pytest.approx(sum(terms) / len(terms), abs=1e-13)


def test_margin_contrast_pulls_like_pairs_together_and_pushes_unlike_pairs_apart():
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]], requires_grad=True)
    for same, sign in ((True, -1), (False, 1)):
        (gradient,) = torch.autograd.grad(margin_contrast(first, second, torch.tensor([same])), second)
        assert torch.sign(gradient[0, 0]) == sign  # descent moves along -gradient: towards first when alike


def test_margin_contrast_of_opposite_and_equal_pairs_is_the_closed_form():
    first = torch.tensor([[1.0, 0.0]])
    assert margin_contrast(first, first, torch.tensor([True])).item() == 0
    assert margin_contrast(first, -first, torch.tensor([False])).item() == 0
    assert margin_contrast(first, first, torch.tensor([False])).item() == 2
    assert margin_contrast(first, -first, torch.tensor([True]), margin=0.5).item() == 2


def test_pair_beyond_the_margin_no_longer_pushes():
    first, second = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]], requires_grad=True)
    loss = margin_contrast(first, second, torch.tensor([False]), margin=0.5)
    loss.backward()
    assert loss.item() == 0
    assert second.grad is not None
    assert not second.grad.any()


def test_default_settings_are_those_of_the_paper():
    assert inspect.signature(margin_contrast).parameters["margin"].default == 2.0
    assert inspect.signature(preference).parameters["beta"].default == 1.0


# Preference


@pytest.mark.parametrize("beta", [1.0, 5.0, 10.0])
def test_preference_is_softplus_of_the_difference_of_distances_to_the_anchor(beta):
    rows = batch(dtype=torch.float64)
    anchor = rows[-1].tolist()
    expected = 0.0
    for i, j, worse in zip(rows[:NUM_PAIRS].tolist(), rows[NUM_PAIRS:-1].tolist(), FLAGS.tolist(), strict=True):
        difference = (1 - cosine(i, anchor)) - (1 - cosine(j, anchor))
        expected += math.log1p(math.exp(-(2 * worse - 1) * beta * difference)) / NUM_PAIRS
    assert preference_of(rows, FLAGS, beta=beta).item() == pytest.approx(expected, abs=1e-13)


def test_preference_agrees_with_torchs_softplus_and_cosine():
    rows = batch()
    towards = cosine_similarity(rows[:-1], rows[-1:], dim=1)
    difference = towards[NUM_PAIRS:] - towards[:NUM_PAIRS]
    expected = softplus(-(2 * FLAGS.float() - 1) * difference).mean()
    torch.testing.assert_close(preference_of(rows, FLAGS), expected)


@pytest.mark.parametrize("beta", [1.0, 5.0, 10.0])
def test_floor_of_preference_is_reached_when_the_worse_image_is_opposite_to_normal(beta):
    anchor = torch.tensor([3.0, 4.0])
    loss = preference(-anchor[None], anchor[None], anchor, torch.tensor([True]), beta=beta)
    assert loss.item() == pytest.approx(math.log1p(math.exp(-2 * beta)), rel=1e-5)
    assert math.log1p(math.exp(-2)) == pytest.approx(0.1269, abs=1e-4)


def test_preference_of_images_equally_far_from_normal_is_ln_2():
    side = torch.ones(3, WIDTH)
    loss = preference(side, side, batch()[-1], torch.tensor([True, False, True]))
    assert loss.item() == pytest.approx(math.log(2), rel=1e-6)


def test_swapping_a_pair_and_its_flag_changes_nothing():
    rows = batch()
    first, second = rows[:NUM_PAIRS], rows[NUM_PAIRS:-1]
    there, back = preference(first, second, rows[-1], FLAGS), preference(second, first, rows[-1], ~FLAGS)
    torch.testing.assert_close(there, back)


def test_preference_drives_the_worse_image_away_from_normal():
    rows = batch().requires_grad_()
    (gradient,) = torch.autograd.grad(preference_of(rows, torch.ones(NUM_PAIRS, dtype=torch.bool)), rows)
    stepped = rows.detach() - 0.1 * gradient
    stepped[-1] = rows[-1].detach()
    towards_before = cosine_similarity(rows.detach()[:NUM_PAIRS], rows.detach()[-1:], dim=1)
    assert (cosine_similarity(stepped[:NUM_PAIRS], stepped[-1:], dim=1) < towards_before).all()


def test_anchor_of_another_width_is_refused():
    rows = batch()
    with pytest.raises(ValueError, match=r"anchor_E has shape \(4,\); the pairs need \(5,\)"):
        preference(rows[:6], rows[6:12], rows[-1, :4], FLAGS)
    with pytest.raises(ValueError, match=r"anchor_E has shape \(1, 5\)"):
        preference(rows[:6], rows[6:12], rows[-1:], FLAGS)


# What both share


@pytest.fixture(params=[contrast_of, preference_of], ids=["margin_contrast", "preference"])
def objective(request):
    return request.param


def test_gradient_is_the_numerical_one(objective):
    rows = batch(dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(partial(objective, flags=FLAGS), (rows,))


@pytest.mark.parametrize("num_pairs", [1, 2, 512])
@pytest.mark.parametrize("norm", [0.0, 1e-25, 1.0, 1e25])
def test_loss_and_gradient_are_finite_for_zero_identical_and_huge_rows(objective, num_pairs, norm):
    rows = batch(num_pairs)
    rows[0] = 0
    rows[-1] *= norm
    rows[num_pairs] = rows[-1]
    rows.requires_grad_()
    loss = objective(rows)
    loss.backward()
    assert loss.isfinite()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_and_autocast_are_raised_to_float32(objective, dtype):
    rows = batch().to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(rows)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, objective(rows.float()))
    loss.backward()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


def test_flags_may_be_zeros_and_ones(objective):
    assert torch.equal(objective(batch(), FLAGS.long()), objective(batch(), FLAGS))


def test_signs_instead_of_flags_are_refused(objective):
    with pytest.raises(ValueError, match=r"_B holds -1; every value must be true or false"):
        objective(batch(), FLAGS.long() * 2 - 1)


def test_flags_of_another_number_than_pairs_are_refused(objective):
    with pytest.raises(ValueError, match=r"_B has shape \(5,\); the batch needs \(6,\)"):
        objective(batch(), FLAGS[:5])


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
def test_margin_or_beta_not_above_zero_is_refused_with_its_value(value):
    with pytest.raises(ValueError, match=f"margin is {value}"):
        contrast_of(batch(), margin=value)
    with pytest.raises(ValueError, match=f"beta is {value}"):
        preference_of(batch(), beta=value)


def test_sides_of_different_shape_and_empty_batches_are_refused():
    rows = batch()
    with pytest.raises(ValueError, match=r"\(6, 5\) and second_BE \(5, 5\)"):
        margin_contrast(rows[:6], rows[6:11], FLAGS)
    with pytest.raises(ValueError, match=r"first_BE has shape \(0, 5\)"):
        preference(rows[:0], rows[:0], rows[-1], FLAGS[:0])
