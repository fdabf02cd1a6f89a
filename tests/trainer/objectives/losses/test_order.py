"""Rank-N-Contrast and its chronological kin against loops written from the formulas, and closed forms."""

import inspect
import math
from functools import partial

import pytest
import torch

from trainer.objectives.losses import chrono_contrast, rank_n_contrast

LABELS = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6])
SUBJECTS = ["a", "a", "b", "a", "b", "b", "a", "c"]
DAYS = torch.tensor([0, 400, 30, 0, 30, 90, 800, 5])  # a: 0, 0, 400, 800; b: 30, 30, 90; c alone


def features(num_rows=8, width=3, seed=0, dtype=torch.float32):
    return torch.randn(num_rows, width, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def similarities(rows, temperature):
    return -(rows[:, None] - rows[None]).square().sum(-1).clamp(min=1e-300).sqrt() / temperature


def rank_n_by_loops(rows, labels, temperature):
    """Works on tensors, so that its gradient is an oracle too."""
    s, num_rows = similarities(rows, temperature), len(rows)
    losses = []
    for i in range(num_rows):
        for j in range(num_rows):
            if i != j:
                others = [
                    k for k in range(num_rows) if k != i and abs(labels[i] - labels[k]) >= abs(labels[i] - labels[j])
                ]
                losses.append(sum(s[i, k].exp() for k in others).log() - s[i, j])
    return sum(losses) / len(losses)


def chrono_by_loops(rows, order, subjects, temperature):
    s, everyone = similarities(rows, temperature), range(len(rows))
    total = rows.new_zeros(())
    for side in (1, -1):
        losses = []
        for i in everyone:
            for j in everyone:
                if i == j or subjects[i] != subjects[j] or side * (order[j] - order[i]) < 0:
                    continue
                farther = [k for k in everyone if subjects[k] == subjects[i] and side * (order[k] - order[j]) > 0]
                if farther:
                    losses.append(-(s[i, j].exp() / sum(s[i, k].exp() for k in [j, *farther])).log())
        if losses:
            total = total + sum(losses) / len(losses)
    return total


# Rank-N-Contrast


@pytest.mark.parametrize("temperature", [0.3, 2.0])
@pytest.mark.parametrize(
    "labels",
    [
        LABELS.tolist(),
        [0.5, 1.25, -3.0, 7.5, 0.125, 2.0, 2.0, 11.0],
        [4, 4, 4, 4, 4, 4, 4, 4],
        [0, 0, 0, 0, 1, 1, 1, 1],
    ],
    ids=["ties", "floats", "all alike", "two values"],
)
def test_rank_n_contrast_is_that_of_brute_force_loops_in_value_and_gradient(labels, temperature):
    rows, again = (features(dtype=torch.float64).requires_grad_() for _ in range(2))
    loss, expected = rank_n_contrast(rows, torch.tensor(labels), temperature=temperature), None
    expected = rank_n_by_loops(again, labels, temperature)
    torch.testing.assert_close(loss, expected, rtol=1e-11, atol=1e-12)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(rows.grad, again.grad, rtol=1e-9, atol=1e-12)


def test_rank_n_contrast_of_two_rows_has_nothing_to_rank():
    assert rank_n_contrast(features(2), torch.tensor([1.0, 2.0])).item() == 0


def test_rank_n_contrast_of_collapsed_features_is_the_mean_log_of_the_denominators_sizes():
    # Labels 0, 1, 3, 7 have distinct gaps for every anchor, so the denominators hold 3, 2 and 1 rows.
    rows = torch.ones(4, 5).requires_grad_()
    loss = rank_n_contrast(rows, torch.tensor([0, 1, 3, 7]))
    loss.backward()
    assert loss.item() == pytest.approx((math.log(3) + math.log(2)) / 3, rel=1e-6)
    assert rows.grad is not None
    assert not rows.grad.any()


def test_rank_n_contrast_is_lower_when_features_follow_the_labels():
    labels = LABELS.float()
    ordered = rank_n_contrast(labels[:, None] * 5, labels)
    assert ordered < rank_n_contrast(labels.flip(0)[:, None] * 5, labels)


def test_rank_n_contrast_depends_on_differences_of_labels_alone():
    rows = features()
    expected = rank_n_contrast(rows, LABELS)
    for labels in (LABELS + 2**40, -LABELS, LABELS * 3, LABELS.to(torch.uint8), LABELS.double()):
        assert torch.equal(rank_n_contrast(rows, labels), expected)


def test_a_single_row_has_no_pair():
    with pytest.raises(ValueError, match="1 row, which leaves no pair"):
        rank_n_contrast(features(1), LABELS[:1])


# Order of visits


@pytest.mark.parametrize("temperature", [0.3, 1.0])
@pytest.mark.parametrize(
    ("days", "subjects"),
    [
        (DAYS.tolist(), SUBJECTS),
        ([0, 1, 2, 3, 4, 5, 6, 7], ["a"] * 8),
        ([0, 0, 1, 1, 2, 2, 2, 0], ["a"] * 8),
        ([7, 3, 1, 9, 0, 4, 2, 8], list("abababab")),
        ([0, 0, 1, 5, 6, 9, 9, 9], list("aaabbccc")),
    ],
    ids=["mixed", "one subject", "many ties", "unsorted", "one-sided"],
)
def test_chrono_contrast_is_that_of_brute_force_loops_in_value_and_gradient(days, subjects, temperature):
    rows, again = (features(dtype=torch.float64).requires_grad_() for _ in range(2))
    loss = chrono_contrast(rows, torch.tensor(days), subjects, temperature=temperature)
    expected = chrono_by_loops(again, days, subjects, temperature)
    torch.testing.assert_close(loss, expected, rtol=1e-11, atol=1e-12)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(rows.grad, again.grad, rtol=1e-9, atol=1e-12)


def test_chrono_contrast_of_three_visits_is_the_closed_form():
    # Later: anchor 0, positive 1, farther 2. Earlier: anchor 2, positive 1, farther 0. Distances 1 and 3, 2 and 3.
    rows = torch.tensor([[0.0], [1.0], [3.0]])
    loss = chrono_contrast(rows, torch.tensor([10, 20, 30]), ["a"] * 3)
    assert loss.item() == pytest.approx(math.log1p(math.exp(1 - 3)) + math.log1p(math.exp(2 - 3)), rel=1e-6)


def test_a_tie_with_the_anchor_is_a_positive_on_both_sides():
    # Visits 0, 1, 1, 2. Later: (0; 1a), (0; 1b), (1a; 1b), (1b; 1a); (0; 2) and (1; 2) hold j alone. Earlier alike.
    rows = torch.ones(4, 2)
    loss = chrono_contrast(rows, torch.tensor([0, 1, 1, 2]), ["a"] * 4)
    assert loss.item() == pytest.approx(2 * math.log(2), rel=1e-6)  # every denominator holds j and one farther scan


def test_a_subject_with_a_repeat_and_one_follow_up_fills_the_later_branch_only():
    loss = chrono_contrast(torch.ones(3, 2), torch.tensor([0, 0, 1]), ["a"] * 3)
    assert loss.item() == pytest.approx(math.log(2), rel=1e-6)


def test_other_subjects_do_not_enter_and_gaps_in_days_do_not_count():
    rows, order = features(), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
    subjects = ["a"] * 4 + ["b"] * 4
    both = [chrono_contrast(rows[part], order[part], ["x"] * 4) for part in (slice(4), slice(4, 8))]
    expected = torch.stack(both).mean()  # as many pairs in each
    torch.testing.assert_close(chrono_contrast(rows, order, subjects), expected)
    torch.testing.assert_close(chrono_contrast(rows, order**3 * 100 - 7, subjects), expected)


def test_subjects_with_too_few_scans_or_days_change_nothing_and_alone_are_refused():
    rows = features()
    kept = [0, 1, 2, 3, 4, 5, 6]
    torch.testing.assert_close(
        chrono_contrast(rows, DAYS, SUBJECTS), chrono_contrast(rows[kept], DAYS[kept], SUBJECTS[:7])
    )
    for days, subjects in (([0, 1, 0, 1], list("aabb")), ([3, 3, 3, 3], list("aaaa")), ([0], ["a"])):
        with pytest.raises(ValueError, match="needs a subject with at least 3 scans on at least 2 days"):
            chrono_contrast(features(len(days)), torch.tensor(days), subjects)


# What both share

OBJECTIVES = {
    "rank_n_contrast": lambda rows, **kw: rank_n_contrast(rows, torch.arange(len(rows)) // 2, **kw),
    "chrono_contrast": lambda rows, **kw: chrono_contrast(
        rows, torch.arange(len(rows)) // 2, torch.arange(len(rows)) // 256, **kw
    ),
}


@pytest.fixture(params=OBJECTIVES)
def objective(request):
    return OBJECTIVES[request.param]


def test_default_temperatures_are_those_of_the_papers():
    assert inspect.signature(rank_n_contrast).parameters["temperature"].default == 2.0
    assert inspect.signature(chrono_contrast).parameters["temperature"].default == 1.0


def test_temperature_divides_the_distance_once(objective):
    torch.testing.assert_close(objective(features() * 4, temperature=2.0), objective(features(), temperature=0.5))


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_gradient_is_the_numerical_one(objective, temperature):
    rows = features(6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(partial(objective, temperature=temperature), (rows,))


@pytest.mark.parametrize("num_rows", [3, 8, 512])
@pytest.mark.parametrize("norm", [0.0, 1e-25, 1.0, 1e4, 1e25])
def test_loss_and_gradient_are_finite_at_temperature_one_hundredth_and_any_norm(objective, num_rows, norm):
    rows = features(num_rows) * norm
    rows[1] = rows[0]
    rows.requires_grad_()
    loss = objective(rows, temperature=0.01)
    loss.backward()
    assert loss.isfinite()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


def test_distances_between_near_rows_far_from_the_origin_keep_their_digits(objective):
    near = torch.randint(-8, 9, (64, 3), generator=torch.Generator().manual_seed(3)).float()  # exact after the shift
    torch.testing.assert_close(objective(near + 2**14), objective(near))


def test_float64_keeps_its_digits_and_float32_comes_close(objective):
    rows = features(64, dtype=torch.float64)
    loss = objective(rows)
    assert loss.dtype == torch.float64
    assert loss.shape == ()
    torch.testing.assert_close(objective(rows.float()).double(), loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_and_autocast_are_raised_to_float32(objective, dtype):
    rows = features().to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = objective(rows, temperature=0.05)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, objective(rows.float(), temperature=0.05))
    loss.backward()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


def test_nothing_of_cubic_size_is_kept_for_the_backward_pass(objective):
    sizes = []

    def note(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        objective(features(512).requires_grad_())
    assert max(sizes) <= 512 * 512


def test_wrong_shapes_and_settings_are_refused(objective):
    with pytest.raises(ValueError, match=r"features_NE has shape \(3, 4, 1\)"):
        objective(torch.ones(3, 4, 1))
    with pytest.raises(ValueError, match=r"temperature is -1\.0"):
        objective(features(), temperature=-1.0)


def test_labels_orders_and_subjects_of_another_number_are_refused():
    with pytest.raises(ValueError, match=r"labels_N has shape \(7,\); the batch needs \(8,\)"):
        rank_n_contrast(features(), LABELS[:7])
    with pytest.raises(ValueError, match=r"visit_order_N has shape \(8, 1\); the batch needs \(8,\)"):
        chrono_contrast(features(), DAYS[:, None], SUBJECTS)
    with pytest.raises(ValueError, match=r"subject_ids_N has shape \(7,\)"):
        chrono_contrast(features(), DAYS, SUBJECTS[:7])


def test_missing_labels_and_days_are_refused_and_counted():
    missing = DAYS.float()
    missing[:3] = math.nan
    with pytest.raises(ValueError, match="labels_N holds 3 values that are not finite"):
        rank_n_contrast(features(), missing)
    with pytest.raises(ValueError, match="visit_order_N holds 3 values that are not finite"):
        chrono_contrast(features(), missing, SUBJECTS)
