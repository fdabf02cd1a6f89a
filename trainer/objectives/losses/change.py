"""The change between two scans of one person, learned as a number: squared error of the predicted difference.

After LILAC (Kim et al., PNAS 2025), which learns a signed change from the subtraction of two embeddings through a
linear layer without bias. Here the layer is the score head: the bias cancels in the difference of its two predictions.
"""

import torch

from trainer.objectives.losses.similarity import at_least_float32


def pair_change(predicted_BK: torch.Tensor, scores_BK: torch.Tensor, *, score_sd: float) -> torch.Tensor:
    """Mean over pairs of one person's scans of (predicted difference - true difference)^2; float32 or above always.

    For scans i < j of one person with known scores s and predicted standardised scores r, the error is
    (r_j - r_i) - (s_j - s_i) / score_sd. Whatever a person's scans share, such as the size of the head, cancels.

    Args:
        predicted_BK: predicted standardised scores of B people's K scans.
        scores_BK: raw scores in their own unit, NaN where unknown.
        score_sd: standard deviation of the raw scores over the training subjects, above 0.

    Raises:
        ValueError: unequal shapes, score_sd that is not above 0, or no pair with two scores.
    """
    if predicted_BK.shape != scores_BK.shape or predicted_BK.dim() != 2:
        raise ValueError(
            f"predicted scores have shape {tuple(predicted_BK.shape)}, scores {tuple(scores_BK.shape)}; both are (B, K)"
        )
    if not score_sd > 0:
        raise ValueError(f"score_sd is {score_sd}; it must be above 0")
    earlier_P, later_P = torch.triu_indices(scores_BK.shape[1], scores_BK.shape[1], offset=1, device=scores_BK.device)
    predicted_BK = at_least_float32(predicted_BK)
    true_BP = (scores_BK[:, later_P] - scores_BK[:, earlier_P]).to(predicted_BK.dtype) / score_sd
    predicted_BP = predicted_BK[:, later_P] - predicted_BK[:, earlier_P]
    known_BP = true_BP.isfinite()
    if not bool(known_BP.any()):
        raise ValueError(f"no two scores of one person are known among {len(scores_BK)} people; leave the batch out")
    return (predicted_BP[known_BP] - true_BP[known_BP]).square().mean()
