"""A single network's head on scores is calibrated on the validation subjects, with the linear score beside it."""

from pathlib import Path

import pytest
import torch

from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import default_scans, tiny_recipe, write_store
from trainer.encoders.change_head import ChangeHead
from trainer.encoders.linear_score import WithLinearScore
from trainer.fit.checkpoint import Checkpoints
from trainer.fit.run import Run
from trainer.fit.train import train_run
from trainer.fit.trained import load_trained
from trainer.recipe import TrainRecipe


def on_score(linear_grid: int) -> TrainRecipe:
    return tiny_recipe(
        objective=[{"name": "pair_change"}],
        split={"validation": 0.4, "test": 0.2},
        encoder={"name": "fast", "linear_grid": linear_grid},
        head={"on": "score"},
        optim={"epochs": 1},
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("finishing") / "store", default_scans(num_subjects=26, odd=False))


@pytest.mark.parametrize("linear_grid", [0, 2])
def test_validation_subjects_calibrate_the_head_of_a_single_network(
    store: Store, tmp_path: Path, linear_grid: int
) -> None:
    location = Location(tmp_path / "run")
    result = train_run(on_score(linear_grid), store, location, progress=lambda done, total: None)
    run = Run.open(location)
    assert result.progression_head is not None
    assert result.progression_head.change is not None
    assert result.progression_head.change.num_people == len(run.split.validation)
    trained = load_trained(run, store)
    assert isinstance(trained.head, ChangeHead)
    assert isinstance(trained.encoder, WithLinearScore) is (linear_grid > 0)
    assert trained.score_head is not None
    width = trained.encoder.width_joined()
    assert width == 8 + (linear_grid > 0)
    weights = trained.score_head.linear.weight.detach()
    if linear_grid:
        assert float(weights[0, -1]) == pytest.approx(0.5)  # the mean of both scores
    head_points = trained.head.direction.weight.detach()
    assert result.score_statistics is not None
    torch.testing.assert_close(head_points, weights * result.score_statistics.sd)


def test_a_mirrored_volume_tells_the_same_change(store: Store, tmp_path: Path) -> None:
    recipe, location = on_score(2), Location(tmp_path / "run")
    mirror = recipe.model_copy(update={"encoder": recipe.encoder.model_copy(update={"mirror": True})})
    train_run(mirror, store, location, progress=lambda done, total: None)
    trained = load_trained(Run.open(location), store)
    draws = torch.Generator().manual_seed(0)
    earlier, later = (torch.rand(4, 1, 16, 16, 16, generator=draws) for _ in range(2))
    with torch.inference_mode():
        embedded = [trained.encoder(volumes) for volumes in (earlier, later, later.flip(2))]
    told, flipped = (trained.improvements((one - embedded[0]).numpy()) for one in embedded[1:])
    assert told is not None
    assert flipped is not None
    assert abs(told - flipped).max() < 1e-3 < abs(told).max()


def test_a_run_that_finishes_on_its_best_epoch_ends_with_those_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_store(tmp_path / "store", default_scans(odd=False))
    recipe = tiny_recipe(optim={"epochs": 4}, checkpoint={"best": "retrieval_at_1", "finish": "best", "keep": 4})
    values = iter([0.1, 0.9, 0.5, 0.2])
    monkeypatch.setattr(
        "trainer.fit.train.validation_figures", lambda *_: [lambda *_: {"retrieval_at_1": next(values)}]
    )

    train_run(recipe, store, Location(tmp_path / "run"), progress=lambda done, total: None)

    state, _ = Run.open(Location(tmp_path / "run")).load_model()
    checkpoints = Checkpoints(Location(tmp_path / "run"), keep=4)
    second, last = checkpoints.load_best(), checkpoints.load_latest()
    assert second is not None
    assert last is not None
    assert (second["position"]["epoch"], last["position"]["epoch"]) == (2, 4)
    prefix = "encoder."
    own = {name.removeprefix(prefix): value for name, value in second["model"].items() if name.startswith(prefix)}
    assert all(torch.equal(value, own[name]) for name, value in state["encoder"].items())
    assert not all(torch.equal(value, last["model"][prefix + name]) for name, value in state["encoder"].items())
