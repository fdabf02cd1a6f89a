"""LEARNER: a health score learned between patients, in the level (regression) and in the distances (contrast).

The published equations could not be had in full; `weighted` is our reading of them, `regressed` is our own.
"""

from typing import Literal, TypeAlias, get_args

import torch

from trainer.objectives.losses.similarity import (
    GroupIds,
    at_least_float32,
    cosine_similarity,
    full_precision,
    require_features,
    require_positive,
    same_group,
)

LearnerVariant: TypeAlias = Literal["mse", "contrastive", "weighted", "regressed"]


def learner(
    embeddings_BE: torch.Tensor,
    predicted_B: torch.Tensor,
    scores_B: torch.Tensor,
    subject_ids_B: GroupIds,
    *,
    variant: LearnerVariant,
    score_mean: float,
    score_sd: float,
    score_range: float,
    threshold: float,
    margin: float = 1.0,
    weight: float = 1.0,
) -> torch.Tensor:
    """Score regression plus a contrast over pairs of different patients; L = L_mse + weight * term.

    L_mse = mean_i (r_i - h_i)^2 with h = (score - score_mean) / score_sd. The term is a mean over the pairs i < j of
    different subjects, with d = 1 - cos(u_i, u_j), w = |score_i - score_j| / score_range and s = 1 where the scores
    differ by at most `threshold`, else 0:

    * `mse`: no term;
    * `contrastive`: s d + (1 - s) max(0, margin - d);
    * `weighted`: s (1 - w) d + (1 - s) w max(0, margin - d);
    * `regressed`: (d - margin w)^2, a distance proportional to the difference of the scores.

    On embeddings that are never negative d cannot exceed 1, and a margin above 1 is out of reach.

    Args:
        embeddings_BE: raw embeddings u, shape (B, E); the cosine normalises them.
        predicted_B: predicted standardised scores r, shape (B,).
        scores_B: raw scores in their own unit, shape (B,), finite.
        subject_ids_B: subject of each scan.
        variant: which term is added.
        score_mean: mean of the raw scores over the training subjects.
        score_sd: standard deviation of the raw scores over the training subjects, above 0.
        score_range: difference of scores at which w reaches 1, above 0; w stays 1 beyond it.
        threshold: greatest difference of raw scores that counts as alike, 0 or more.
        margin: cosine distance beyond which unlike pairs no longer push, above 0.
        weight: factor of the term, 0 or more.

    Returns:
        Scalar, float32 (float64 when embeddings or predictions are).

    Raises:
        ValueError: an unknown variant, wrong shapes, a score that is not finite, a setting outside its limits, or, for
            the variants with a term, a batch without two subjects.
    """
    if variant not in get_args(LearnerVariant):
        raise ValueError(f"variant is {variant!r}; it must be one of {', '.join(get_args(LearnerVariant))}")
    require_positive(score_sd, name="score_sd")
    require_positive(score_range, name="score_range")
    require_positive(margin, name="margin")
    for name, value in (("threshold", threshold), ("weight", weight)):
        if not value >= 0:
            raise ValueError(f"{name} is {value}; it must be 0 or more")
    require_features(embeddings_BE, name="embeddings_BE", axes="BE")
    num_scans = embeddings_BE.shape[0]
    for name, tensor_B in (("predicted_B", predicted_B), ("scores_B", scores_B)):
        if tensor_B.shape != (num_scans,):
            raise ValueError(f"{name} has shape {tuple(tensor_B.shape)}; the batch needs ({num_scans},)")
    if not bool(scores_B.isfinite().all()):
        num_missing = int((~scores_B.isfinite()).sum())
        raise ValueError(f"scores_B holds {num_missing} values that are not finite; leave scans without a score out")

    with full_precision(embeddings_BE):
        scores_B = at_least_float32(scores_B).to(predicted_B.device)
        standardised_B = (scores_B - score_mean) / score_sd
        dtype = torch.promote_types(torch.promote_types(embeddings_BE.dtype, predicted_B.dtype), torch.float32)
        regression = (predicted_B.to(dtype) - standardised_B.to(dtype)).square().mean()
        if variant == "mse":
            return regression

        same_BB = same_group(subject_ids_B, num_rows=num_scans, name="subject_ids_B", device=embeddings_BE.device)
        first_P, second_P = (~same_BB).triu(diagonal=1).nonzero(as_tuple=True)
        if len(first_P) == 0:
            raise ValueError(
                f"none of the {num_scans} scans of the batch has a partner of another subject; "
                f"variant {variant!r} needs at least 2 subjects in a batch"
            )
        distance_P = (1 - cosine_similarity(embeddings_BE, embeddings_BE)[first_P, second_P]).to(dtype)
        difference_P = (scores_B[first_P] - scores_B[second_P]).abs()
        similar_P = (difference_P <= threshold).to(dtype)
        weight_P = (difference_P.to(dtype) / score_range).clamp(max=1.0)
        pull_P, push_P = similar_P * distance_P, (1 - similar_P) * (margin - distance_P).clamp(min=0)
        if variant == "contrastive":
            term_P = pull_P + push_P
        elif variant == "weighted":
            term_P = (1 - weight_P) * pull_P + weight_P * push_P
        else:
            term_P = (distance_P - margin * weight_P).square()
        return regression + weight * term_P.mean()
