"""The objectives of the published systems, one file for each family; each returns a scalar with a gradient."""

from trainer.objectives.contrast import info_nce, info_nce_chance, nt_xent, sup_con
from trainer.objectives.learner import LearnerVariant, learner

__all__ = ["LearnerVariant", "info_nce", "info_nce_chance", "learner", "nt_xent", "sup_con"]
