"""SupReMix against loops that do build the mixtures, MONAI, pytorch-metric-learning, and limits of memory."""

import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from monai.losses import ContrastiveLoss
from torch.nn.functional import normalize

from trainer.objectives.losses import sup_con, supremix
from trainer.objectives.losses.supremix import _draw_mix_weights, _KnownGradient, _mix_positives

PLAIN = {"mix_positives": False, "mix_negatives": False, "magnify": False}
SWITCHES = [
    {"mix_positives": positives, "mix_negatives": negatives, "magnify": magnify}
    for positives in (False, True)
    for negatives in (False, True)
    for magnify in (False, True)
]
LABELS = torch.tensor([4.0, 1.0, 4.0, 2.5, 6.0])


def batch(num_scans=5, num_views=2, width=4, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_scans, num_views, width, generator=generator, dtype=dtype)


def shares(num_rows, seed=1):
    return torch.rand(num_rows, num_rows, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def supremix_by_loops(views, labels, share, *, temperature, window, mix_positives, mix_negatives, magnify):
    """Build every mixture, detached; works on tensors, so that its gradient is an oracle too."""
    z = normalize(views.flatten(0, 1), dim=1)
    y = [label for label in labels.tolist() for _ in range(views.shape[1])]
    everyone = range(len(y))
    losses = []
    for i in everyone:
        terms, positives = [], []  # (similarity / temperature, label)
        for a in everyone:
            if a != i:
                terms.append((z[i] @ z[a] / temperature, y[a]))
                if y[a] == y[i]:
                    positives.append(terms[-1][0])
        if mix_negatives:
            for k in everyone:
                if y[k] != y[i]:
                    lam = share[i, k].item()
                    mixture = (lam * z[i] + (1 - lam) * z[k]).detach()
                    terms.append((z[i] @ mixture / temperature, lam * y[i] + (1 - lam) * y[k]))
        if mix_positives:
            for j in everyone:
                for k in everyone:
                    if y[j] < y[i] < y[k] and y[i] - y[j] < window and y[k] - y[i] < window:
                        alpha = (y[k] - y[i]) / (y[k] - y[j])
                        mixture = (alpha * z[j] + (1 - alpha) * z[k]).detach()
                        terms.append((z[i] @ mixture / temperature, y[i]))
                        positives.append(terms[-1][0])
        if positives:
            weights = [abs(y[i] - label) + 1 if magnify else 1 for _, label in terms]
            log_sum = sum(w * s.exp() for w, (s, _) in zip(weights, terms, strict=True)).log()
            losses.append(log_sum - sum(positives) / len(positives))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("switches", SWITCHES, ids=lambda s: "-".join(k for k, v in s.items() if v) or "plain")
@pytest.mark.parametrize(("num_views", "window"), [(2, 2.0), (2, 1.5), (1, 100.0), (3, 3.5)])
def test_supremix_is_that_of_brute_force_loops_in_value_and_gradient(switches, num_views, window):
    views, again = (batch(5, num_views, dtype=torch.float64).requires_grad_() for _ in range(2))
    share = shares(5 * num_views)
    settings = {"temperature": 0.2, "window": window, **switches}
    loss = supremix(views, LABELS, mix_weight_NN=share, **settings)
    expected = supremix_by_loops(again, LABELS, share, **settings)
    torch.testing.assert_close(loss, expected, rtol=1e-11, atol=1e-12)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(views.grad, again.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_without_mixtures_and_magnification_it_is_sup_con_on_equal_labels(temperature):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    views = batch()
    loss = supremix(views, LABELS, temperature=temperature, window=2.0, **PLAIN)
    torch.testing.assert_close(loss, sup_con(views, LABELS, temperature=temperature), rtol=1e-5, atol=1e-5)
    expected = losses.SupConLoss(temperature)(views.flatten(0, 1), LABELS.repeat_interleave(2))
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)


def test_without_mixtures_and_with_distinct_labels_it_is_nt_xent():
    views = batch()
    loss = supremix(views, torch.arange(5), temperature=0.1, window=2.0, **PLAIN)
    expected = ContrastiveLoss(temperature=0.1)(views[:, 0], views[:, 1])
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)


