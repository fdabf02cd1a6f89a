"""Every recipe goes from its cohort's raw files to the metric its paper reports, with the program itself."""

import json
from pathlib import Path

import pytest

from interscan.cli import run
from trainer.recipe import named_recipes

BRAIN = {
    "clinimcl": "retrieval_at_1",
    "clinimcl-reference": "retrieval_at_1",
    "change": "coverage",
    "demo": "told_change_slope",
    "mse": "accuracy",
    "learner-mri": "stranger_correlation",
    "simclr": "accuracy",
    "supcon": "accuracy",
    "rank": "stranger_correlation",
    "chrono": "accuracy",
    "supremix": "probe_mae",
}
"""Recipe and a metric that its evaluation must have."""
TRAIN_MOST = ["--set", "split.validation=0.1", "--set", "split.test=0.12"]
"""Members calibrate each other on ten training people or more."""
SMALL = ["--set", "encoder.embedding_width=16", "--set", "split.validation=0.2", "--set", "split.test=0.3"]


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("brain")
    assert run(["synth", "brain", str(folder / "raw"), "--subjects", "16", "--spacing-mm", "3.5"]) == 0
    small = ["--set", "grid=[32,32,32]", "--set", "spacing_mm=6"]
    assert run(["preprocess", str(folder / "raw"), str(folder / "store"), *small]) == 0
    return folder / "store"


def follow(
    recipe: str, store: Path, run_folder: Path, capsys: pytest.CaptureFixture[str], *settings: str
) -> dict[str, float]:
    """Train and evaluate; the metrics."""
    command = ["train", recipe, "--store", str(store), "--run", str(run_folder), *SMALL, *settings]
    assert run(command) == 0
    capsys.readouterr()
    assert run(["evaluate", str(run_folder), "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    return {name: metric["value"] for name, metric in metrics.items()}


@pytest.mark.parametrize("recipe", BRAIN)
def test_recipes_for_heads_end_in_their_metric(
    recipe: str, brain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = TRAIN_MOST if recipe in ("change", "demo") else []
    metrics = follow(recipe, brain, tmp_path / "run", capsys, "--set", "optim.epochs=1", *more)
    assert metrics[BRAIN[recipe]] is not None
    assert (tmp_path / "run" / "evaluation" / "report.html").stat().st_size > 10_000


def test_learner_on_clips_goes_from_a_table_of_clips_to_its_metrics(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, store = tmp_path / "raw", tmp_path / "store"
    assert (
        run(["synth", "lung", str(raw), "--subjects", "10", "--visits", "2", "--size-px", "48", "--frames", "10"]) == 0
    )
    clips = ["--modality", "LUS", "--set", "kinds.LUS=clip", "--set", "clip.frames=8", "--set", "clip.size=[32,32]"]
    assert run(["preprocess", str(raw / "scans.csv"), str(store), *clips]) == 0
    metrics = follow("learner-lus", store, tmp_path / "run", capsys, "--set", "optim.epochs=1")
    assert metrics["stranger_correlation"] is not None
    assert metrics["mae"] is not None


@pytest.mark.parametrize("recipe", ["conpro", "conpro-reference"])
def test_conpro_goes_from_pictures_to_the_order_of_severity(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, store = tmp_path / "raw", tmp_path / "store"
    assert run(["synth", "severity", str(raw), "--subjects", "30", "--size-px", "48", "--balanced"]) == 0
    pictures = ["--modality", "fundus", "--set", "kinds.fundus=image", "--set", "image.size=[32,32]"]
    assert run(["preprocess", str(raw / "scans.csv"), str(store), *pictures, "--set", "image.channels=3"]) == 0
    short = ["--set", "phase.0.epochs=1", "--set", "phase.1.epochs=1"]
    metrics = follow(recipe, store, tmp_path / "run", capsys, *short)
    assert {"severity_macro_f1", "severity_maee", "severity_tau_b", "severity_auc_abnormal"} <= metrics.keys()
    assert metrics["severity_maee"] >= 1


def test_joint_goes_from_matrices_to_two_classes_with_modalities_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw, store = tmp_path / "raw", tmp_path / "store"
    assert run(["synth", "connectome", str(raw), "--subjects", "40"]) == 0
    kinds = [part for name in ("SC", "FC", "radiomics", "clinical") for part in ("--set", f"kinds.{name}=array")]
    names = [part for name in ("SC", "FC", "radiomics", "clinical") for part in ("--modality", name)]
    assert run(["preprocess", str(raw / "scans.csv"), str(store), *names, *kinds]) == 0
    command = ["train", "joint", "--store", str(store), "--run", str(tmp_path / "run"), "--set", "optim.epochs=2"]
    four = 'data.modalities=["SC", "FC", "radiomics", "clinical"]'
    assert run([*command, "--set", four, "--set", "split.test=0.3", "--set", "split.validation=0.2"]) == 0
    capsys.readouterr()
    assert run(["evaluate", str(tmp_path / "run"), "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    assert 0 <= metrics["class_auc"]["value"] <= 1
    assert {"class_balanced_accuracy", "class_sensitivity", "class_specificity"} <= metrics.keys()
    # What cannot be exported says so at once, in one line.
    assert run(["export", str(tmp_path / "run"), str(tmp_path / "artefact")]) == 3
    assert "and an artefact takes one scan; export a run of one modality" in capsys.readouterr().err


def test_every_recipe_is_followed_by_a_test() -> None:
    assert {*BRAIN, "learner-lus", "conpro", "conpro-reference", "joint"} == set(named_recipes())
