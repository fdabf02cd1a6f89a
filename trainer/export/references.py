"""What the service compares a new scan with: embeddings of the training scans, noise floor, distribution.

Only numbers leave: no subject, session or file name stands in an artefact.
"""

import numpy as np

from preprocess.distances import cosine_distances
from trainer.data.cohort import Cohort
from trainer.data.pairs import rescan_pairs, visit_pairs
from trainer.evaluate.checks import embedding_distribution
from trainer.recipe import TrainRecipe

References = dict[str, np.ndarray]


def build_references(
    recipe: TrainRecipe,
    training: Cohort,
    training_NE: np.ndarray,
    validation: Cohort,
    validation_NE: np.ndarray,
) -> References:
    """The arrays of references.npz, named and described in `preprocess.manifest.REFERENCE_ARRAYS`.

    Args:
        recipe: outcome and pairs.
        training: training scans.
        training_NE: their embeddings.
        validation: validation scans.
        validation_NE: their embeddings.
    """
    noise, change = [], []
    for cohort, embeddings_NE in ((training, training_NE), (validation, validation_NE)):
        repeats = rescan_pairs(cohort, recipe.outcome)
        visits = visit_pairs(cohort, recipe.outcome, which="consecutive")
        noise.append(cosine_distances(embeddings_NE, repeats.earlier_P, repeats.later_P))
        change.append(cosine_distances(embeddings_NE, visits.earlier_P, visits.later_P))
    return {
        "embeddings_NE": training_NE.astype(np.float32),
        "scores_N": training.scores_N.astype(np.float32),
        "noise_distances_P": np.sort(np.concatenate(noise)).astype(np.float32),
        "change_distances_P": np.sort(np.concatenate(change)).astype(np.float32),
        **embedding_distribution(training_NE, validation_NE),
    }
