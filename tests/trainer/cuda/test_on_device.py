"""Training on a device: number formats, resuming bit for bit, volumes that stay there, export; on the CPU every day."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preprocess.errors import Interrupted
from preprocess.storage import Location
from preprocess.store import Store
from preprocess.transforms import unit_scale
from tests.support.cohorts import MODALITY, default_scans, tiny_recipe, without_timing, write_store
from tests.support.loops import build_loop
from trainer.data.cohort import read_cohort
from trainer.data.drawing import drawing_for_visits
from trainer.data.stream import StreamOptions, VolumeStream
from trainer.evaluate.run import evaluate_run
from trainer.export.artefact import export_run
from trainer.fit.embedding import embed_cohort
from trainer.fit.precision import Compute, choose_compute
from trainer.fit.run import Run
from trainer.fit.stop import StopRequest
from trainer.fit.supply import Supply, SupplyOptions
from trainer.fit.tracking import read_history
from trainer.fit.train import train_run
from trainer.fit.trained import load_trained
from trainer.recipe import TrainRecipe

DEVICE_BYTES = 10**9
TF32 = 2e-3
"""Convolutions of a GPU may round float32 inputs to 10 bits (2^-11 each); embeddings are unit vectors."""


def recipe_on(device: torch.device, **changes: Any) -> TrainRecipe:
    return tiny_recipe(device=device.type, **{"optim": {"epochs": 3}, **changes})


def silent(done: int, total: int) -> None:
    """Progress that nobody sees."""


@contextmanager
def deterministic_or_skipped() -> Iterator[None]:
    """Skip where torch has no deterministic form of an operation on this device; its message names it."""
    try:
        yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        pytest.skip(str(error).partition(".")[0])


def weights_of(location: Location) -> dict[str, torch.Tensor]:
    state, _ = Run.open(location).load_model()
    return {f"{part}.{name}": value for part in ("encoder", "projector") for name, value in state[part].items()}


def assert_same_run(first: Location, second: Location) -> None:
    """Weights and history alike, bit for bit."""
    for (name, value), other in zip(weights_of(first).items(), weights_of(second).values(), strict=True):
        assert torch.equal(value, other), name
    assert without_timing(read_history(first)) == without_timing(read_history(second))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("device") / "store", default_scans(num_subjects=10, odd=False))


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("encoder", ["reference", "fast"])
@pytest.mark.parametrize("step", [2, 4])
def test_a_stopped_run_ends_on_this_device_where_a_whole_one_ends(
    store: Store, tmp_path: Path, device: torch.device, encoder: str, step: int
) -> None:
    recipe = recipe_on(device, encoder={"name": encoder})

    def stop(done: int, total: int) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with deterministic_or_skipped():
        train_run(recipe, store, Location(tmp_path / "whole"), progress=silent)
        with pytest.raises(Interrupted):
            train_run(recipe, store, Location(tmp_path / "run"), progress=stop)
        train_run(recipe, store, Location(tmp_path / "run"), progress=silent)
    assert_same_run(Location(tmp_path / "run"), Location(tmp_path / "whole"))


@pytest.mark.usefixtures("deterministic")
@pytest.mark.parametrize("cache_chunk", [0, 2])
def test_volumes_that_stay_on_the_device_change_no_bit(
    store: Store, tmp_path: Path, device: torch.device, cache_chunk: int
) -> None:
    # The fast encoder: pooling, which the reference has, is not deterministic on a GPU.
    encoder = {"name": "fast", "norm": "group"}
    changes: dict[str, Any] = {"optim": {"epochs": 3, "cache_chunk": cache_chunk}, "encoder": encoder}
    # On a GPU what is left beside the model decides; a CPU's memory is the machine's, so a test has to say how much.
    options = SupplyOptions(device_bytes=None if device.type == "cuda" else DEVICE_BYTES)
    kept, streamed = Location(tmp_path / "kept"), Location(tmp_path / "streamed")
    with deterministic_or_skipped():
        train_run(recipe_on(device, **changes), store, kept, progress=silent, supply=options)
        changes["data"] = {"resident": "none"}
        train_run(recipe_on(device, **changes), store, streamed, progress=silent, supply=options)
    assert_same_run(kept, streamed)
    assert read_history(kept)[-1]["device_hits"] > 0
    assert "device_hits" not in read_history(streamed)[-1]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_reduced_precision_learns_as_float32_does(
    store: Store, tmp_path: Path, device: torch.device, precision: str
) -> None:
    # One epoch at the initial weights: its loss shows what the numbers were, not where rounding has led.
    standing = {"objective": [{"name": "learner", "variant": "mse"}], "optim": {"epochs": 1, "learning_rate": 1e-12}}
    losses = {}
    for name in ("float32", precision):
        recipe = tiny_recipe(device=device.type, **standing)
        compute = choose_compute(device.type, name)  # type: ignore[arg-type]
        loop, _ = build_loop(recipe, store, Location(tmp_path / name), seed=0, compute=compute)
        scaler = loop._scaler
        loop.run(StopRequest(), None, silent)
        losses[name] = loop.position.history[0]["loss"]
        assert scaler.is_enabled() is (name == "float16")
        if scaler.is_enabled():
            assert float(scaler.get_scale()) > 1  # the gradients of a standing model do not overflow for long
        assert all(value.isfinite().all() for value in loop.model.state_dict().values())
    # Half a unit in the last place of 8 bits, a few layers deep.
    assert losses[precision] == pytest.approx(losses["float32"], rel=0.05)


def test_batches_that_are_copied_beside_computation_arrive_whole(store: Store, device: torch.device) -> None:
    pinned = device.type == "cuda"
    batches = [np.array([row, (row + 5) % 30]) for row in range(30)]
    busy = torch.randn(512, 512, device=device)
    arrived = []
    with VolumeStream(
        store, MODALITY, batches, StreamOptions(pin_memory=pinned, reuse=True, budget_bytes=6 * 2 * 16**3)
    ) as stream:
        for batch in stream:
            assert batch.is_pinned() is pinned
            busy = busy @ busy / 512  # the copy waits its turn while the next batches are read
            arrived.append(batch.to(device, non_blocking=pinned, copy=True))
    for rows, batch in zip(batches, arrived, strict=True):
        np.testing.assert_array_equal(batch.cpu().numpy(), np.stack([store.read(int(row), MODALITY) for row in rows]))


def test_what_was_trained_on_the_device_is_exported_and_agrees_on_the_cpu(
    store: Store, tmp_path: Path, device: torch.device
) -> None:
    location = Location(tmp_path / "run")
    train_run(recipe_on(device), store, location, progress=silent)
    run = Run.open(location)
    evaluate_run(run)
    manifest = export_run(run, Location(tmp_path / "artefact"))
    assert "model.ts" in manifest.files
    cohort = read_cohort(store, MODALITY, "mmse")
    trained = load_trained(run, store)
    found = {
        where.type: embed_cohort(trained.encoder.to(where), store, (MODALITY,), cohort, Compute(where, torch.float32))
        for where in (torch.device("cpu"), device)
    }
    np.testing.assert_allclose(found[device.type], found["cpu"], atol=TF32)
    program = torch.export.load(tmp_path / "artefact" / "embed.pt2").module()
    voxels = np.stack([store.read(int(row), MODALITY) for row in cohort.rows_N[:3]])
    volumes = torch.from_numpy(voxels.astype(np.float32) * np.float32(unit_scale("uint8")))
    np.testing.assert_allclose(program(volumes).detach().numpy(), found[device.type][:3], atol=TF32)


def test_the_supply_of_a_device_keeps_there_what_fits(store: Store, device: torch.device) -> None:
    recipe = recipe_on(device)
    options = SupplyOptions(device_bytes=DEVICE_BYTES)
    batches = [np.array([[0, 1], [3, 4]]), np.array([[6, 7]]), np.array([[9, 10]])]
    with Supply(
        store,
        recipe.data.arrays,
        num_volumes=20,
        in_flight=recipe.data.in_flight,
        options=options,
        compute=Compute(device, torch.float32),
    ) as supply:
        for epoch in range(2):
            with supply.stream(batches, [np.ones((rows.size, 1), dtype=np.bool_) for rows in batches]) as stream:
                for rows, read in zip(batches, stream, strict=True):
                    batch = read.stored[MODALITY].unflatten(0, rows.shape)
                    assert batch.device.type == device.type
                    expected = [[store.read(row, MODALITY) for row in sample] for sample in rows.tolist()]
                    np.testing.assert_array_equal(batch.cpu().numpy(), np.stack(expected))
            assert stream.counts.device_hits == 8 * epoch


def test_a_step_draws_from_generators_of_its_own_on_the_device_too(device: torch.device) -> None:
    drawn, after = [], []
    for before in (1, 2):
        torch.manual_seed(before)
        with drawing_for_visits(7, device, first=3):
            drawn.append(torch.rand(8, device=device))
        after.append(torch.rand(8, device=device))
        torch.manual_seed(before)
        assert torch.equal(torch.rand(8, device=device), after[-1])
    assert torch.equal(*drawn)
    assert not torch.equal(*after)
