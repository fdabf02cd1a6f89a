"""A cohort that stays on the training device changes what is read, and not one bit of what is learned."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from preprocess.errors import Interrupted, UsageError
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import default_scans, tiny_recipe, write_store
from tests.support.loops import EXACT, build_loop
from tests.support.processes import in_processes
from tests.support.visits import visit_recipe, write_visits
from tests.trainer.fit.test_train import assert_same_end, stop_after
from tests.trainer.fit.test_train_visits import assert_same_end as assert_same_visits
from trainer.fit.distributed import Group
from trainer.fit.run import Run
from trainer.fit.stop import StopRequest
from trainer.fit.supply import Supply, SupplyOptions
from trainer.fit.tracking import read_history
from trainer.fit.train import train_run
from trainer.recipe import TrainRecipe

Progress = Callable[[int, int], None]
ON_DEVICE = SupplyOptions(device_bytes=10**9)
"""As on a GPU with room for the cohort, on the device that trains: here the CPU."""
LEARNER = [{"name": "learner"}]
CASES: dict[str, dict[str, Any]] = {
    "pairs": {},
    "a part of the subjects": {"data": {"subjects_per_epoch": 0.6}},
    "scans": {"data": {"sampling": "scans"}, "objective": LEARNER},
    "three visits": {"data": {"sampling": "visits"}, "objective": [{"name": "chrono_contrast"}]},
    "two views": {"data": {"sampling": "scans", "views": 2}, "objective": [{"name": "nt_xent"}]},
    "cached gradients": {"optim": {"epochs": 4, "cache_chunk": 2}, "encoder": {"norm": "group"}},
    "the fast encoder": {"encoder": {"name": "fast"}},
}


def recipe_of(case: str) -> TrainRecipe:
    return tiny_recipe(**{"optim": {"epochs": 4}, **CASES[case]})


def hits(location: Location) -> list[float]:
    """Volumes of each epoch that were on the device."""
    return [entry.get("device_hits", 0.0) for entry in read_history(location)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("resident") / "store")


@pytest.fixture(scope="module")
def streamed_pairs(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Location:
    """The run of pairs that reads every epoch anew and was never stopped."""
    location = Location(tmp_path_factory.mktemp("streamed") / "run")
    options = SupplyOptions(keep_resident=False)
    train_run(recipe_of("pairs"), store, location, progress=lambda done, total: None, supply=options)
    return location


@pytest.mark.parametrize("case", CASES)
def test_a_run_with_its_cohort_on_the_device_ends_at_the_same_weights(
    store: Store, tmp_path: Path, silent: Progress, case: str
) -> None:
    recipe = recipe_of(case)
    kept, streamed = Location(tmp_path / "kept"), Location(tmp_path / "streamed")
    train_run(recipe, store, kept, progress=silent, supply=ON_DEVICE)
    train_run(recipe, store, streamed, progress=silent, supply=SupplyOptions(keep_resident=False))
    assert_same_end(kept, streamed)
    assert hits(streamed) == [0.0] * 4
    first, *_, last = hits(kept)
    assert (first, last > 0) == (0.0, True)
    assert Run.open(kept).load_model()[1].last_epoch["device_hits"] == last
    if case == "scans":
        assert hits(kept)[1:] == [entry["volumes"] for entry in read_history(kept)][1:]


@pytest.mark.parametrize("dtype", ["uint16", "float16", "float32"])
def test_every_stored_type_stays_as_it_is_stored(tmp_path: Path, silent: Progress, dtype: Any) -> None:
    store = write_store(tmp_path / "store", dtype=dtype)
    for name, options in (("kept", ON_DEVICE), ("streamed", SupplyOptions())):
        train_run(recipe_of("pairs"), store, Location(tmp_path / name), progress=silent, supply=options)
    assert_same_end(Location(tmp_path / "kept"), Location(tmp_path / "streamed"))
    assert hits(Location(tmp_path / "kept"))[-1] > 0


@pytest.mark.parametrize("step", [1, 2, 5, 9])
def test_a_run_that_was_stopped_fills_the_device_anew_and_ends_at_the_same_weights(
    store: Store, streamed_pairs: Location, tmp_path: Path, silent: Progress, step: int
) -> None:
    recipe = recipe_of("pairs")
    location = Location(tmp_path / "run")
    with pytest.raises(Interrupted):
        train_run(recipe, store, location, progress=stop_after(step), supply=ON_DEVICE)
    train_run(recipe, store, location, progress=silent, supply=ON_DEVICE)
    assert_same_end(location, streamed_pairs)
    # The first epoch after the stop reads; after step 9 that is the last one.
    assert (hits(location)[-1] > 0) is (step < 9)


def test_a_run_goes_on_where_volumes_stay_elsewhere(
    store: Store, streamed_pairs: Location, tmp_path: Path, silent: Progress
) -> None:
    location = Location(tmp_path / "run")
    for step, where in ((3, "auto"), (6, "none"), (9, "host")):
        recipe = tiny_recipe(optim={"epochs": 4}, data={"resident": where})
        with pytest.raises(Interrupted):
            train_run(recipe, store, location, progress=stop_after(step), supply=ON_DEVICE)
    train_run(recipe_of("pairs"), store, location, progress=silent, supply=ON_DEVICE)
    assert_same_end(location, streamed_pairs)


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"data": {"resident": "host"}}, ON_DEVICE),
        ({"data": {"resident": "none"}}, ON_DEVICE),
        ({"data": {"max_left_out": 1}}, ON_DEVICE),
        ({}, SupplyOptions(device_bytes=4096)),
        ({}, SupplyOptions()),  # on a CPU, whose memory is the machine's
    ],
)
def test_nothing_stays_on_the_device_where_it_shall_not_or_cannot(
    store: Store, tmp_path: Path, silent: Progress, settings: dict[str, Any], options: SupplyOptions
) -> None:
    location = Location(tmp_path / "run")
    train_run(tiny_recipe(**settings), store, location, progress=silent, supply=options)
    assert hits(location) == [0.0, 0.0]


def test_visits_of_several_modalities_stay_too(tmp_path: Path, silent: Progress) -> None:
    store = write_visits(tmp_path / "store")
    recipe = visit_recipe(optim={"epochs": 4, "learning_rate": 3e-3})
    kept, streamed = Location(tmp_path / "kept"), Location(tmp_path / "streamed")
    train_run(recipe, store, kept, progress=silent, supply=ON_DEVICE)
    train_run(recipe, store, streamed, progress=silent, supply=SupplyOptions(keep_resident=False))
    assert_same_visits(kept, streamed)
    first, *later = hits(kept)
    training = Run.open(kept).split.of("train")
    present = sum(record.present for record in store.records if record.subject_id in training)
    assert (first, later) == (0.0, [present] * 3)


def train_in(group: Group, store_uri: str, run: str, device_bytes: int | None) -> dict[str, Any]:
    """Three epochs of this process's part; the weights, and what was on its device."""
    recipe = tiny_recipe(optim={"epochs": 3}, data={"batch_size": 5})
    store = Store.open(store_uri)
    options = SupplyOptions(keep_resident=device_bytes is not None, device_bytes=device_bytes)
    supply = Supply(
        store,
        recipe.data.arrays,
        num_volumes=store.manifest.num_rows,
        in_flight=recipe.data.in_flight,
        options=options,
        compute=EXACT,
    )
    with supply:
        loop, _ = build_loop(recipe, store, Location(run), seed=7, group=group, supply=supply, every_epochs=99)
        loop._checkpoints.save_async = lambda *_, **__: None  # type: ignore[method-assign]
        loop.run(StopRequest(), None, lambda done, total: None)
    return {
        "weights": {name: value.clone() for name, value in loop.model.state_dict().items()},
        "hits": [entry.get("device_hits", 0.0) for entry in loop.position.history],
    }


def test_each_of_two_processes_keeps_what_it_has_read(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", default_scans(num_subjects=13, odd=False))
    arguments = (store.location.uri, str(tmp_path / "run"))
    streamed = in_processes(2, train_in, tmp_path / "streamed", *arguments, None)
    kept = in_processes(2, train_in, tmp_path / "kept", *arguments, 10**9)
    for process in kept:
        for name, value in streamed[0]["weights"].items():
            assert torch.equal(process["weights"][name], value), name
        # Drawn anew in each epoch, a process's part is partly what it had before.
        assert process["hits"][0] == 0.0
        assert 0.0 < process["hits"][2] <= 26.0
    assert kept[0]["hits"] == kept[1]["hits"]


def test_a_device_that_is_too_small_is_one_line_with_the_remedies(store: Store, tmp_path: Path) -> None:
    def full(done: int, total: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has ...")

    with pytest.raises(UsageError, match=r"cpu: out of memory \(CUDA out of memory\); lower data.batch_size .*'host'$"):
        train_run(tiny_recipe(), store, Location(tmp_path / "run"), progress=full)
    assert not Location(tmp_path / "run").exists("writer.json")
