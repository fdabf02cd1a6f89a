"""Contrast by order: Rank-N-Contrast on label distances, and its kin on the order of visits within a subject.

Both use the negative L2 distance of raw features, which are not normalised. Denominators that grow with the rank are
tails of one sorted row, so the cost is N^2 log N and nothing of size N^3 is built. At distance 0 the gradient is 0.
"""

import torch
from torch.nn.functional import softplus

from trainer.objectives.losses.similarity import (
    GroupIds,
    at_least_float32,
    full_precision,
    require_features,
    require_positive,
    same_group,
)


def rank_n_contrast(features_NE: torch.Tensor, labels_N: torch.Tensor, *, temperature: float = 2.0) -> torch.Tensor:
    """Rank-N-Contrast (Zha et al. 2023, eq. 2): nearer in label is nearer in feature space.

    With s_ij = -|f_i - f_j| / temperature: L is the mean over all ordered pairs i != j of
    log sum_{k in S_ij} exp(s_ik) - s_ij. Denominator S_ij: every k != i with |y_i - y_k| >= |y_i - y_j|, so j itself,
    all ties with it and all farther in label. Label distances are compared exactly; whole-number labels make ties
    exact too. Several views of a scan are several rows with one label.

    Args:
        features_NE: raw features, shape (N, E), N at least 2.
        labels_N: label of each row, shape (N,), finite.
        temperature: divisor of the distances, above 0.

    Returns:
        Scalar, float32 (float64 for float64 input), in nats; 0 for N = 2, where there is nothing to rank.

    Raises:
        ValueError: wrong shapes, a label that is not finite, a temperature not above 0, or a single row.
    """
    require_features(features_NE, name="features_NE", axes="NE")
    require_positive(temperature, name="temperature")
    num_rows = len(features_NE)
    labels_N = _ordinal(labels_N, num_rows=num_rows, name="labels_N", device=features_NE.device)
    if num_rows < 2:
        raise ValueError("features_NE holds 1 row, which leaves no pair; rank_n_contrast needs at least 2")
    gap_NN = (labels_N[:, None] - labels_N[None, :]).abs()
    # The anchor sorts in front of its own row and is cut off, so that no -inf enters the cumulated sums.
    gap_NN.fill_diagonal_(-1)
    gap_NN, rank_NN = gap_NN.sort(dim=1)
    gap_NO, rank_NO = gap_NN[:, 1:].contiguous(), rank_NN[:, 1:]
    first_of_tie_NO = torch.searchsorted(gap_NO, gap_NO)
    with full_precision(features_NE):
        logits_NO = (_negative_distance(features_NE) / temperature).gather(1, rank_NO)
        return (_tails(logits_NO).gather(1, first_of_tie_NO) - logits_NO).mean()


def chrono_contrast(
    features_NE: torch.Tensor, visit_order_N: torch.Tensor, subject_ids_N: GroupIds, *, temperature: float = 1.0
) -> torch.Tensor:
    """Rank-N-Contrast on the order of visits within a subject (ChronoCon, 2026); no labels.

    With s_ij = -|f_i - f_j| / temperature, o the order and a branch for each side of the anchor. Later branch: pairs
    i != j of one subject with o_j >= o_i, each costing log sum_{k in S_ij} exp(s_ik) - s_ij. Denominator S_ij: j
    itself and the scans of that subject with o_k > o_j; ties of j are not in it, nor is any other subject. Earlier
    branch: the same with the order reversed. A scan tied with the anchor is a positive on both sides. Pairs whose
    denominator holds j alone say nothing and are left out; each branch is the mean over the rest, the loss their sum.
    A branch to which no pair is left adds 0 (the earlier one of a subject with visits 0, 0, 1).

    Args:
        features_NE: raw features, shape (N, E).
        visit_order_N: acquisition day, or rank of the visit, shape (N,), finite; only its order counts.
        subject_ids_N: subject of each scan.
        temperature: divisor of the distances, above 0.

    Returns:
        Scalar, float32 (float64 for float64 input), in nats.

    Raises:
        ValueError: wrong shapes, an order that is not finite, a temperature not above 0, or no pair left in either
            branch, as when no subject has three scans.
    """
    require_features(features_NE, name="features_NE", axes="NE")
    require_positive(temperature, name="temperature")
    num_scans, device = len(features_NE), features_NE.device
    order_N = _ordinal(visit_order_N, num_rows=num_scans, name="visit_order_N", device=device)
    same_NN = same_group(subject_ids_N, num_rows=num_scans, name="subject_ids_N", device=device)
    branches = []
    with full_precision(features_NE):
        logits_NN = _negative_distance(features_NE) / temperature
        for outwards_N in (order_N, -order_N):
            pairs = [_one_side(logits_NN, outwards_N, scans_K) for scans_K in _subjects_with_order(same_NN, outwards_N)]
            losses_P = torch.cat([logits_NN.new_zeros(0), *pairs])
            if len(losses_P):
                branches.append(losses_P.mean())
    if not branches:
        raise ValueError(
            f"none of the {num_scans} scans can be ordered against two others of its subject; "
            "chrono_contrast needs a subject with at least 3 scans on at least 2 days"
        )
    return torch.stack(branches).sum()


