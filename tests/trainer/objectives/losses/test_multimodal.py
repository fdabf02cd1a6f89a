"""CMC and CSS against brute-force loops, MONAI, pytorch-metric-learning, sup_con on joined vectors, closed forms."""

import inspect
import math
from functools import partial

import pytest
import torch
from monai.losses import ContrastiveLoss
from torch.nn.functional import normalize

from trainer.objectives.losses import cross_modality, cross_subject, sup_con

LABELS = torch.tensor([0, 0, 1, 1, 2])
PRESENT = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [1, 1, 0], [1, 1, 1]], dtype=torch.bool)


def batch(num_subjects=5, num_modalities=3, width=4, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_subjects, num_modalities, width, generator=generator, dtype=dtype)


def unit(row):
    norm = math.sqrt(sum(x * x for x in row))
    return [x / norm for x in row]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def cross_modality_by_loops(modalities, present, temperature):
    rows = {
        (s, m): unit(modalities[s][m].tolist())
        for s in range(modalities.shape[0])
        for m in range(modalities.shape[1])
        if present[s][m]
    }
    losses = []
    for (s, m), anchor in rows.items():
        p = sum(math.exp(dot(anchor, z) / temperature) for (t, n), z in rows.items() if t == s and n != m)
        q = sum(math.exp(dot(anchor, z) / temperature) for (t, _), z in rows.items() if t != s)
        if p > 0:
            losses.append(-math.log(p / (p + q)))
    return sum(losses) / len(losses)


def cross_subject_by_loops(modalities, labels, present, temperature):
    joined = []
    for subject, has in zip(modalities.tolist(), present.tolist(), strict=True):
        joined.append(unit([x for row, h in zip(subject, has, strict=True) for x in (unit(row) if h else [0.0] * 4)]))
    losses = []
    for i, anchor in enumerate(joined):
        others = [k for k in range(len(joined)) if k != i]
        positives = [k for k in others if labels[k] == labels[i]]
        if positives:
            log_sum = math.log(sum(math.exp(dot(anchor, joined[k]) / temperature) for k in others))
            losses.append(log_sum - sum(dot(anchor, joined[p]) for p in positives) / len(positives) / temperature)
    return sum(losses) / len(losses)


# Between modalities


@pytest.mark.parametrize("present", [torch.ones(5, 3, dtype=torch.bool), PRESENT], ids=["all", "some"])
@pytest.mark.parametrize("temperature", [0.05, 0.7])
def test_cross_modality_is_that_of_brute_force_loops(present, temperature):
    modalities = batch(dtype=torch.float64)
    loss = cross_modality(modalities, present, temperature=temperature)
    assert loss.item() == pytest.approx(cross_modality_by_loops(modalities, present, temperature), abs=1e-11)


@pytest.mark.parametrize("temperature", [0.05, 0.7])
def test_cross_modality_of_two_modalities_is_nt_xent(temperature):
    modalities = batch(6, 2)
    expected = ContrastiveLoss(temperature=temperature)(modalities[:, 0], modalities[:, 1])
    torch.testing.assert_close(cross_modality(modalities, temperature=temperature), expected, rtol=1e-5, atol=1e-5)


def test_cross_modality_sums_over_positives_inside_the_logarithm():
    # Anchor (0, 0) has one perfect and one orthogonal positive; -log of their sum stays below the mean of the logs.
    modalities = torch.tensor([[[1.0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]], [[0, 0, 1.0], [0, 0, 1.0], [0, 0, 1.0]]])
    e = math.e
    twin, lone, other = -math.log((e + 1) / (e + 4)), -math.log(2 / 5), -math.log(2 * e / (2 * e + 3))
    loss = cross_modality(modalities, temperature=1.0)
    assert loss.item() == pytest.approx((2 * twin + lone + 3 * other) / 6, rel=1e-6)


def test_cross_modality_divides_by_the_temperature_once_and_counts_all_other_subjects_modalities():
    num_subjects, num_modalities, temperature = 4, 3, 0.3
    modalities = torch.eye(num_subjects)[:, None].expand(-1, num_modalities, -1)
    negatives, positives = (num_subjects - 1) * num_modalities, num_modalities - 1
    expected = math.log1p(negatives / positives * math.exp(-1 / temperature))
    assert cross_modality(modalities, temperature=temperature).item() == pytest.approx(expected, rel=1e-5)


def test_lone_modality_is_no_anchor_and_still_a_negative():
    modalities, lone = batch(3, 2), torch.tensor([[1, 1], [1, 1], [1, 0]], dtype=torch.bool)
    without_it = cross_modality(modalities[:2])
    assert cross_modality(modalities, lone) > without_it
    assert cross_modality(modalities, lone).item() == pytest.approx(
        cross_modality_by_loops(modalities, lone, 0.7), rel=1e-5
    )


@pytest.mark.parametrize(
    ("num_modalities", "present"), [(1, None), (2, torch.eye(2, dtype=torch.bool)), (2, torch.zeros(2, 2))]
)
def test_batch_without_two_modalities_of_a_subject_is_refused(num_modalities, present):
    with pytest.raises(ValueError, match="none of the 2 subjects has two present modalities"):
        cross_modality(batch(2, num_modalities), present)


def test_single_subject_has_nobody_to_be_told_from_and_costs_nothing():
    modalities = batch(1).requires_grad_()
    loss = cross_modality(modalities)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert modalities.grad is not None
    assert modalities.grad.abs().max() < 1e-6


# Between subjects


