"""The formulas of the published objectives as functions of tensors; each returns a scalar with a gradient."""

from trainer.objectives.losses.change import pair_change
from trainer.objectives.losses.conpro import margin_contrast, preference
from trainer.objectives.losses.contrast import info_nce, info_nce_chance, nt_xent, sup_con
from trainer.objectives.losses.learner import LearnerVariant, learner
from trainer.objectives.losses.multimodal import cross_modality, cross_subject
from trainer.objectives.losses.order import chrono_contrast, rank_n_contrast
from trainer.objectives.losses.supremix import supremix

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
