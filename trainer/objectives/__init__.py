"""The objectives of the published systems, one file for each family; each returns a scalar with a gradient."""

from trainer.objectives.conpro import margin_contrast, preference
from trainer.objectives.contrast import info_nce, info_nce_chance, nt_xent, sup_con
from trainer.objectives.learner import LearnerVariant, learner
from trainer.objectives.multimodal import cross_modality, cross_subject
from trainer.objectives.order import chrono_contrast, rank_n_contrast
from trainer.objectives.supremix import supremix

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
    "preference",
    "rank_n_contrast",
    "sup_con",
    "supremix",
]
