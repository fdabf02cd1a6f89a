"""InfoNCE, NT-Xent and SupCon against torch, MONAI, pytorch-metric-learning, brute-force loops and closed forms."""

import math
from functools import partial

import pytest
import torch
from monai.losses import ContrastiveLoss
from torch.nn.functional import cross_entropy, normalize

from trainer.objectives.losses import info_nce, info_nce_chance, nt_xent, sup_con

TEMPERATURES = [0.05, 0.07, 0.5, 2.0]


def pair(num_scans: int = 6, width: int = 8, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Two related sides, shape (2, B, E)."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(num_scans, width, generator=generator, dtype=dtype)
    return torch.stack((first, first + 0.5 * torch.randn(num_scans, width, generator=generator, dtype=dtype)))


def cosine(a, b) -> float:
    """Cosine similarity by plain Python, in float64."""
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def info_nce_by_loops(first, second, temperature, subjects):
    first, second = first.tolist(), second.tolist()
    total = 0.0
    for anchors, others in ((first, second), (second, first)):
        for i, anchor in enumerate(anchors):
            kept = [k for k in range(len(others)) if k == i or subjects[k] != subjects[i]]
            denominator = sum(math.exp(cosine(anchor, others[k]) / temperature) for k in kept)
            total -= cosine(anchor, others[i]) / temperature - math.log(denominator)
    return total / (2 * len(first))


def sup_con_by_loops(views, labels, temperature):
    num_views = views.shape[1]
    rows, group = views.flatten(0, 1).tolist(), [label for label in labels for _ in range(num_views)]
    losses = []
    for i, anchor in enumerate(rows):
        others = [k for k in range(len(rows)) if k != i]
        positives = [k for k in others if group[k] == group[i]]
        if positives:
            log_sum = math.log(sum(math.exp(cosine(anchor, rows[k]) / temperature) for k in others))
            losses.append(log_sum - sum(cosine(anchor, rows[p]) / temperature for p in positives) / len(positives))
    return sum(losses) / len(losses)


# InfoNCE


@pytest.mark.parametrize("temperature", [0.01, *TEMPERATURES])
@pytest.mark.parametrize("num_pairs", [2, 6, 512])
def test_info_nce_is_the_mean_of_both_cross_entropies(num_pairs, temperature):
    first, second = pair(num_pairs)
    logits = normalize(first) @ normalize(second).T / temperature
    target = torch.arange(num_pairs)
    expected = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    torch.testing.assert_close(info_nce(first, second, temperature=temperature), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("subjects", [list("abcdef"), list("aabbcd"), list("abaaba")])
def test_info_nce_leaves_other_scans_of_the_anchors_subject_out_of_both_denominators(subjects):
    first, second = pair(dtype=torch.float64)
    loss = info_nce(first, second, temperature=0.2, subject_ids=subjects)
    assert loss.item() == pytest.approx(info_nce_by_loops(first, second, 0.2, subjects), abs=1e-12)


def test_info_nce_takes_subjects_as_tensor_or_strings_alike():
    first, second = pair()
    by_name = info_nce(first, second, subject_ids=["x", "y", "x", "z", "y", "w"])
    assert torch.equal(by_name, info_nce(first, second, subject_ids=torch.tensor([5, 2, 5, 9, 2, 7])))


def test_info_nce_does_not_push_two_scans_of_one_subject_apart():
    first, second = pair(4)
    first[1], second[1] = first[0], second[0]  # a duplicated subject: its twin is the hardest of all negatives
    masked = info_nce(first, second, subject_ids=["a", "a", "b", "c"])
    assert masked < info_nce(first, second)
    first.requires_grad_()
    info_nce(first, second, subject_ids=["a", "a", "b", "b"]).backward()
    assert first.grad is not None
    assert first.grad.isfinite().all()


def test_info_nce_of_orthogonal_pairs_divides_by_the_temperature_once():
    num_pairs, temperature = 5, 0.3
    basis = torch.eye(num_pairs)
    expected = math.log(1 + (num_pairs - 1) * math.exp(-1 / temperature))
    assert info_nce(basis, basis, temperature=temperature).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("num_pairs", [1, 2, 8, 512])
def test_info_nce_of_a_collapsed_model_stands_at_chance(num_pairs):
    alike = torch.ones(num_pairs, 4)
    assert info_nce(alike, alike).item() == pytest.approx(info_nce_chance(num_pairs), abs=1e-5)
    assert info_nce_chance(8) == pytest.approx(2.0794, abs=1e-4)  # the chance level published for batches of 8


def test_info_nce_with_one_subject_in_the_batch_is_zero_with_zero_gradient():
    both = pair().requires_grad_()
    loss = info_nce(both[0], both[1], subject_ids=["a"] * 6)
    loss.backward()
    assert loss.item() == 0
    assert both.grad is not None
    assert not both.grad.any()


def test_info_nce_default_temperature_is_that_of_the_paper():
    first, second = pair()
    assert torch.equal(info_nce(first, second), info_nce(first, second, temperature=0.07))


def test_chance_of_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="batch_size is 0"):
        info_nce_chance(0)


# NT-Xent


@pytest.mark.parametrize("temperature", TEMPERATURES)
@pytest.mark.parametrize("num_scans", [2, 6, 64])
def test_nt_xent_is_that_of_monai_where_monai_does_not_overflow(num_scans, temperature):
    first, second = pair(num_scans)
    expected = ContrastiveLoss(temperature=temperature)(first, second)
    torch.testing.assert_close(nt_xent(first, second, temperature=temperature), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.01, 0.5])
