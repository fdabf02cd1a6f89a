"""A run's folder belongs to one recipe and one store, is begun once, and is finished when result.json says so."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import torch

from preprocess.errors import RunError, StoreError
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import default_scans, tiny_recipe, write_store
from trainer.data.splits import Split
from trainer.fit.run import Run, drop_weights, git_revision
from trainer.fit.run_files import Outcome
from trainer.recipe import TrainRecipe

OUTCOME = Outcome(
    finished="2026-11-26T12:00:00Z",
    steps=6,
    volumes_per_s=2.0,
    last_epoch={"loss": 1.0},
    score_statistics=None,
    progression_head=None,
)
SPLIT = Split(train=("a", "b"), validation=("c",), test=("d",))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_store(tmp_path / "store")


@pytest.fixture
def location(tmp_path: Path) -> Location:
    return Location(tmp_path / "run")


def test_a_begun_run_can_be_opened_with_its_recipe_and_split(store: Store, location: Location) -> None:
    recipe = tiny_recipe(seed=4)
    Run.start(location, recipe, store, SPLIT)
    run = Run.open(location)
    assert run.recipe == recipe
    assert run.split == SPLIT
    assert run.record.store_uri == store.location.uri
    assert run.record.index_sha256 == store.manifest.index_sha256
    assert run.result() is None


def test_starting_again_with_the_same_recipe_and_store_goes_on(store: Store, location: Location) -> None:
    first = Run.start(location, tiny_recipe(), store, SPLIT)
    assert Run.start(location, tiny_recipe(), store, SPLIT).record == first.record


def test_another_recipe_is_refused_with_both_values_of_each_setting(store: Store, location: Location) -> None:
    Run.start(location, tiny_recipe(), store, SPLIT)
    other = tiny_recipe(seed=9, optim={"epochs": 7}, objective=[{"name": "info_nce"}])
    with pytest.raises(RunError) as raised:
        Run.start(location, other, store, SPLIT)
    message = str(raised.value)
    assert "seed was 0 and is 9" in message
    assert "optim.epochs was 2 and is 7" in message
    assert "learning_rate" not in message
    assert "objective was " in message
    assert message.endswith("use that recipe to go on, or another --run")


def test_another_split_is_refused_with_the_number_of_subjects_and_one_of_them(store: Store, location: Location) -> None:
    Run.start(location, tiny_recipe(), store, SPLIT)
    for other, said in (
        (Split(train=("a", "d"), validation=("c",), test=("b",)), "2 subjects are in other parts, first b"),
        (Split(train=("a", "c"), validation=("b",), test=("d",)), "2 subjects are in other parts, first b"),
    ):
        with pytest.raises(RunError, match=f"started with another split: {said}; start a new run"):
            Run.start(location, tiny_recipe(), store, other)
    assert Run.open(location).split == SPLIT


def test_a_store_of_another_cohort_or_fingerprint_is_refused_with_both(store: Store, location: Location) -> None:
    Run.start(location, tiny_recipe(), store, SPLIT)
    other_cohort = write_store(Location(location.uri + "-b"), default_scans(num_subjects=9))
    with pytest.raises(RunError) as raised:
        Run.start(location, tiny_recipe(), other_cohort, SPLIT)
    assert store.manifest.index_sha256 in str(raised.value)
    assert other_cohort.manifest.index_sha256 in str(raised.value)
    other_recipe = write_store(Location(location.uri + "-c"), spacing_mm=11.0)
    with pytest.raises(RunError) as raised:
        Run.start(location, tiny_recipe(), other_recipe, SPLIT)
    assert store.manifest.fingerprint in str(raised.value)
    assert other_recipe.manifest.fingerprint in str(raised.value)
    with pytest.raises(StoreError, match=f"{other_recipe.manifest.fingerprint}, expected {store.manifest.fingerprint}"):
        Run.open(location).open_store(other_recipe.location.uri)


def test_a_store_that_was_moved_can_be_given(store: Store, location: Location, tmp_path: Path) -> None:
    Run.start(location, tiny_recipe(), store, SPLIT)
    (tmp_path / "store").rename(tmp_path / "moved")
    with pytest.raises(StoreError, match=r"no store\.json"):
        Run.open(location).open_store()
    moved = Run.open(location).open_store(str(tmp_path / "moved"))
    assert moved.manifest.fingerprint == store.manifest.fingerprint


def test_of_starters_at_the_same_time_one_begins_the_run_and_all_others_hold_theirs_against_it(
    store: Store, location: Location
) -> None:
    recipes = [tiny_recipe(seed=seed) for seed in range(6)]
    gate = Barrier(len(recipes))

    def start(recipe: TrainRecipe) -> Run | RunError:
        gate.wait()
        try:
            return Run.start(location, recipe, store, SPLIT)
        except RunError as error:
            return error

    with ThreadPoolExecutor(len(recipes)) as pool:
        outcomes = list(pool.map(start, recipes))
    begun = [one for one in outcomes if isinstance(one, Run)]
    assert len(begun) == 1
    assert json.loads(location.read("run.json"))["recipe"]["seed"] == begun[0].recipe.seed
    refused = [str(one) for one in outcomes if isinstance(one, RunError)]
    assert all(f"seed was {begun[0].recipe.seed} and is" in message for message in refused)


def test_what_is_no_run_is_refused(location: Location) -> None:
    with pytest.raises(RunError, match=r"no run\.json, so this is not a run; start it with interscan train"):
        Run.open(location)


def test_a_run_of_another_version_is_refused_with_the_setting(store: Store, location: Location) -> None:
    Run.start(location, tiny_recipe(), store, SPLIT)
    record = json.loads(location.read("run.json"))
    record["recipe"]["optim"]["momentum"] = 0.9
    location.write("run.json", json.dumps(record).encode())
    with pytest.raises(RunError, match=r"run\.json: optim\.momentum: no setting of this version"):
        Run.open(location)


def test_a_run_whose_recipe_still_says_target_is_refused_with_the_new_name(store: Store, location: Location) -> None:
    Run.start(location, tiny_recipe(task="regression"), store, SPLIT)
    record = json.loads(location.read("run.json"))
    recipe = record["recipe"]
    older = {**record, "recipe": {("target" if key == "task" else key): recipe[key] for key in recipe}}
    location.write("run.json", json.dumps(older).encode())
    for action in (lambda: Run.open(location), lambda: Run.start(location, tiny_recipe(), store, SPLIT)):
        with pytest.raises(RunError) as raised:
            action()
        assert str(raised.value) == f"{location.uri}/run.json: unknown key 'target'; target is now called task"
    location.write("run.json", json.dumps(record).encode())
    assert Run.open(location).recipe.task == "regression"


def test_a_run_is_finished_by_its_result_and_its_model_is_checked(store: Store, location: Location) -> None:
    run = Run.start(location, tiny_recipe(), store, SPLIT)
    with pytest.raises(RunError, match="the run is not finished"):
        run.load_model()
    run.finish({"weights": torch.arange(3)}, OUTCOME)
    model, result = Run.open(location).load_model()
    assert torch.equal(model["weights"], torch.arange(3))
    assert result.steps == 6
    location.write("model.pt", location.read("model.pt")[:-1] + b"x")
    with pytest.raises(RunError, match=rf"model.pt: SHA-256 \w{{12}} is not {result.model_sha256[:12]}"):
        run.load_model()


def test_dropped_weights_leave_everything_else_and_are_named_when_they_are_requested(
    store: Store, location: Location
) -> None:
    run = Run.start(location, tiny_recipe(), store, SPLIT)
    run.finish({"weights": torch.arange(3)}, OUTCOME)
    location.write("checkpoints/latest.json", b"{}")
    location.write("log.jsonl", b"")
    drop_weights(run.location)
    assert location.names() == ["log.jsonl", "result.json", "run.json"]
    assert run.result() is not None
    with pytest.raises(RunError, match=r"model\.pt: not there; cross-validation deletes .* --keep-runs"):
        Run.open(location).load_model()
    drop_weights(run.location)


def test_the_revision_is_one_line_with_a_commit_or_unknown() -> None:
    assert git_revision() == "unknown" or git_revision().removesuffix("-dirty").isalnum()


def test_outside_a_checkout_the_revision_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision() == "unknown"


def test_an_image_tells_what_it_was_built_from(monkeypatch):
    monkeypatch.setenv("INTERSCAN_REVISION", "0a1b2c3d4e5f")

    assert git_revision() == "0a1b2c3d4e5f"


@pytest.mark.parametrize("data", [b"", b'{"recipe": {', b"\xff\xfe", b"[]", b"{}", b'{"recipe": 1, "store_uri": "x"}'])
def test_a_damaged_record_is_one_line_with_the_remedy(store: Store, location: Location, data: bytes) -> None:
    Run.start(location, tiny_recipe(), store, SPLIT)
    location.write("run.json", data)
    for action in (lambda: Run.open(location), lambda: Run.start(location, tiny_recipe(), store, SPLIT)):
        with pytest.raises(RunError, match=r"run\.json: .* it is damaged; put back a copy of it, or start") as raised:
            action()
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("key", ["split", "recipe"])
@pytest.mark.parametrize("value", [None, 7, "text", [1], {"train": ["a"]}])
def test_a_record_of_another_shape_is_one_line_too(store: Store, location: Location, key: str, value: object) -> None:
    run = Run.start(location, tiny_recipe(), store, SPLIT)
    location.write("run.json", json.dumps({**run.record.to_dict(), key: value}).encode())
    with pytest.raises(RunError, match=r"run\.json: ") as raised:
        Run.open(location)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("data", [b"", b'{"finished": "20', b"\xff\xfe", b"[1]", b"{}"])
def test_a_damaged_result_is_one_line_that_says_how_to_finish_again(
    store: Store, location: Location, data: bytes
) -> None:
    run = Run.start(location, tiny_recipe(), store, SPLIT)
    run.finish({"encoder": {}}, OUTCOME)
    location.write("result.json", data)
    for action in (run.result, run.load_model):
        with pytest.raises(RunError, match=r"result\.json: .* damaged; delete result\.json and run the same"):
            action()
