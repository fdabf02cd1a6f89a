"""The comparison of methods: every arm is a recipe that can be followed, and a tiny comparison ends in its tables."""

import json
import subprocess
import sys

import pytest

from benchmarks.method_cases import CASES
from benchmarks.running import ROOT
from trainer.contradictions import refuse_contradictions
from trainer.recipe import load_recipe


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_arm_is_a_recipe_that_can_be_followed_and_arms_differ(case):
    recipes = {}
    for arm in case.arms:
        recipe = load_recipe(arm.recipe, (*case.settings, *arm.settings, "seed=1"))
        refuse_contradictions(recipe, where=arm.name)
        assert recipe.seed == 1
        recipes[arm.name] = recipe.model_dump_json(exclude={"name"})
    assert len(set(recipes.values())) == len(case.arms)
    assert case.baseline in recipes


def test_arms_of_a_case_share_data_outcome_encoder_and_epochs():
    for case in CASES:
        shared = {
            (recipe.outcome, recipe.encoder, recipe.epochs, recipe.split, recipe.data.modality)
            for recipe in (load_recipe(arm.recipe, (*case.settings, *arm.settings)) for arm in case.arms)
            if recipe.optim.learning_rate
            > 1e-9  # the untrained arm, which moves no weight, needs no more than one epoch
        }
        names = {(outcome.name, encoder.name, epochs, split) for outcome, encoder, epochs, split, _ in shared}
        assert len(names) == 1, case.name


def test_the_untrained_arms_move_no_weight_that_float32_could_show():
    arms = [(case, arm) for case in CASES for arm in case.arms if arm.name == "untrained"]
    assert {case.name for case, _ in arms} == {"one_cohort", "severity"}
    for case, arm in arms:
        optim = load_recipe(arm.recipe, (*case.settings, *arm.settings)).optim
        # An AdamW step is about as long as its learning rate; weights are about 0.01, whose float32 spacing is 1e-9.
        assert (optim.name, optim.epochs) == ("adamw", 1)
        assert optim.learning_rate <= 1e-12


@pytest.mark.slow
def test_a_tiny_comparison_gives_every_metric_of_every_arm(tmp_path):
    command = [
        sys.executable,
        "-m",
        "benchmarks.methods",
        "--quick",
        "--only",
        "one_cohort",
        "--plots",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (case,) = [case for case in CASES if case.name == "one_cohort"]
    metrics = {one["metric"]: one for one in json.loads(done.stdout)["one_cohort"]["metrics"]}
    assert "retrieval_at_1" in metrics
    for one in metrics.values():
        assert {row["method"] for row in one["rows"]} == {arm.name for arm in case.arms}
        assert all(len(row["by_seed"]) == 2 for row in one["rows"])
    assert {path.name for path in tmp_path.iterdir()} == {"one_cohort.png", "one_cohort_distances.png"}