def test_nt_xent_is_that_of_pytorch_metric_learning(temperature):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    first, second = pair(7)
    expected = losses.NTXentLoss(temperature)(torch.cat((first, second)), torch.arange(7).repeat(2))
    torch.testing.assert_close(nt_xent(first, second, temperature=temperature), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("temperature", [0.01, 0.3])
def test_nt_xent_of_orthogonal_scans_is_the_closed_form(temperature):
    num_scans = 4
    basis = torch.eye(num_scans)
    expected = math.log1p((2 * num_scans - 2) * math.exp(-1 / temperature))
    assert nt_xent(basis, basis, temperature=temperature).item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_nt_xent_counts_the_anchors_own_side_as_negatives_and_info_nce_does_not():
    first = torch.eye(3)
    second = first[[1, 2, 0]]
    same_side = torch.ones(3, 3) + first * 1e-3  # first side collapsed: only a same-side denominator notices
    assert nt_xent(same_side, second, temperature=0.5) > info_nce(same_side, second, temperature=0.5) + 0.5
    assert info_nce(same_side, second, temperature=0.5).item() == pytest.approx(math.log(3), abs=1e-2)


# SupCon


@pytest.mark.parametrize(
    ("labels", "num_views"),
    [
        ([0, 1, 2, 3, 4, 5], 2),
        ([0, 1, 2, 3, 4, 5], 3),
        ([0, 0, 1, 1, 2, 3], 1),
        ([0, 0, 1, 1, 2, 3], 3),
        ([4, 4, 4, 4, 4, 4], 1),
        ([4, 4, 4, 4, 4, 4], 2),
    ],
)
def test_sup_con_is_that_of_brute_force_loops(labels, num_views):
    views = torch.randn(6, num_views, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    loss = sup_con(views, torch.tensor(labels), temperature=0.1)
    assert loss.item() == pytest.approx(sup_con_by_loops(views, labels, 0.1), abs=1e-11)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_sup_con_is_that_of_pytorch_metric_learning(temperature):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    views = torch.randn(8, 2, 6, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 0, 1, 2, 2, 2, 3, 4])
    expected = losses.SupConLoss(temperature)(views.flatten(0, 1), labels.repeat_interleave(2))
    torch.testing.assert_close(sup_con(views, labels, temperature=temperature), expected, rtol=1e-5, atol=1e-5)


def test_sup_con_without_labels_over_two_views_is_nt_xent():
    first, second = pair()
    without = sup_con(torch.stack((first, second), dim=1), temperature=0.2)
    torch.testing.assert_close(without, ContrastiveLoss(temperature=0.2)(first, second))


def test_sup_con_drops_anchors_without_positive_from_the_mean_and_keeps_them_as_negatives():
    views = torch.eye(4)[:, None]
    views[1] = views[0]
    loss = sup_con(views, ["a", "a", "b", "c"], temperature=1.0)
    # Only the two scans of class a are anchors; each sees its positive (similarity 1) and two others (0).
    assert loss.item() == pytest.approx(math.log(math.e + 2) - 1, rel=1e-6)


def test_sup_con_with_no_positive_at_all_says_so():
    with pytest.raises(ValueError, match="no anchor has a positive among 3 scans with 1 view"):
        sup_con(torch.eye(3)[:, None], torch.arange(3), temperature=0.1)


def test_sup_con_of_ties_is_the_logarithm_of_the_denominators_size():
    assert sup_con(torch.ones(4, 2, 3), temperature=0.01).item() == pytest.approx(math.log(7), rel=1e-5)


# What all three share

OBJECTIVES = {
    "info_nce": lambda both, t: info_nce(both[0], both[1], temperature=t),
    "info_nce with subjects": lambda both, t: info_nce(
        both[0], both[1], temperature=t, subject_ids=torch.arange(both.shape[1]) // 2
    ),
    "nt_xent": lambda both, t: nt_xent(both[0], both[1], temperature=t),
    "sup_con": lambda both, t: sup_con(both.transpose(0, 1), torch.arange(both.shape[1]) // 2, temperature=t),
}


@pytest.fixture(params=OBJECTIVES, ids=lambda name: name.replace(" ", "_"))
def objective(request):
    return OBJECTIVES[request.param]


@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_gradient_is_the_numerical_one(objective, temperature):
    both = pair(4, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(partial(objective, t=temperature), (both,))


@pytest.mark.parametrize("num_scans", [2, 3, 512])
@pytest.mark.parametrize("norm", [1e-25, 1.0, 1e25])
def test_loss_and_gradient_are_finite_at_temperature_one_hundredth_and_any_norm(objective, num_scans, norm):
    both = (pair(num_scans) * norm).requires_grad_()
    loss = objective(both, 0.01)
    loss.backward()
    assert loss.isfinite()
    assert both.grad is not None
    assert both.grad.isfinite().all()


def test_value_does_not_depend_on_the_norms(objective):
    both = pair()
    scale = torch.tensor([0.01, 1.0, 3.0, 50.0, 1e4, 1e6])[None, :, None]
    torch.testing.assert_close(objective(both * scale, 0.1), objective(both, 0.1), rtol=1e-4, atol=1e-5)


def test_zero_vectors_give_neither_nan_nor_infinite_gradients(objective):
    both = pair()
    both[:, 0] = 0
    both.requires_grad_()
    loss = objective(both, 0.01)
    loss.backward()
    assert loss.isfinite()
    assert both.grad is not None
    assert both.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_is_raised_to_float32_first(objective, dtype):
    both = pair().to(dtype).requires_grad_()
    loss = objective(both, 0.01)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, objective(both.float(), 0.01))
    loss.backward()
    assert both.grad is not None
    assert both.grad.dtype == dtype


def test_float64_stays_float64_and_the_answer_is_a_scalar_with_gradient(objective):
    loss = objective(pair(dtype=torch.float64).requires_grad_(), 0.1)
    assert loss.dtype == torch.float64
    assert loss.shape == ()
    assert loss.requires_grad


def test_autocast_changes_nothing(objective):
    both = pair()
    with torch.autocast("cpu", torch.bfloat16):
        inside = objective(both, 0.05)
    assert torch.equal(inside, objective(both, 0.05))


@pytest.mark.parametrize("temperature", [0.0, -0.07, math.nan])
def test_temperature_not_above_zero_is_refused_with_its_value(objective, temperature):
    with pytest.raises(ValueError, match=f"temperature is {temperature}"):
        objective(pair(), temperature)


@pytest.mark.parametrize("function", [info_nce, nt_xent])
def test_sides_of_different_shape_are_refused_with_both_shapes(function):
    with pytest.raises(ValueError, match=r"\(4, 3\) and second_BE \(5, 3\)"):
        function(torch.ones(4, 3), torch.ones(5, 3), temperature=0.1)
    with pytest.raises(ValueError, match=r"first_BE has shape \(4, 3, 1\)"):
        function(torch.ones(4, 3, 1), torch.ones(4, 3, 1), temperature=0.1)


def test_wrong_number_of_labels_or_subjects_is_refused():
    first, second = pair()
    with pytest.raises(ValueError, match=r"subject_ids has shape \(5,\); the batch needs \(6,\)"):
        info_nce(first, second, subject_ids=list("abcde"))
    with pytest.raises(ValueError, match=r"labels_B has shape \(6, 1\)"):
        sup_con(first[:, None], torch.zeros(6, 1), temperature=0.1)
    with pytest.raises(ValueError, match=r"views_BVE has shape \(6, 8\)"):
        sup_con(first, temperature=0.1)
