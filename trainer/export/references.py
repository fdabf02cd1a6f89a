"""What the service compares a new scan with: embeddings of the training scans, noise floor, distribution.

Only numbers leave: no subject, session or file name stands in an artefact.
"""

import numpy as np

from preprocess.distances import cosine_distances
from preprocess.manifest import OutcomeSpec
from preprocess.store import Store
from trainer.data.cohort import Cohort
from trainer.data.pairs import rescan_pairs, visit_pairs
from trainer.evaluate.checks import embedding_distribution
from trainer.recipe import TrainRecipe

References = dict[str, np.ndarray]
AGE_COLUMNS = ("age", "age_years")
"""Scores of the index that hold a person's age, capital letters alike."""
MIN_SPAN_YEARS = 0.5
"""Over a shorter time the error of two scores outweighs what changes in a year."""
_DAYS_A_YEAR = 365.25


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


def age_references(store: Store, training: Cohort, outcome: OutcomeSpec) -> References:
    """The arrays of `preprocess.manifest.AGE_REFERENCE_ARRAYS`; none where no person has an age and scores over time.

    A person's change a year is the slope of the least-squares line through all scores. Ages are whole years and people
    stand in order of age, so that nobody is told by them.

    Args:
        store: its index has ages among the scores: of `participants.tsv`, or at each visit of `sessions.tsv`.
        training: training scans, with the outcome's scores.
        outcome: which way is better.
    """
    age_by_row = {
        record.row: value
        for record in store.records
        for name, value in record.outcomes.items()
        if name.lower() in AGE_COLUMNS
    }
    dated = training.at(np.flatnonzero(np.isfinite(training.scores_N) & np.isfinite(training.days_N)).tolist())
    people = []
    for indices in dated.indices_by_subject.values():
        years_K = dated.days_N[indices] / _DAYS_A_YEAR
        age = age_by_row.get(int(dated.rows_N[indices[0]]))
        if age is not None and np.ptp(years_K) >= MIN_SPAN_YEARS:
            centred_K = years_K - years_K.mean()
            slope = float(centred_K @ dated.scores_N[indices] / (centred_K @ centred_K))
            people.append((round(age), slope if outcome.higher_is_better else -slope))
    if not people:
        return {}
    ages_P, changes_P = np.array(sorted(people), dtype=np.float32).T
    return {"annual_changes_P": changes_P.copy(), "ages_P": ages_P.copy()}
