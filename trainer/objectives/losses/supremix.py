"""SupReMix: contrast for regression, with mixtures of embeddings as hard negatives and as hard positives.

Mixtures live at the level of unit embeddings, are not brought back to unit length and are constants: the gradient of
a term with a mixture goes through the anchor alone. As mixing is linear, cos-similarity to a mixture is the mixture of
similarities, s(i, a z_j + (1 - a) z_k) = a s_ij + (1 - a) s_ik, so that none is ever built.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from trainer.objectives.losses.similarity import (
    at_least_float32,
    full_precision,
    require_features,
    require_positive,
    unit_rows,
)

MIX_NEGATIVE_BETA = (2, 8)
"""lam ~ Beta(2, 8) is the anchor's share in a mix-neg, 0.2 on average; from the paper."""

CHUNK_ELEMENTS = 2**21
"""Anchor-by-pair similarities alive at a time, 8 MB in float32; pairs of one anchor, (N/2)^2 at most, stay together."""


def supremix(
    views_BVE: torch.Tensor,
    labels_B: torch.Tensor,
    *,
    temperature: float,
    window: float,
    generator: torch.Generator | None = None,
    mix_weight_NN: torch.Tensor | None = None,
    mix_positives: bool = True,
    mix_negatives: bool = True,
    magnify: bool = True,
) -> torch.Tensor:
    """Supervised contrast for regression with mixup.

    Over the N = B * V views, view v of scan b being row b * V + v:
    L = mean_i [ log sum_a w_ia exp(s_ia / temperature) - mean_{p in P(i)} s_ip / temperature ].

    * P(i): the other views with an equal label, and every mix-pos.
    * Denominator: all other N - 1 views, every mix-neg and every mix-pos of the anchor; positives are in it.
    * mix-neg, one for every k with y_k != y_i: lam z_i + (1 - lam) z_k, label lam y_i + (1 - lam) y_k.
    * mix-pos, one for every pair y_j < y_i < y_k with both gaps below `window`: a z_j + (1 - a) z_k with
      a = (y_k - y_i) / (y_k - y_j), so that its label is y_i.
    * w = |y_i - y| + 1, y the label of the view or mixture; 1 for positives of both kinds.

    Anchors without a positive are left out of the mean over i, yet stay in the denominators of the others. log w is
    added to the logit. The time grows as N^3 for wide windows, the memory as N^2.

    Args:
        views_BVE: V raw views of each of B scans, shape (B, V, E).
        labels_B: label of each scan, shape (B,), finite; bin continuous targets first, as equal labels make positives.
        temperature: divisor of the similarities, above 0.
        window: gap of labels, in their unit, at and beyond which a view takes no part in a mix-pos, above 0.
        generator: where lam is drawn from; None takes torch's own, which a step lends. The draws depend on N alone.
        mix_weight_NN: lam for anchor i and view k, shape (N, N), in [0, 1]; None draws Beta(2, 8).
        mix_positives: whether mix-pos take part.
        mix_negatives: whether mix-neg take part.
        magnify: whether w grows with the gap of labels; false sets all w to 1.

    Returns:
        Scalar, float32 (float64 for float64 input), in nats. It can be differentiated once.

    Raises:
        ValueError: wrong shapes, a label that is not finite, a setting outside its limits, or no anchor with a
            positive.
    """
    require_features(views_BVE, name="views_BVE", axes="BVE")
    require_positive(temperature, name="temperature")
    require_positive(window, name="window")
    num_scans, num_views, _ = views_BVE.shape
    device = views_BVE.device
    _require_labels(labels_B, num_scans=num_scans)
    if mix_weight_NN is not None:
        _require_mix_weights(mix_weight_NN, num_rows=num_scans * num_views)

    with full_precision(views_BVE):
        units_NE = unit_rows(views_BVE).flatten(0, 1)
        dtype, num_rows = units_NE.dtype, len(units_NE)
        labels_N = at_least_float32(labels_B).to(device).repeat_interleave(num_views)
        labels_N = labels_N.to(torch.promote_types(labels_N.dtype, dtype))
        gap_NN = (labels_N[:, None] - labels_N[None, :]).abs()
        equal_NN = gap_NN == 0
        gap_NN = gap_NN.to(dtype)
        itself_NN = torch.eye(num_rows, dtype=torch.bool, device=device)

        logits_NN = units_NE @ units_NE.T / temperature
        constant_NN = units_NE @ units_NE.detach().T / temperature  # row i: anchor i against views without gradient
        pull_NN = logits_NN * (equal_NN & ~itself_NN)
        num_positives_N = equal_NN.sum(dim=1) - 1
        weighted_NN = logits_NN + gap_NN.log1p() if magnify else logits_NN
        denominator = [weighted_NN.masked_fill(itself_NN, -math.inf)]

        if mix_negatives:
            if mix_weight_NN is None:
                mix_weight_NN = _draw_mix_weights(num_rows, generator=generator)
            share_NN = mix_weight_NN.detach().to(device=device, dtype=dtype)
            mixed_NN = torch.lerp(constant_NN, constant_NN.diagonal()[:, None], share_NN)
            if magnify:
                mixed_NN = mixed_NN + ((1 - share_NN) * gap_NN).log1p()
            denominator.append(mixed_NN.masked_fill(equal_NN, -math.inf))
        if mix_positives:
            mixed = _mix_positives(constant_NN.detach(), labels_N, window)
            pull_NN = pull_NN + constant_NN * mixed.pull_NN
            num_positives_N = num_positives_N + mixed.count_N
            log_sum_N: torch.Tensor = _KnownGradient.apply(  # type: ignore[no-untyped-call]
                constant_NN, mixed.log_sum_N, mixed.gradient_NN
            )
            denominator.append(log_sum_N[:, None])

        anchors_N = num_positives_N > 0
        if not bool(anchors_N.any()):
            raise ValueError(
                f"no anchor has a positive among {num_scans} scans with {num_views} view(s) each; give two views of "
                f"a scan, bin the labels, or raise window (now {window:g}) so that labels on both sides lie within it"
            )
        attraction_N = pull_NN.sum(dim=1) / num_positives_N.clamp(min=1)
        log_denominator_A = torch.cat(denominator, dim=1)[anchors_N].logsumexp(dim=1)
        return (log_denominator_A - attraction_N[anchors_N]).mean()


