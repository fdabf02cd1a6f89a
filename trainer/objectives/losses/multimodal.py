"""Joint CMC and CSS: contrast between the modalities of a subject, and between subjects of one class.

Written from the published equations. The temperature divides once, and the masks depend on the batch alone. Missing
modalities may hold anything, NaN too: they are never read and their gradient is 0.
"""

import math

import torch

from trainer.objectives.losses.contrast import sup_con
from trainer.objectives.losses.similarity import (
    GroupIds,
    as_flags,
    cosine_similarity,
    full_precision,
    require_features,
    require_positive,
    same_group,
    unit_rows,
)


def cross_modality(
    modalities_BME: torch.Tensor, present_BM: torch.Tensor | None = None, *, temperature: float = 0.7
) -> torch.Tensor:
    """Cross-modal contrast (CMC): the modalities of a subject agree, against those of the other subjects.

    For anchor (s, m): L = -log [ P / (P + Q) ], P = sum_{m' != m} exp(cos(z_sm, z_sm') / temperature) and
    Q = sum_{s' != s, m'} exp(cos(z_sm, z_s'm') / temperature). The sum over positives stands inside the logarithm.
    Denominator: all other present embeddings of the batch, those of the anchor's own modality in other subjects
    included, all positives included, the anchor itself not. Mean over the anchors that are present and have another
    present modality; the others stay in the denominators. With one subject Q is empty and the formula gives 0.

    Args:
        modalities_BME: embeddings of M modalities of B subjects, raw, shape (B, M, E).
        present_BM: true where the subject has the modality, shape (B, M); None takes all as present.
        temperature: divisor of the cosine similarities, above 0.

    Returns:
        Scalar, float32 (float64 for float64 input), in nats.

    Raises:
        ValueError: wrong shapes, a temperature not above 0, or no subject with two present modalities.
    """
    present_BM = _presence(modalities_BME, present_BM)
    require_positive(temperature, name="temperature")
    subjects_N = present_BM.nonzero()[:, 0]
    same_NN = subjects_N[:, None] == subjects_N[None, :]
    itself_NN = torch.eye(len(subjects_N), dtype=torch.bool, device=same_NN.device)
    anchors_N = (same_NN & ~itself_NN).any(dim=1)
    if not bool(anchors_N.any()):
        raise ValueError(
            f"none of the {len(present_BM)} subjects has two present modalities; "
            "cross_modality needs a subject with at least 2"
        )
    with full_precision(modalities_BME):
        present_NE = modalities_BME[present_BM]
        logits_AN = cosine_similarity(present_NE[anchors_N], present_NE) / temperature
        logits_AN = logits_AN.masked_fill(itself_NN[anchors_N], -math.inf)
        positive_A = logits_AN.masked_fill(~same_NN[anchors_N], -math.inf).logsumexp(dim=1)
        return (logits_AN.logsumexp(dim=1) - positive_A).mean()


def cross_subject(
    modalities_BME: torch.Tensor,
    labels_B: GroupIds,
    present_BM: torch.Tensor | None = None,
    *,
    temperature: float = 0.7,
) -> torch.Tensor:
    """Cross-subject contrast (CSS): `sup_con` between subjects, on the modalities of each joined to one vector.

    v_s = [z_s1; ...; z_sM] / norm, where every z_sm has unit length before joining, so that no modality outweighs the
    others; the slot of a missing modality is zero. Denominator: all other subjects of the batch, positives included.
    Subjects without another of their class are left out of the mean, yet stay in the denominators; subjects without
    any modality leave the batch.

    Args:
        modalities_BME: embeddings of M modalities of B subjects, raw, shape (B, M, E).
        labels_B: class of each subject, compared for equality.
        present_BM: true where the subject has the modality, shape (B, M); None takes all as present.
        temperature: divisor of the cosine similarities, above 0.

    Returns:
        Scalar, float32 (float64 for float64 input), in nats.

    Raises:
        ValueError: wrong shapes, another number of labels, a temperature not above 0, or no two subjects of one class.
    """
    present_BM = _presence(modalities_BME, present_BM)
    require_positive(temperature, name="temperature")
    num_subjects = len(present_BM)
    same_BB = same_group(labels_B, num_rows=num_subjects, name="labels_B", device=modalities_BME.device)
    classes_B = same_BB.to(torch.uint8).argmax(dim=1)  # first subject of the class
    usable_B = present_BM.any(dim=1)
    if not bool((same_BB & usable_B & usable_B[:, None]).triu(diagonal=1).any()):
        raise ValueError(
            f"no two of the {num_subjects} subjects share a class and have a modality present; "
            "cross_subject needs at least 2 subjects of one class in a batch"
        )
    joined_BJ = unit_rows(modalities_BME.masked_fill(~present_BM[..., None], 0.0)).flatten(1)
    return sup_con(joined_BJ[usable_B][:, None], classes_B[usable_B], temperature=temperature)


def _presence(modalities_BME: torch.Tensor, present_BM: torch.Tensor | None) -> torch.Tensor:
    require_features(modalities_BME, name="modalities_BME", axes="BME")
    num_subjects, num_modalities, _ = modalities_BME.shape
    shape, device = (num_subjects, num_modalities), modalities_BME.device
    if present_BM is None:
        return torch.ones(shape, dtype=torch.bool, device=device)
    return as_flags(present_BM, shape=shape, name="present_BM", device=device)
