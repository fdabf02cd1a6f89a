"""The published objectives as functions of tensors, under the names the recipes use.

    loss = objectives.info_nce(earlier_BE, later_BE, temperature=0.1)

Each returns a scalar with a gradient, computed in float32 or above also under autocast, and refuses wrong shapes with
a ValueError that names the argument. Shape letters: B batch, V views, M modalities, P pairs, E embedding, N rows.
"""

from trainer.objectives.losses import (
    LearnerVariant,
    chrono_contrast,
    cross_modality,
    cross_subject,
    info_nce,
    info_nce_chance,
    learner,
    margin_contrast,
    nt_xent,
    pair_change,
    preference,
    rank_n_contrast,
    sup_con,
    supremix,
)

__all__ = [
    "LearnerVariant",
    "chrono_contrast",
    "cross_modality",
    "cross_subject",
    "info_nce",
    "info_nce_chance",
    "learner",
    "margin_contrast",
    "nt_xent",
    "pair_change",
    "preference",
    "rank_n_contrast",
    "sup_con",
    "supremix",
]