def test_weights_of_collapsed_features_count_label_gaps_plus_one():
    # Labels 0 and 3, two views each: for every anchor one positive of weight 1 and two views of weight 4.
    settings = {"temperature": 0.01, "window": 5.0, "mix_positives": False}
    loss = supremix(torch.ones(2, 2, 3), torch.tensor([0, 3]), mix_negatives=False, **settings)
    assert loss.item() == pytest.approx(math.log(1 + 2 * 4), rel=1e-5)
    # With an anchor's share of 1/3 each of the two mix-neg lies at a gap of 2 and weighs 3.
    third = torch.full((4, 4), 1 / 3)
    loss = supremix(torch.ones(2, 2, 3), torch.tensor([0, 3]), mix_weight_NN=third, **settings)
    assert loss.item() == pytest.approx(math.log(1 + 2 * 4 + 2 * 3), rel=1e-5)


def test_anchor_without_equal_label_has_the_mixtures_around_it_as_positives():
    # Labels 0, 1, 2: only the middle scan lies between others. Its mix-pos is half of each, similarity s/2 + s'/2.
    views = torch.eye(3)[:, None].clone()
    views[1, 0] = torch.tensor([0.6, 0.0, 0.8])
    loss = supremix(views, torch.tensor([0, 1, 2]), temperature=1.0, window=1.5, mix_negatives=False, magnify=False)
    expected = math.log(math.exp(0.6) + math.exp(0.8) + math.exp(0.7)) - 0.7
    assert loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 2, 3], [0, 1, 3]], ids=["both sides", "below", "above"])
def test_view_at_the_window_takes_no_part(labels):
    views, labels, window = batch(3, 1), torch.tensor(labels), float(max(labels[1], labels[2] - labels[1]))
    with pytest.raises(ValueError, match=rf"no anchor has a positive among 3 scans .* window \(now {window:g}\)"):
        supremix(views, labels, temperature=0.1, window=window)
    assert supremix(views, labels, temperature=0.1, window=window + 0.001).isfinite()


def test_zero_embedding_mixes_as_the_zero_vector():
    views, share = batch(dtype=torch.float64), shares(10)
    views[1, 0] = 0
    settings = {"temperature": 0.2, "window": 4.0, **SWITCHES[-1]}
    loss = supremix(views, LABELS, mix_weight_NN=share, **settings)
    torch.testing.assert_close(loss, supremix_by_loops(views, LABELS, share, **settings), rtol=1e-11, atol=1e-12)


def test_batch_without_positives_is_refused():
    with pytest.raises(ValueError, match="no anchor has a positive among 1 scans with 1 view"):
        supremix(batch(1, 1), LABELS[:1], temperature=0.1, window=2.0)
    with pytest.raises(ValueError, match="no anchor has a positive among 5 scans"):
        supremix(batch(5, 1), torch.arange(5), temperature=0.1, window=9.0, mix_positives=False)


def test_mixtures_are_constants_so_that_views_used_in_mixtures_alone_get_no_gradient():
    # Without views of its label the middle anchor sees scans 0 and 2 as views too; their gradient comes from there.
    views, again = (batch(3, 1, dtype=torch.float64).requires_grad_() for _ in range(2))
    labels, settings = torch.tensor([0, 1, 2]), {"temperature": 0.3, "window": 1.5, "mix_negatives": False}
    supremix(views, labels, **settings).backward()
    z = normalize(again.flatten(0, 1), dim=1)
    mixed = z[1] @ (0.5 * z[0] + 0.5 * z[2]).detach()
    logits = torch.stack((z[1] @ z[0] / 0.3 + math.log(2), z[1] @ z[2] / 0.3 + math.log(2), mixed / 0.3))
    (logits.logsumexp(0) - mixed / 0.3).backward()
    torch.testing.assert_close(views.grad, again.grad, rtol=1e-10, atol=1e-12)