def _subjects_with_order(same_NN: torch.Tensor, outwards_N: torch.Tensor) -> list[torch.Tensor]:
    """Rows of each subject with three scans or more, sorted by order."""
    first_N = same_NN.to(torch.uint8).argmax(dim=1)  # first scan of the subject
    by_order_N = outwards_N.argsort(stable=True)
    subjects = [by_order_N[first_N[by_order_N] == subject] for subject in torch.unique(first_N)]
    return [scans_K for scans_K in subjects if len(scans_K) >= 3]


def _one_side(logits_NN: torch.Tensor, outwards_N: torch.Tensor, scans_K: torch.Tensor) -> torch.Tensor:
    """Loss of each pair of one subject on one side, shape (P,); the scans are sorted by their order."""
    order_K = outwards_N[scans_K].contiguous()
    logits_KK = logits_NN[scans_K][:, scans_K]
    beyond_K = torch.searchsorted(order_K, order_K, right=True)  # first scan strictly farther than j
    pair_KK = (order_K[None, :] >= order_K[:, None]) & (beyond_K < len(scans_K))[None, :]
    anchor_P, positive_P = pair_KK.fill_diagonal_(False).nonzero(as_tuple=True)
    # Everything beyond j is beyond the anchor as well, so the tail never holds the anchor itself.
    negatives_P = _tails(logits_KK)[anchor_P, beyond_K[positive_P]]
    return softplus(negatives_P - logits_KK[anchor_P, positive_P])


def _tails(logits_NO: torch.Tensor) -> torch.Tensor:
    """Log of the summed exponentials of each entry and all to the right of it in its row."""
    return logits_NO.flip(1).logcumsumexp(dim=1).flip(1)


def _negative_distance(features_NE: torch.Tensor) -> torch.Tensor:
    """-|f_i - f_j|, shape (N, N); differences are formed before they are squared, whatever N is."""
    features_NE = at_least_float32(features_NE)
    largest = features_NE.detach().abs().amax()
    # A power of two near the largest value: squares stay within float32, and dividing rounds nothing.
    scale = torch.ldexp(torch.ones_like(largest), torch.frexp(largest).exponent - 1)
    scaled_NE = features_NE / scale
    return -scale * torch.cdist(scaled_NE, scaled_NE, compute_mode="donot_use_mm_for_euclid_dist")


def _ordinal(values_N: torch.Tensor, *, num_rows: int, name: str, device: torch.device) -> torch.Tensor:
    """Values to compare and subtract: float32 or above, or int64, in which whole numbers stay exact."""
    if values_N.shape != (num_rows,):
        raise ValueError(f"{name} has shape {tuple(values_N.shape)}; the batch needs ({num_rows},)")
    if not bool(values_N.isfinite().all()):
        num_missing = int((~values_N.isfinite()).sum())
        raise ValueError(f"{name} holds {num_missing} values that are not finite; leave those rows out of the batch")
    values_N = at_least_float32(values_N) if values_N.is_floating_point() else values_N.long()
    return values_N.to(device)
