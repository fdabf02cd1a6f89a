"""ConPrO: a margin contrast of normal against abnormal images, then preferences between abnormal ones by severity.

Both are means over given pairs; there is no batch denominator. Distances are cosine distances, 1 - cos.
"""

import torch
from torch.nn.functional import softplus

from trainer.objectives.losses.similarity import as_flags, full_precision, require_features, require_positive, unit_rows


def margin_contrast(
    first_BE: torch.Tensor, second_BE: torch.Tensor, same_B: torch.Tensor, *, margin: float = 2.0
) -> torch.Tensor:
    """Contrastive margin loss of ConPrO's first phase: L = mean [ y d + (1 - y) max(0, margin - d) ], d = 1 - cos.

    The paper prints the similarity and calls it a distance; only this reading pulls equal images together. d lies in
    [0, 2], so the default margin never lets go. On features that are never negative d cannot exceed 1.

    Args:
        first_BE: raw embeddings of one image of each pair, shape (B, E).
        second_BE: raw embeddings of the other, shape (B, E).
        same_B: y, true where both are normal or both abnormal, shape (B,).
        margin: cosine distance beyond which unlike pairs no longer push, above 0.

    Returns:
        Scalar, float32 (float64 for float64 input).

    Raises:
        ValueError: wrong shapes, flags that are not true or false, or a margin not above 0.
    """
    _require_pairs(first_BE, second_BE)
    require_positive(margin, name="margin")
    same_B = as_flags(same_B, shape=(len(first_BE),), name="same_B", device=first_BE.device)
    with full_precision(first_BE):
        distance_B = 1 - (unit_rows(first_BE) * unit_rows(second_BE)).sum(dim=1)
        return torch.where(same_B, distance_B, (margin - distance_B).clamp(min=0)).mean()


def preference(
    first_BE: torch.Tensor,
    second_BE: torch.Tensor,
    anchor_E: torch.Tensor,
    first_is_worse_B: torch.Tensor,
    *,
    beta: float = 1.0,
) -> torch.Tensor:
    """Preference loss of ConPrO's second phase: the worse image of a pair lies farther from normal.

    With D(u) = 1 - cos(u, anchor): L = mean softplus( -(2t - 1) beta (D(first) - D(second)) ), t = 1 where the first
    is worse. D differs by at most 2, so the loss cannot fall below ln(1 + exp(-2 beta)): 0.1269 at beta 1.

    Args:
        first_BE: raw embeddings of one abnormal image of each pair, shape (B, E).
        second_BE: raw embeddings of the other, of another severity, shape (B, E); leave ties out.
        anchor_E: mean embedding of normal images, shape (E,). A gradient reaches it unless it is detached; a zero
            anchor has no direction and gives ln 2.
        first_is_worse_B: t, true where the first image is the more severe, shape (B,).
        beta: sharpness of the preference, above 0.

    Returns:
        Scalar, float32 (float64 for float64 input), in nats; ln 2 where nothing is known.

    Raises:
        ValueError: wrong shapes, flags that are not true or false, or a beta not above 0.
    """
    _require_pairs(first_BE, second_BE)
    require_features(anchor_E, name="anchor_E", axes="E")
    if anchor_E.shape != first_BE.shape[1:]:
        raise ValueError(f"anchor_E has shape {tuple(anchor_E.shape)}; the pairs need ({first_BE.shape[1]},)")
    require_positive(beta, name="beta")
    worse_B = as_flags(first_is_worse_B, shape=(len(first_BE),), name="first_is_worse_B", device=first_BE.device)
    with full_precision(first_BE):
        anchor_E = unit_rows(anchor_E)
        similarity_first_B = (unit_rows(first_BE) * anchor_E).sum(dim=1)
        similarity_second_B = (unit_rows(second_BE) * anchor_E).sum(dim=1)
        farther_B = similarity_second_B - similarity_first_B  # D(first) - D(second), without the two ones
        return softplus(-beta * torch.where(worse_B, farther_B, -farther_B)).mean()


def _require_pairs(first_BE: torch.Tensor, second_BE: torch.Tensor) -> None:
    require_features(first_BE, name="first_BE", axes="BE")
    require_features(second_BE, name="second_BE", axes="BE")
    if first_BE.shape != second_BE.shape:
        raise ValueError(
            f"first_BE has shape {tuple(first_BE.shape)} and second_BE {tuple(second_BE.shape)}; they must be equal"
        )
