"""Controls that look at the scans without a network: ridge regression on coarse brightness, and on coarse tissue.

A network that does not tell change better than this has not earned its cost.
"""

import numpy as np
import numpy.typing as npt

from preprocess.store import Store
from trainer.data.cohort import Cohort
from trainer.data.pairs import rescan_pairs, visit_pairs
from trainer.encoders.linear_score import CoarseBrightness
from trainer.evaluate.controls import Control
from trainer.evaluate.tissue_maps import tissue_maps
from trainer.evaluate.turns import Answers, Turn
from trainer.fit.change import calibrate
from trainer.fit.embedding import embed_cohort
from trainer.fit.precision import Compute
from trainer.fit.ridge import Ridge, fit_ridge
from trainer.metrics.progression import balanced_accuracy, macro_f1
from trainer.recipe import TrainRecipe

Floats = npt.NDArray[np.float64]
GRID = 12
"""Blocks along each axis: 16 mm in the default box, coarser than sulci and finer than ventricles."""
_NUM_FOLDS = 5


def ridge_controls(
    answers: Answers, store: Store, cohort: Cohort, recipe: TrainRecipe, compute: Compute
) -> list[Control]:
    """The ridges' answers for the pairs of every turn, fitted each time on the people whom the run's networks saw.

    Args:
        answers: what the run answered.
        store: what it was trained on.
        cohort: what its recipe reads of that store.
        recipe: outcome, modality and pairs.
        compute: where brightness is averaged.

    Returns:
        `brightness_ridge` and `tissue_ridge`; those that the rows allow, none where some turn's people show no change.
    """
    shape = store.layout(recipe.data.modality).shape
    if recipe.data.modalities or len(shape) != 4:
        return []
    embedder = CoarseBrightness(GRID, in_channels=shape[0])
    features = {
        "brightness_ridge": embed_cohort(embedder, store, recipe.data.arrays, cohort, compute),
        "tissue_ridge": tissue_maps(store, recipe.data.modality, cohort.rows_N.tolist(), GRID),
    }
    found = (
        _control(name, answers, cohort, feature_NF, recipe)
        for name, feature_NF in features.items()
        if feature_NF is not None
    )
    return [control for control in found if control is not None]


def _control(
    name: str, answers: Answers, cohort: Cohort, features_NF: np.ndarray, recipe: TrainRecipe
) -> Control | None:
    predicted = [_answer(turn, cohort, features_NF, recipe) for turn in answers.turns]
    if any(part is None for part in predicted):
        return None
    predicted_P3 = np.concatenate([part for part in predicted if part is not None])
    labels_P, guess_P = answers.labels_P, predicted_P3.argmax(axis=1)
    return Control(
        name, guess_P, macro_f1(labels_P, guess_P), balanced_accuracy(labels_P, guess_P), probabilities_P3=predicted_P3
    )


def _answer(turn: Turn, cohort: Cohort, features_NF: np.ndarray, recipe: TrainRecipe) -> Floats | None:
    """Probabilities (P, 3) of a turn's pairs."""
    row_of = {row: index for index, row in enumerate(cohort.rows_N.tolist())}
    training = cohort.of_subjects(turn.training)
    own_NF = features_NF[[row_of[row] for row in training.rows_N.tolist()]]
    people = np.array(training.groups)
    names = np.random.default_rng([recipe.seed, 0x41D6F]).permutation(np.unique(people))
    sign = 1 if recipe.outcome.higher_is_better else -1
    pairs = visit_pairs(training, recipe.outcome, which=recipe.head.pairs).labelled()
    if len(names) < 2 * _NUM_FOLDS or not len(pairs):
        return None
    told_P = np.empty(len(pairs))
    # Calibrated as the run is: on people who were not fitted to.
    for fold in np.array_split(names, _NUM_FOLDS):
        held_P = np.isin(people[pairs.earlier_P], fold)
        ridge = _fitted(training, own_NF, ~np.isin(people, fold), recipe)
        if ridge is None:
            return None
        scores_N = ridge.scores(own_NF)
        told_P[held_P] = (scores_N[pairs.later_P] - scores_N[pairs.earlier_P])[held_P]
    calibrated = calibrate(sign * told_P, pairs.labels_P, sign * pairs.delta_P, people[pairs.earlier_P].tolist())
    ridge = _fitted(training, own_NF, np.ones(len(training), dtype=bool), recipe)
    if ridge is None:
        return None
    scores_N = ridge.scores(features_NF[[row_of[row] for row in turn.cohort.rows_N.tolist()]])
    return calibrated.probabilities(sign * (scores_N[turn.pairs.later_P] - scores_N[turn.pairs.earlier_P]))


def _fitted(
    training: Cohort, features_NF: np.ndarray, kept_N: npt.NDArray[np.bool_], recipe: TrainRecipe
) -> Ridge | None:
    """A ridge on the changes of the people who are kept."""
    visits = visit_pairs(training, recipe.outcome, which=recipe.head.pairs).labelled()
    repeats = rescan_pairs(training, recipe.outcome)
    earlier_P = np.concatenate([visits.earlier_P, repeats.earlier_P])
    later_P = np.concatenate([visits.later_P, repeats.later_P])
    changes_P = np.concatenate([visits.delta_P, np.zeros(len(repeats))])
    kept_P = kept_N[earlier_P]
    people = np.array(training.groups)[earlier_P]
    return fit_ridge(
        features_NF,
        np.where(kept_N, training.scores_N, np.nan),
        earlier_P[kept_P],
        later_P[kept_P],
        changes_P[kept_P],
        people[kept_P].tolist(),
        seed=recipe.seed,
    )
