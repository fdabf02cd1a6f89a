"""A run's plan is a pure function of recipe and scans, and holds nothing of the people who are held out."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from preprocess.errors import UsageError
from tests.support.cohorts import MODALITY, default_scans, tiny_recipe, write_store
from trainer.data.cohort import Cohort, read_cohort
from trainer.data.splits import Split
from trainer.fit.run_plan import RunPlan, draw_split
from trainer.plan.workload import count_workload
from trainer.recipe import TrainRecipe


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return read_cohort(write_store(tmp_path / "store", default_scans(num_subjects=12, odd=False)), MODALITY, "mmse")


def batches_of(plan: RunPlan, epochs: int = 3) -> list[list[list[int]]]:
    return [[batch.tolist() for batch in plan.sampler.batches(epoch)] for epoch in range(epochs)]


def test_the_same_recipe_and_scans_make_the_same_plan_and_another_seed_another(cohort: Cohort) -> None:
    recipe = tiny_recipe()
    plan = RunPlan.of(recipe, cohort)
    again = RunPlan.of(recipe, cohort)
    assert plan.split == again.split == draw_split(recipe, cohort.subject_ids)
    assert batches_of(plan) == batches_of(again)
    other = RunPlan.of(tiny_recipe(seed=recipe.seed + 1), cohort)
    assert batches_of(other) != batches_of(plan)


def test_nobody_trains_who_validates_or_is_held_out(cohort: Cohort) -> None:
    plan = RunPlan.of(tiny_recipe(), cohort)
    parts = [set(plan.split.of(part)) for part in ("train", "validation", "test")]
    assert set.union(*parts) == set(cohort.subject_ids)
    assert sum(map(len, parts)) == len(set(cohort.subject_ids))
    assert set(plan.training.subject_ids) == parts[0]
    assert set(plan.validation.subject_ids) == parts[1]
    indices = np.concatenate([batch.ravel() for epoch in range(3) for batch in plan.sampler.batches(epoch)])
    assert {plan.sampler.cohort.subject_ids[index] for index in indices} <= parts[0]


def test_a_split_that_is_given_is_kept(cohort: Cohort) -> None:
    first, second, *others = dict.fromkeys(cohort.subject_ids)
    split = Split(train=tuple(others), validation=(first,), test=(second,))
    plan = RunPlan.of(tiny_recipe(), cohort, split)
    assert plan.split is split
    assert set(plan.validation.subject_ids) == {first}


@pytest.mark.parametrize("objective", [[{"name": "learner"}], [{"name": "info_nce"}, {"name": "learner"}]])
def test_scans_without_a_score_train_only_where_a_term_can_use_them(
    cohort: Cohort, objective: list[dict[str, Any]]
) -> None:
    unscored = replace(cohort, scores_N=np.where(np.arange(len(cohort)) % 3 == 0, np.nan, cohort.scores_N))
    plan = RunPlan.of(tiny_recipe(objective=objective, data={"sampling": "scans"}), unscored)
    num_unscored = int(np.isnan(plan.training.scores_N).sum())
    assert num_unscored > 0
    expected = len(plan.training) - (num_unscored if len(objective) == 1 else 0)
    assert len(plan.sampler.cohort) == expected


def test_a_threshold_of_tertiles_is_fitted_on_the_training_subjects_alone(cohort: Cohort) -> None:
    recipe: TrainRecipe = tiny_recipe(head={"threshold": "tertiles"})
    plan = RunPlan.of(recipe, cohort)
    wild = np.where(
        [subject in plan.split.of("test") for subject in cohort.subject_ids], 1e6 * cohort.scores_N, cohort.scores_N
    )
    assert RunPlan.of(recipe, replace(cohort, scores_N=wild)).recipe.outcome == plan.recipe.outcome
    assert plan.recipe.outcome.source.startswith("tertiles of")


def test_too_few_subjects_are_refused(cohort: Cohort) -> None:
    with pytest.raises(UsageError, match="subjects"):
        RunPlan.of(tiny_recipe(), cohort.of_subjects(frozenset(list(dict.fromkeys(cohort.subject_ids))[:2])))


def test_the_plan_that_is_counted_is_the_plan_that_is_followed(cohort: Cohort) -> None:
    recipe = tiny_recipe(optim={"epochs": 4})
    counted, followed = count_workload(recipe, cohort), RunPlan.of(recipe, cohort)
    assert counted.num_steps == sum(len(followed.sampler.batches(epoch)) for epoch in range(4))
    assert counted.validation_volumes == len(followed.validation)
