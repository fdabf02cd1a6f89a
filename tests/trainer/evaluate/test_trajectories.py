"""Embeddings by epoch are those of the encoder at that moment, and a spread of epochs keeps both ends."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from preprocess.errors import RunError
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import MODALITY, tiny_recipe
from tests.trainer.conftest import Finished
from trainer.data.cohort import Cohort, read_cohort
from trainer.evaluate.trajectories import embed_epochs, kept_epochs, spread
from trainer.fit.checkpoint import Checkpoints, load_state
from trainer.fit.loop import Loop
from trainer.fit.run import Run
from trainer.fit.train import train_run
from trainer.fit.trained import load_trained

Progress = Callable[[int, int], None]


def embed_one_by_one(encoder: torch.nn.Module, store: Store, cohort: Cohort) -> np.ndarray:
    stored = np.stack([store.read(int(row), MODALITY) for row in cohort.rows_N]).astype(np.float32) / 255
    with torch.no_grad():
        return encoder.eval()(torch.from_numpy(stored)).numpy()


def held_out(run: Run, store: Store) -> Cohort:
    return read_cohort(store, MODALITY, "mmse").of_subjects(run.split.of("test"))


def test_each_epoch_is_embedded_by_the_encoder_as_it_was_then(
    finished: Finished, tmp_path: Path, silent: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tiny_recipe(optim={"epochs": 4}, checkpoint={"keep": 4})
    weights: list[dict[str, torch.Tensor]] = []
    begun, closed = Loop.run, Loop._close_epoch

    def note(loop: Loop) -> None:
        weights.append({name: value.clone() for name, value in loop.model.encoder.state_dict().items()})

    def run_noted(loop: Loop, *arguments: object) -> None:
        note(loop)
        begun(loop, *arguments)

    def close_noted(loop: Loop) -> dict[str, float]:
        note(loop)
        return closed(loop)

    monkeypatch.setattr(Loop, "run", run_noted)
    monkeypatch.setattr(Loop, "_close_epoch", close_noted)
    train_run(recipe, finished.store, Location(tmp_path / "run"), progress=silent)
    run = Run.open(Location(tmp_path / "run"))
    cohort = held_out(run, finished.store)
    assert kept_epochs(run) == (0, 1, 2, 3, 4)
    found = embed_epochs(run, finished.store, cohort, kept_epochs(run))
    encoder = load_trained(run, finished.store).encoder
    for epoch, embeddings_NE in found.items():
        encoder.load_state_dict(weights[epoch])
        expected_NE = embed_one_by_one(encoder, finished.store, cohort)
        np.testing.assert_allclose(embeddings_NE, expected_NE, rtol=1e-5, atol=1e-6)
    assert all(not np.allclose(found[epoch], found[epoch + 1], atol=1e-5) for epoch in range(4))


def test_the_last_epoch_is_the_finished_model(finished: Finished) -> None:
    run = finished.run
    cohort = held_out(run, finished.store)
    expected_NE = embed_one_by_one(load_trained(run, finished.store).encoder, finished.store, cohort)
    found = embed_epochs(run, finished.store, cohort, [2])
    assert found.keys() == {2}
    np.testing.assert_allclose(found[2], expected_NE, rtol=1e-5, atol=1e-6)


def test_epochs_are_those_whose_checkpoints_are_there_and_untrained_only_without_a_file_of_weights(
    finished: Finished, tmp_path: Path
) -> None:
    run = finished.copy_to(tmp_path / "run")
    assert kept_epochs(run) == (0, 1, 2)
    run.recipe = run.recipe.model_copy(
        update={"encoder": run.recipe.encoder.model_copy(update={"initial_weights": "w.pt"})}
    )
    assert kept_epochs(run) == (1, 2)
    first = min(name for name in run.location.names("checkpoints") if name.endswith(".pt"))
    run.location.delete(first)
    assert kept_epochs(run) == (2,)
    run.location.delete("checkpoints")
    assert kept_epochs(run) == ()


def test_a_checkpoint_within_an_epoch_is_passed_over(finished: Finished, tmp_path: Path) -> None:
    run = finished.copy_to(tmp_path / "run")
    checkpoints = Checkpoints(run.location, keep=3)
    checkpoints.save(checkpoints.load_kept(3), step=4)  # an epoch has 3 steps
    assert checkpoints.kept() == (3, 4, 6)
    assert kept_epochs(run) == (0, 1, 2)


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(finished: Finished, tmp_path: Path) -> None:
    run = finished.copy_to(tmp_path / "run")
    cohort = held_out(run, finished.store)
    run.record = run.record.model_copy(update={"recipe": {**run.record.recipe, "seed": 5}})
    with pytest.raises(RunError, match="its recipe is not this run's"):
        embed_epochs(run, finished.store, cohort, [1])
    run = Run.open(run.location)
    name = min(name for name in run.location.names("checkpoints") if name.endswith(".pt"))
    assert load_state(run.location.read(name))["position"]["epoch"] == 1
    run.location.write(name, run.location.read(name)[:-1] + b"x")
    with pytest.raises(RunError, match="it is damaged"):
        embed_epochs(run, finished.store, cohort, [1])
    assert embed_epochs(run, finished.store, cohort, [0, 2]).keys() == {0, 2}


@given(st.lists(st.integers(0, 500), min_size=1, max_size=40, unique=True).map(sorted), st.integers(2, 8))
def test_a_spread_keeps_both_ends_and_as_many_epochs_as_there_is_room_for(epochs: list[int], most: int) -> None:
    chosen = spread(epochs, most)
    assert len(chosen) == min(most, len(epochs))
    assert (chosen[0], chosen[-1]) == (epochs[0], epochs[-1])
    assert sorted(set(chosen)) == list(chosen)
    assert set(chosen) <= set(epochs)


def test_a_spread_is_denser_early() -> None:
    # 1 + epoch: 1, 2.14, 4.58, 9.81, 21
    assert spread(range(21), 5) == (0, 1, 4, 9, 20)
