"""The subjects that count as training and as held out are those of the splits that runs really get."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.method_cases import CASES
from benchmarks.method_cohorts import NUM_SUBJECTS
from benchmarks.method_comparison import Overlap
from benchmarks.method_overlap import compare_case, overlap_of
from tests.support.cohorts import MODALITY, default_scans, write_store
from trainer.data.cohort import read_cohort
from trainer.fit.run_plan import RunPlan
from trainer.recipe import load_recipe

BY_NAME = {case.name: case for case in CASES}


@pytest.mark.parametrize("name", ["one_cohort", "supremix_mmse_25"])
def test_sizes_are_those_of_the_runs(name: str, tmp_path: Path) -> None:
    store = write_store(tmp_path, default_scans(num_subjects=30, odd=False))
    case = BY_NAME[name]
    arm = next(one for one in case.arms if one.name == case.baseline)
    plans = []
    for seed in range(3):
        recipe = load_recipe(arm.recipe, (*case.settings, *arm.settings, f"seed={seed}"))
        plans.append(RunPlan.of(recipe, read_cohort(store, MODALITY, "mmse")))
    found = overlap_of(case, 30, num_seeds=3)
    assert found.num_test == np.mean([len(plan.split.test) for plan in plans])
    assert found.num_train == np.mean([len(plan.split.train) + len(plan.split.validation) for plan in plans])


def test_the_published_comparison_held_out_as_many_as_the_pages_say() -> None:
    found = {name: overlap_of(BY_NAME[name], NUM_SUBJECTS[BY_NAME[name].cohort], num_seeds=5) for name in BY_NAME}
    assert {name: one.num_test for name, one in found.items() if not name.startswith("supremix")} == {
        "one_cohort": 36, "severity": 18, "joint_complete": 72, "joint_missing": 72}  # fmt: skip
    assert found["one_cohort"].num_train == 84
    assert found["supremix_mmse_25"].num_train < found["supremix_mmse_50"].num_train < 84


def test_minutes_score_no_subject_and_a_metric_that_an_arm_lacks_is_left_out() -> None:
    case = BY_NAME["joint_complete"]
    generator = np.random.default_rng(0)
    table = {arm.name: {seed: float(generator.normal()) for seed in range(4)} for arm in case.arms}
    partial = {name: by_seed for name, by_seed in table.items() if name != "css"}
    overlap = Overlap(168, 72)
    found = compare_case(case, {"auc": table, "minutes": table, "balanced_accuracy": partial}, overlap, baseline="cmc")
    assert [(one.metric, one.overlap, one.baseline) for one in found] == [
        ("auc", overlap, "cmc"), ("minutes", None, "cmc")]  # fmt: skip
