"""The pairs that a progression head is fitted and chosen on: visits as the recipe says, rescans as stable."""

import numpy as np

from trainer.data.cohort import Cohort
from trainer.data.pairs import rescan_pairs, visit_pairs
from trainer.recipe import TrainRecipe


def head_pairs(embeddings_NE: np.ndarray, cohort: Cohort, recipe: TrainRecipe) -> tuple[np.ndarray, np.ndarray]:
    """Differences (P, E) of embeddings, later minus earlier, and their labels (P,): 0 improved, 1 stable, 2 declined.

    Args:
        embeddings_NE: one row a scan, in the cohort's order.
        cohort: training or validation subjects.
        recipe: says what counts as change, and which visits make pairs.
    """
    visits = visit_pairs(cohort, recipe.outcome, which=recipe.head.pairs).labelled()
    repeats = rescan_pairs(cohort, recipe.outcome).labelled()
    earlier_P = np.concatenate([visits.earlier_P, repeats.earlier_P])
    later_P = np.concatenate([visits.later_P, repeats.later_P])
    return embeddings_NE[later_P] - embeddings_NE[earlier_P], np.concatenate([visits.labels_P, repeats.labels_P])