@dataclass(frozen=True, slots=True)
class _MixPositives:
    """What the mix-pos of every anchor add up to; all constants.

    Attributes:
        count_N: how many the anchor has.
        pull_NN: how often view j enters them, counted by its share; the rows sum to `count_N`.
        log_sum_N: log of their summed exponentials, -inf where there is none.
        gradient_NN: derivative of `log_sum_N[i]` by the logit of view j.
    """

    count_N: torch.Tensor
    pull_NN: torch.Tensor
    log_sum_N: torch.Tensor
    gradient_NN: torch.Tensor


def _mix_positives(logits_NN: torch.Tensor, labels_N: torch.Tensor, window: float) -> _MixPositives:
    """Go through the pairs around each anchor, a few anchors at a time, and keep sums and derivatives only.

    The derivative of a log-sum-exp by the N logits of its anchor is found in the same pass, so that nothing of size
    N^3 has to be kept for, or built again in, the backward pass.
    """
    num_rows = len(labels_N)
    count_N = torch.zeros(num_rows, dtype=torch.long, device=labels_N.device)
    pull_NN, gradient_NN = torch.zeros_like(logits_NN), torch.zeros_like(logits_NN)
    log_sum_N = torch.full_like(logits_NN[:, 0], -math.inf)
    for label in torch.unique(labels_N):
        above_N = labels_N - label
        lower_J = ((above_N < 0) & (-above_N < window)).nonzero()[:, 0]
        upper_K = ((above_N > 0) & (above_N < window)).nonzero()[:, 0]
        num_pairs = len(lower_J) * len(upper_K)
        if num_pairs == 0:
            continue
        alike_A = (above_N == 0).nonzero()[:, 0]  # anchors of one label have the same pairs and shares
        share_JK = above_N[upper_K] / (above_N[upper_K] - above_N[lower_J][:, None])
        share_JK = share_JK.to(logits_NN.dtype)
        count_N[alike_A] = num_pairs
        pull_NN[alike_A[:, None], lower_J] = share_JK.sum(dim=1)
        pull_NN[alike_A[:, None], upper_K] = (1 - share_JK).sum(dim=0)
        for anchors_C in alike_A.split(max(1, CHUNK_ELEMENTS // num_pairs)):
            lower_CJ, upper_CK = logits_NN[anchors_C[:, None], lower_J], logits_NN[anchors_C[:, None], upper_K]
            mixed_CJK = torch.lerp(upper_CK[:, None, :], lower_CJ[:, :, None], share_JK)
            log_sum_C = mixed_CJK.flatten(1).logsumexp(dim=1)
            part_CJK = mixed_CJK.sub_(log_sum_C[:, None, None]).exp_()
            part_CK = part_CJK.sum(dim=1)
            part_CJK.mul_(share_JK)
            log_sum_N[anchors_C] = log_sum_C
            gradient_NN[anchors_C[:, None], lower_J] = part_CJK.sum(dim=2)
            gradient_NN[anchors_C[:, None], upper_K] = part_CK - part_CJK.sum(dim=1)
    return _MixPositives(count_N, pull_NN, log_sum_N, gradient_NN)


class _KnownGradient(torch.autograd.Function):
    """A value for each row of logits whose derivative by that row is known already."""

    @staticmethod
    def forward(ctx: Any, logits_NN: torch.Tensor, value_N: torch.Tensor, gradient_NN: torch.Tensor) -> torch.Tensor:
        """Hand the value on as a function of the logits."""
        ctx.save_for_backward(gradient_NN)
        return value_N.to(logits_NN.dtype, copy=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_N: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Scale each row of the known derivative."""
        (gradient_NN,) = ctx.saved_tensors
        return upstream_N[:, None] * gradient_NN, None, None


def _draw_mix_weights(num_rows: int, *, generator: torch.Generator | None) -> torch.Tensor:
    """Beta(2, 8) of shape (N, N), float32: with a and b whole, G_a / (G_a + G_b) for sums of a and b exponentials."""
    anchor_parts, other_parts = MIX_NEGATIVE_BETA
    device = torch.device("cpu") if generator is None else generator.device
    draws_PNN = torch.empty(anchor_parts + other_parts, num_rows, num_rows, device=device)
    draws_PNN.exponential_(generator=generator)
    return draws_PNN[:anchor_parts].sum(dim=0) / draws_PNN.sum(dim=0)


def _require_labels(labels_B: torch.Tensor, *, num_scans: int) -> None:
    if labels_B.shape != (num_scans,):
        raise ValueError(f"labels_B has shape {tuple(labels_B.shape)}; the batch needs ({num_scans},)")
    if not bool(labels_B.isfinite().all()):
        num_missing = int((~labels_B.isfinite()).sum())
        raise ValueError(f"labels_B holds {num_missing} values that are not finite; leave scans without a label out")


def _require_mix_weights(mix_weight_NN: torch.Tensor, *, num_rows: int) -> None:
    if mix_weight_NN.shape != (num_rows, num_rows):
        raise ValueError(
            f"mix_weight_NN has shape {tuple(mix_weight_NN.shape)}; the {num_rows} views need ({num_rows}, {num_rows})"
        )
    if not bool(((mix_weight_NN >= 0) & (mix_weight_NN <= 1)).all()):
        raise ValueError("mix_weight_NN holds values outside [0, 1] or NaN; a share of the anchor lies within")
