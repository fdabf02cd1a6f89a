"""Every recipe goes from its cohort's raw files to the figure its paper reports, with the program itself."""

import json
from pathlib import Path

import pytest

from interscan.cli import run
from trainer.recipe import named_recipes

BRAIN = {
    "clinimcl": "retrieval_at_1",
    "clinimcl-reference": "retrieval_at_1",
    "demo": "accuracy",
    "mse": "accuracy",
    "learner-mri": "stranger_correlation",
    "simclr": "accuracy",
    "supcon": "accuracy",
    "rank": "stranger_correlation",
    "chrono": "accuracy",
    "supremix": "probe_mae",
}
"""Recipe and a figure that its evaluation must have."""
SMALL = ["--set", "encoder.embedding_width=16", "--set", "split.validation=0.2", "--set", "split.test=0.3"]


@pytest.fixture(scope="module")
def brain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("brain")
    assert run(["synth", "brain", str(folder / "raw"), "--subjects", "16", "--spacing-mm", "3.5"]) == 0
    small = ["--set", "grid=[32,32,32]", "--set", "spacing_mm=6"]
    assert run(["preprocess", str(folder / "raw"), str(folder / "store"), *small]) == 0
    return folder / "store"


def follow(
    recipe: str, store: Path, place: Path, capsys: pytest.CaptureFixture[str], *settings: str
) -> dict[str, float]:
    """Train and evaluate; the metrics."""
    command = ["train", recipe, "--store", str(store), "--run", str(place), *SMALL, *settings]
    assert run(command) == 0
    capsys.readouterr()
    assert run(["evaluate", str(place), "--json"]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    return {name: metric["value"] for name, metric in metrics.items()}


@pytest.mark.parametrize("recipe", BRAIN)
def test_recipes_for_heads_end_in_their_figure(
    recipe: str, brain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = follow(recipe, brain, tmp_path / "run", capsys, "--set", "optim.epochs=1")
    assert metrics[BRAIN[recipe]] is not None
    assert (tmp_path / "run" / "evaluation" / "report.html").stat().st_size > 10_000


def test_every_recipe_is_followed_by_a_test() -> None:
    assert set(BRAIN) <= set(named_recipes())
