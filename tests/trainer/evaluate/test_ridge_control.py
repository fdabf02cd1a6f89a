"""The ridge sees nobody whom it answers for, and says nothing where rows are no volumes or too few people trained."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tests.support.cohorts import MODALITY, default_scans, tiny_recipe, write_store
from trainer.data.cohort import Cohort, read_cohort
from trainer.data.pairs import visit_pairs
from trainer.evaluate.ridge_control import ridge_controls
from trainer.evaluate.turns import Answers, Turn
from trainer.fit.precision import Compute

EXACT = Compute(torch.device("cpu"), torch.float32)
RECIPE = tiny_recipe()


def one_turn(cohort: Cohort, num_training: int) -> Answers:
    people = sorted(set(cohort.subject_ids))
    held = cohort.of_subjects(frozenset(people[30:]))
    pairs = visit_pairs(held, RECIPE.outcome, which="consecutive").labelled()
    answers_P3 = np.full((len(pairs), 3), 1 / 3)
    return Answers((Turn(frozenset(people[:num_training]), held, pairs, answers_P3, None),))


def test_scores_of_those_who_are_answered_for_are_not_looked_at(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", default_scans(num_subjects=40, odd=False))
    cohort = read_cohort(store, MODALITY, "mmse")
    answers = one_turn(cohort, 30)
    (found,) = ridge_controls(answers, store, cohort, RECIPE, EXACT)
    held_N = np.isin(cohort.rows_N, answers.turns[0].cohort.rows_N)
    hidden = replace(cohort, scores_N=np.where(held_N, 99.0, cohort.scores_N))
    (again,) = ridge_controls(answers, store, hidden, RECIPE, EXACT)
    assert found.probabilities_P3 is not None
    assert again.probabilities_P3 is not None
    np.testing.assert_array_equal(found.probabilities_P3, again.probabilities_P3)


def test_too_few_training_people_give_no_control(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", default_scans(num_subjects=40, odd=False))
    cohort = read_cohort(store, MODALITY, "mmse")
    assert ridge_controls(one_turn(cohort, 9), store, cohort, RECIPE, EXACT) == []