# Mix weights


def test_drawn_mix_weights_follow_beta_2_8():
    scipy_stats = pytest.importorskip("scipy.stats")
    drawn = _draw_mix_weights(200, generator=torch.Generator().manual_seed(5))
    assert scipy_stats.kstest(drawn.flatten().double().numpy(), scipy_stats.beta(2, 8).cdf).pvalue > 1e-3
    assert drawn.mean().item() == pytest.approx(0.2, abs=5e-3)


def test_generator_decides_the_mix_weights():
    def loss(seed):
        generator = torch.Generator().manual_seed(seed)
        return supremix(batch(), LABELS, temperature=0.1, window=2.0, generator=generator)

    given = _draw_mix_weights(10, generator=torch.Generator().manual_seed(3))
    assert torch.equal(loss(3), loss(3))
    assert torch.equal(loss(3), supremix(batch(), LABELS, temperature=0.1, window=2.0, mix_weight_NN=given))
    assert not torch.equal(loss(3), loss(4))


def test_global_seed_decides_without_a_generator():
    losses = []
    for _ in range(2):
        torch.manual_seed(11)
        losses.append(supremix(batch(), LABELS, temperature=0.1, window=2.0))
    assert torch.equal(*losses)


def test_nothing_is_drawn_without_mixed_negatives():
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    supremix(batch(), LABELS, temperature=0.1, window=2.0, generator=generator, mix_negatives=False)
    assert torch.equal(generator.get_state(), before)


# Precision, edges and memory


@pytest.mark.parametrize("mix_positives", [False, True])
def test_gradient_without_constant_mixtures_is_the_numerical_one(mix_positives):
    if mix_positives:  # the mixed logits as variables of their own: the derivative found in the forward pass
        labels = LABELS.double()
        logits = (batch(5, 1, 5, dtype=torch.float64)[:, 0] * 3).requires_grad_()

        def objective(logits_NN):
            mixed = _mix_positives(logits_NN.detach(), labels, 4.0)
            return _KnownGradient.apply(logits_NN, mixed.log_sum_N, mixed.gradient_NN)[mixed.count_N > 0]

        assert torch.autograd.gradcheck(objective, (logits,))
    else:
        objective = partial(
            supremix, labels_B=LABELS, temperature=0.2, window=2.0, mix_negatives=False, mix_positives=False
        )
        assert torch.autograd.gradcheck(objective, (batch(dtype=torch.float64).requires_grad_(),))


def test_pulls_and_derivatives_of_the_mixtures_add_up():
    labels = LABELS.repeat_interleave(2)
    logits = batch(10, 1, 10)[:, 0]
    mixed = _mix_positives(logits, labels, 4.0)
    torch.testing.assert_close(mixed.pull_NN.sum(dim=1), mixed.count_N.float())
    torch.testing.assert_close(mixed.gradient_NN.sum(dim=1), (mixed.count_N > 0).float())
    assert (mixed.log_sum_N.isfinite() == (mixed.count_N > 0)).all()


def test_anchors_taken_in_chunks_give_the_same_loss(monkeypatch):
    views, again = (batch().requires_grad_() for _ in range(2))
    settings = {"temperature": 0.1, "window": 4.0, "mix_weight_NN": shares(10)}
    whole = supremix(views, LABELS, **settings)
    monkeypatch.setattr(sys.modules["trainer.objectives.losses.supremix"], "CHUNK_ELEMENTS", 1)
    chunked = supremix(again, LABELS, **settings)
    torch.testing.assert_close(chunked, whole)
    whole.backward()
    chunked.backward()
    torch.testing.assert_close(again.grad, views.grad)


