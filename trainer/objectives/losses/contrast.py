"""Contrast in a batch by softmax over cosine similarities: InfoNCE between visits, NT-Xent and SupCon between views.

Each takes raw embeddings (they are normalised here), works in float32 or above outside autocast, divides by the
temperature once and has no `base_temperature`. The denominators differ, and each function names its own.
"""

import math

import torch
from torch.nn.functional import cross_entropy

from trainer.objectives.losses.similarity import (
    GroupIds,
    cosine_similarity,
    full_precision,
    require_features,
    require_positive,
    same_group,
)


def info_nce(
    first_BE: torch.Tensor,
    second_BE: torch.Tensor,
    *,
    temperature: float = 0.07,
    subject_ids: GroupIds | None = None,
) -> torch.Tensor:
    """Longitudinal InfoNCE of ClinImCL: pick the other visit of the same subject among the visits of the batch.

    With logits = z1 z2^T / temperature and L2-normalised z: L = (CE(logits, arange B) + CE(logits^T, arange B)) / 2.
    Denominator: the positive and the B - 1 *other-side* scans of the batch; scans of the anchor's own side are not in
    it. With `subject_ids` the off-diagonal entries of the anchor's own subject leave it too, in both directions: they
    are false negatives. An anchor to whom no negative is left contributes the 0 that the formula gives.

    Args:
        first_BE: one scan of each pair, shape (B, E).
        second_BE: the other scan of each pair, shape (B, E).
        temperature: divisor of the cosine similarities, above 0.
        subject_ids: subject of each pair, B of them; None takes all pairs to be of different subjects.

    Returns:
        Scalar, float32 (float64 for float64 input), in nats; a model that has learned nothing stands at
        `info_nce_chance(B)`.

    Raises:
        ValueError: shapes that differ or are not (B, E), a temperature not above 0, or another number of subjects.
    """
    _require_alike(first_BE, second_BE)
    require_positive(temperature, name="temperature")
    with full_precision(first_BE):
        logits_BB = cosine_similarity(first_BE, second_BE) / temperature
        num_pairs = logits_BB.shape[0]
        if subject_ids is not None:
            same_BB = same_group(subject_ids, num_rows=num_pairs, name="subject_ids", device=logits_BB.device)
            same_BB.fill_diagonal_(False)
            logits_BB = logits_BB.masked_fill(same_BB, -math.inf)
        target_B = torch.arange(num_pairs, device=logits_BB.device)
        return (cross_entropy(logits_BB, target_B) + cross_entropy(logits_BB.T, target_B)) / 2


def info_nce_chance(batch_size: int) -> float:
    """The value of `info_nce` for a model that has learned nothing: ln B nats.

    Args:
        batch_size: B, pairs in the batch, at least 1.

    Raises:
        ValueError: the batch is empty.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    return math.log(batch_size)


def nt_xent(first_BE: torch.Tensor, second_BE: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """NT-Xent of SimCLR (Chen et al. 2020, eq. 1) over two views of each scan.

    Denominator: all other 2B - 1 views, the anchor's own side included; mean over all 2B anchors.

    Args:
        first_BE: one view of each scan, shape (B, E).
        second_BE: the other view of each scan, shape (B, E).
        temperature: divisor of the cosine similarities, above 0.

    Returns:
        Scalar, float32 (float64 for float64 input), in nats; chance is ln(2B - 1).

    Raises:
        ValueError: shapes that differ or are not (B, E), or a temperature not above 0.
    """
    _require_alike(first_BE, second_BE)
    dtype = torch.promote_types(first_BE.dtype, second_BE.dtype)
    return sup_con(torch.stack((first_BE.to(dtype), second_BE.to(dtype)), dim=1), temperature=temperature)


def sup_con(views_BVE: torch.Tensor, labels_B: GroupIds | None = None, *, temperature: float) -> torch.Tensor:
    """Supervised contrast (Khosla et al. 2020, eq. 2, the sum over positives outside the logarithm).

    L = mean_i [ log sum_{a != i} exp(s_ia / temperature) - mean_{p in P(i)} s_ip / temperature ], over the N = B * V
    views. P(i): the other views with an equal label. Denominator: all other N - 1 views, positives included. Anchors
    without a positive are left out of the mean over i, yet stay in the denominators of the others.

    Args:
        views_BVE: V views of each of B scans, shape (B, V, E).
        labels_B: class of each scan, compared for equality; None makes every scan its own class.
        temperature: divisor of the cosine similarities, above 0.

    Returns:
        Scalar, float32 (float64 for float64 input), in nats.

    Raises:
        ValueError: another shape, a temperature not above 0, another number of labels, or no anchor with a positive.
    """
    require_features(views_BVE, name="views_BVE", axes="BVE")
    require_positive(temperature, name="temperature")
    num_scans, num_views, _ = views_BVE.shape
    device = views_BVE.device
    if labels_B is None:
        labels_B = torch.arange(num_scans, device=device)
    same_BB = same_group(labels_B, num_rows=num_scans, name="labels_B", device=device)
    positive_NN = same_BB.repeat_interleave(num_views, dim=0).repeat_interleave(num_views, dim=1)
    positive_NN.fill_diagonal_(False)
    num_positives_N = positive_NN.sum(dim=1)
    anchors_N = num_positives_N > 0
    if not bool(anchors_N.any()):
        raise ValueError(
            f"no anchor has a positive among {num_scans} scans with {num_views} view(s) each; "
            "give two views of a scan or scans with equal labels"
        )
    with full_precision(views_BVE):
        views_NE = views_BVE.flatten(0, 1)
        logits_NN = cosine_similarity(views_NE, views_NE) / temperature
        itself_NN = torch.eye(logits_NN.shape[0], dtype=torch.bool, device=device)
        denominator_N = logits_NN.masked_fill(itself_NN, -math.inf).logsumexp(dim=1)
        attraction_N = (logits_NN * positive_NN).sum(dim=1) / num_positives_N.clamp(min=1)
        return (denominator_N - attraction_N)[anchors_N].mean()


def _require_alike(first_BE: torch.Tensor, second_BE: torch.Tensor) -> None:
    require_features(first_BE, name="first_BE", axes="BE")
    require_features(second_BE, name="second_BE", axes="BE")
    if first_BE.shape != second_BE.shape:
        raise ValueError(
            f"first_BE has shape {tuple(first_BE.shape)} and second_BE {tuple(second_BE.shape)}; they must be equal"
        )
