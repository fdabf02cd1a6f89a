"""The benchmark on real images: its arms can be followed, its table holds the metrics, a tiny run answers all."""

import json
import subprocess
import sys

import pytest

from benchmarks.real_images import NO_MODEL, QUESTIONS, UNTRAINED, cell, judged, table
from benchmarks.running import ROOT
from trainer.contradictions import refuse_contradictions
from trainer.recipe import load_recipe


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_arms_can_be_followed_differ_and_share_what_they_must(question) -> None:
    recipes = {arm.name: load_recipe(arm.recipe, (*question.settings, *arm.settings)) for arm in question.arms}
    for name, recipe in recipes.items():
        refuse_contradictions(recipe, where=name)
    assert len({recipe.model_dump_json(exclude={"name"}) for recipe in recipes.values()}) == len(question.arms)
    shared = {(one.outcome.name, one.encoder, one.epochs, one.split, one.data.modality) for one in recipes.values()}
    assert len(shared) == 1


def test_cells_hold_mean_and_range_of_metrics_and_the_largest_p() -> None:
    assert cell("auc", [0.5, 0.7]) == "0.60 (0.50 to 0.70)"
    assert cell("auc", [0.5]) == "0.50"
    assert cell("p", [0.01, 0.2]) == cell("p_auc", [0.2, 0.01]) == "0.2"
    assert cell("auc", []) == ""


def test_a_table_says_too_few_to_tell_where_a_seed_falls_short() -> None:
    question = next(one for one in QUESTIONS if one.name == "lungs")
    sure, unsure = {"auc_sf": 1.0, "p_auc_sf": 0.0095}, {"auc_sf": 0.9, "p_auc_sf": 0.067}
    rows = {
        name: {"verdict": judged(question, found), "by_seed": found}
        for name, found in {"one": [sure, sure], "other": [sure, unsure]}.items()
    }
    one, other = table(question, rows).splitlines()[-2:]
    assert one.startswith("| one | 1.00 | 0.0095 |")
    assert one.endswith("| better than guessing |")
    assert other.startswith("| other | 0.95 (0.90 to 1.00) | 0.067 |")
    assert other.endswith("| too few to tell |")


@pytest.mark.slow
@pytest.mark.real_data
def test_a_tiny_run_answers_every_question_for_every_model(real_data, tmp_path) -> None:
    command = [sys.executable, "-m", "benchmarks.real_images", "--quick", "--seeds", "1", "--data", str(real_data)]
    command += ["--out", str(tmp_path / "out.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert json.loads((tmp_path / "out.json").read_text()) == result
    for question in QUESTIONS:
        models = result[question.name]["models"]
        without = [NO_MODEL] if question.baseline is not None else []
        assert list(models) == [*(arm.name for arm in question.arms), UNTRAINED, *without]
        for row in models.values():
            (metrics,) = row["by_seed"]
            assert 0 < metrics[question.p] <= 1
        assert f"### {question.name}" in done.stderr


def test_a_folder_without_real_images_is_named(tmp_path) -> None:
    command = [sys.executable, "-m", "benchmarks.real_images", "--data", str(tmp_path / "none")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no such folder; give the folder that holds mri_longitudinal" in done.stderr