@pytest.mark.parametrize("num_scans", [2, 3, 256])
@pytest.mark.parametrize("norm", [0.0, 1e-25, 1.0, 1e25])
def test_loss_and_gradient_are_finite_at_temperature_one_hundredth_and_any_norm(num_scans, norm):
    views = batch(num_scans)
    views[0] *= norm
    views[1, 0] = views[1, 1]
    views.requires_grad_()
    loss = supremix(views, torch.arange(num_scans) % 60, temperature=0.01, window=5.0)
    loss.backward()
    assert loss.isfinite()
    assert views.grad is not None
    assert views.grad.isfinite().all()


def test_float32_comes_close_to_float64_at_temperature_one_hundredth():
    views, labels, share = batch(32, dtype=torch.float64), torch.arange(32), shares(64)
    settings = {"temperature": 0.01, "window": 20.0, "mix_weight_NN": share}
    exact, single = supremix(views, labels, **settings), supremix(views.float(), labels, **settings)
    assert exact.dtype == torch.float64
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_and_autocast_are_raised_to_float32(dtype):
    views, share = batch().to(dtype).requires_grad_(), shares(10)
    with torch.autocast("cpu", torch.bfloat16):
        loss = supremix(views, LABELS, temperature=0.05, window=4.0, mix_weight_NN=share)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, supremix(views.float(), LABELS, temperature=0.05, window=4.0, mix_weight_NN=share))
    loss.backward()
    assert views.grad is not None
    assert views.grad.dtype == dtype
    assert views.grad.isfinite().all()


@pytest.mark.parametrize("num_scans", [64, 128])
def test_what_is_kept_for_the_backward_pass_grows_with_the_square(num_scans):
    kept = []

    def note(tensor):
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        supremix(batch(num_scans).requires_grad_(), torch.arange(num_scans), temperature=0.1, window=1000.0)
    num_rows = 2 * num_scans
    assert max(kept) <= num_rows * (2 * num_rows + 1)
    assert sum(kept) <= 32 * num_rows**2


PEAK_OF_A_STEP = """
import pathlib, torch
from trainer.objectives.losses import supremix

def peak_bytes():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024

def step(num_scans):
    views = torch.randn(num_scans, 2, 128, requires_grad=True)
    supremix(views, torch.arange(num_scans) // {alike}, temperature=0.1, window=1000.0).backward()
    assert views.grad.isfinite().all()

step(4)
before = peak_bytes()
step(256)
print(peak_bytes() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("alike", [1, 8])
def test_a_step_on_256_scans_with_two_views_takes_well_below_one_gibibyte(alike):
    answer = subprocess.run(
        [sys.executable, "-c", PEAK_OF_A_STEP.format(alike=alike)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert int(answer.stdout) < 256 * 2**20


# Refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": 0.0}, "temperature is 0.0"),
        ({"window": -1.0}, "window is -1.0"),
        ({"labels_B": LABELS[:4]}, r"labels_B has shape \(4,\); the batch needs \(5,\)"),
        ({"labels_B": LABELS[:, None]}, r"labels_B has shape \(5, 1\)"),
        ({"labels_B": LABELS.where(LABELS < 5, math.nan)}, "labels_B holds 1 values that are not finite"),
        ({"views_BVE": torch.ones(5, 4)}, r"views_BVE has shape \(5, 4\)"),
        ({"mix_weight_NN": torch.rand(5, 5)}, r"mix_weight_NN has shape \(5, 5\); the 10 views need \(10, 10\)"),
        ({"mix_weight_NN": torch.full((10, 10), 1.5)}, r"outside \[0, 1\]"),
        ({"mix_weight_NN": torch.full((10, 10), math.nan)}, "or NaN"),
    ],
)
def test_wrong_shapes_labels_and_settings_are_refused(change, message):
    arguments = {"views_BVE": batch(), "labels_B": LABELS, "temperature": 0.1, "window": 2.0, **change}
    with pytest.raises(ValueError, match=message):
        supremix(**arguments)