@pytest.mark.parametrize("present", [torch.ones(5, 3, dtype=torch.bool), PRESENT], ids=["all", "some"])
@pytest.mark.parametrize("temperature", [0.05, 0.7])
def test_cross_subject_is_that_of_brute_force_loops(present, temperature):
    modalities = batch(dtype=torch.float64)
    loss = cross_subject(modalities, LABELS, present, temperature=temperature)
    expected = cross_subject_by_loops(modalities, LABELS, present, temperature)
    assert loss.item() == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("temperature", [0.05, 0.7])
def test_cross_subject_is_sup_con_on_the_joined_modalities(temperature):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    modalities = batch()
    joined = normalize(modalities, dim=2).flatten(1)
    loss = cross_subject(modalities, LABELS, temperature=temperature)
    expected = losses.SupConLoss(temperature)(joined, LABELS)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loss, sup_con(joined[:, None], LABELS, temperature=temperature), rtol=1e-5, atol=1e-5)


def test_no_modality_outweighs_the_others_by_its_norm():
    modalities = batch()
    scale = torch.tensor([1e-3, 1.0, 1e4])[None, :, None]
    torch.testing.assert_close(cross_subject(modalities * scale, LABELS), cross_subject(modalities, LABELS))


def test_subject_without_any_modality_leaves_the_batch():
    modalities, present = batch(), PRESENT.clone()
    present[0] = False
    kept = cross_subject(modalities[1:], LABELS[1:], present[1:])
    torch.testing.assert_close(cross_subject(modalities, LABELS, present), kept)


def test_classes_may_be_strings_or_numbers():
    names = [f"class-{label}" for label in LABELS.tolist()]
    assert torch.equal(cross_subject(batch(), names, PRESENT), cross_subject(batch(), LABELS, PRESENT))


@pytest.mark.parametrize(
    ("labels", "present"),
    [([0, 1, 2], None), ([0, 0, 1], torch.tensor([[1, 1], [0, 0], [1, 1]]))],
    ids=["distinct", "second of the class is empty"],
)
def test_batch_without_two_usable_subjects_of_a_class_is_refused(labels, present):
    with pytest.raises(ValueError, match="no two of the 3 subjects share a class"):
        cross_subject(batch(3, 2), labels, present)


def test_one_subject_alone_has_no_partner():
    with pytest.raises(ValueError, match="no two of the 1 subjects"):
        cross_subject(batch(1), [0])


# What both share

OBJECTIVES = {
    "cross_modality": lambda z, present=None, **kw: cross_modality(z, present, **kw),
    "cross_subject": lambda z, present=None, **kw: cross_subject(z, torch.arange(len(z)) // 2, present, **kw),
}


@pytest.fixture(params=OBJECTIVES)
def objective(request):
    return OBJECTIVES[request.param]


def test_default_temperature_is_that_of_the_paper(objective):
    assert torch.equal(objective(batch()), objective(batch(), temperature=0.7))
    defaults = [inspect.signature(f).parameters["temperature"].default for f in (cross_modality, cross_subject)]
    assert defaults == [0.7, 0.7]


@pytest.mark.parametrize("present", [None, PRESENT], ids=["all", "some"])
def test_gradient_is_the_numerical_one(objective, present):
    modalities = batch(dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(partial(objective, present=present, temperature=0.3), (modalities,))


@pytest.mark.parametrize("content", [0.0, 1e30, math.inf, math.nan])
def test_missing_modality_is_never_read_and_gets_no_gradient(objective, content):
    modalities = batch()
    expected = objective(modalities, PRESENT)
    modalities[~PRESENT] = content
    modalities.requires_grad_()
    loss = objective(modalities, PRESENT)
    loss.backward()
    assert torch.equal(loss, expected)
    assert modalities.grad is not None
    assert modalities.grad.isfinite().all()
    assert not modalities.grad[~PRESENT].any()
    assert modalities.grad[PRESENT].any()


@pytest.mark.parametrize("num_subjects", [2, 512])
@pytest.mark.parametrize("norm", [0.0, 1e-25, 1.0, 1e25])
def test_loss_and_gradient_are_finite_at_temperature_one_hundredth_and_any_norm(objective, num_subjects, norm):
    modalities = batch(num_subjects)
    modalities[0] *= norm
    modalities[1] = modalities[0]
    modalities.requires_grad_()
    loss = objective(modalities, temperature=0.01)
    loss.backward()
    assert loss.isfinite()
    assert modalities.grad is not None
    assert modalities.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_and_autocast_are_raised_to_float32(objective, dtype):
    modalities = batch().to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(modalities, PRESENT, temperature=0.05)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, objective(modalities.float(), PRESENT, temperature=0.05))
    loss.backward()
    assert modalities.grad is not None
    assert modalities.grad.isfinite().all()


def test_wrong_shapes_and_settings_are_refused(objective):
    with pytest.raises(ValueError, match=r"modalities_BME has shape \(3, 4\)"):
        objective(torch.ones(3, 4))
    with pytest.raises(ValueError, match=r"present_BM has shape \(3, 5\); the batch needs \(5, 3\)"):
        objective(batch(), PRESENT.T)
    with pytest.raises(ValueError, match="temperature is 0"):
        objective(batch(), temperature=0.0)


def test_wrong_number_of_classes_is_refused():
    with pytest.raises(ValueError, match=r"labels_B has shape \(4,\); the batch needs \(5,\)"):
        cross_subject(batch(), LABELS[:4])
