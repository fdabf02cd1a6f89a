"""A run ends at the same weights however often it was cut off; what cannot be followed leaves no run behind."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preprocess.errors import Interrupted, RunError, StorageError, UsageError
from preprocess.lease import Lease
from preprocess.storage import Location
from tests.support.cohorts import (
    TIMING_FIELDS,
    TinyScan,
    default_scans,
    recipe_toml,
    tiny_recipe,
    without_timing,
    write_store,
)
from tests.support.processes import changed_since
from tests.support.troubled import TroubledLocation
from tests.trainer.conftest import Finished
from trainer.data.cohort import read_cohort
from trainer.fit import train as train_module
from trainer.fit.checkpoint import Checkpoints
from trainer.fit.run import Run
from trainer.fit.tracking import read_history
from trainer.fit.train import train_run
from trainer.recipe import TrainRecipe

Progress = Callable[[int, int], None]
ONE_VALIDATION_SUBJECT = {
    "objective": [{"name": "info_nce"}], "split": {"validation": 0.07}, "checkpoint": {"best": "retrieval_at_1"}
}  # fmt: skip


def stop_after(step: int) -> Progress:
    """Progress that sends this process SIGTERM after a step."""

    def progress(done: int, total: int) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    return progress


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """A nested mapping with one name for each leaf."""
    if not isinstance(value, dict):
        return {name: value}
    return {leaf: one for key, part in value.items() for leaf, one in flat(part, f"{name}.{key}").items()}


def assert_same_end(first: Location, second: Location) -> None:
    """Weights, head, history and result alike, bit for bit, apart from the clock."""
    (state, result), (other_state, other_result) = (Run.open(location).load_model() for location in (first, second))
    leaves, other_leaves = flat(state), flat(other_state)
    assert leaves.keys() == other_leaves.keys()
    for name, tensor in leaves.items():
        assert torch.equal(tensor, other_leaves[name]), name
    assert without_timing(read_history(first)) == without_timing(read_history(second))
    clock = {*TIMING_FIELDS, "finished"}
    plain, other_plain = (
        {name: one for name, one in flat(ended.to_dict()).items() if name.rpartition(".")[2] not in clock}
        for ended in (result, other_result)
    )
    assert plain == other_plain


@pytest.mark.parametrize("step", [1, 2, 3, 4, 6])
def test_a_run_stopped_by_sigterm_and_resumed_ends_where_an_uninterrupted_one_ends(
    finished: Finished, tmp_path: Path, silent: Progress, step: int
) -> None:
    location = Location(tmp_path / "run")
    with pytest.raises(Interrupted, match=f"stopped after step {step} of 6") as raised:
        train_run(finished.recipe, finished.store, location, progress=stop_after(step))
    assert raised.value.exit_code == 130
    assert Run.open(location).result() is None
    train_run(finished.recipe, finished.store, location, progress=silent)
    assert_same_end(location, Location(finished.folder))


def test_a_run_stopped_after_every_single_step_ends_there_too(
    finished: Finished, tmp_path: Path, silent: Progress
) -> None:
    location = Location(tmp_path / "run")
    for step in range(1, 7):
        with pytest.raises(Interrupted):
            train_run(finished.recipe, finished.store, location, progress=stop_after(step))
    train_run(finished.recipe, finished.store, location, progress=silent)
    assert_same_end(location, Location(finished.folder))


def test_a_resumed_run_reports_steps_from_where_it_was(finished: Finished, tmp_path: Path) -> None:
    location = Location(tmp_path / "run")
    with pytest.raises(Interrupted):
        train_run(finished.recipe, finished.store, location, progress=stop_after(4))
    seen: list[tuple[int, int]] = []
    train_run(finished.recipe, finished.store, location, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(5, 6), (6, 6)]


@pytest.mark.bucket
def test_a_run_in_a_bucket_resumes_to_the_same_end(
    finished: Finished, bucket: str, tmp_path: Path, silent: Progress
) -> None:
    store = write_store(Location(f"{bucket}/store"))
    assert store.manifest == finished.store.manifest
    location = Location(f"{bucket}/run")
    with pytest.raises(Interrupted):
        train_run(finished.recipe, store, location, progress=stop_after(2))
    train_run(finished.recipe, store, location, progress=silent)
    assert_same_end(location, Location(finished.folder))


def command(recipe: Path, store: Path, run: Path) -> list[str]:
    return [sys.executable, "-m", "interscan", "train", str(recipe), "--store", str(store), "--run", str(run)]


def start(recipe: Path, store: Path, run: Path) -> "subprocess.Popen[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(recipe, store, run), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 120
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def assert_survives_kills(tmp_path: Path, silent: Progress, *, seed: int, num_kills: int) -> None:
    """Kill a run at random moments, then let it end; after each kill the pointers name whole states."""
    recipe = tiny_recipe(optim={"epochs": 6 + 2 * num_kills}, checkpoint={"best": "loss"})
    write_store(tmp_path / "store")
    (tmp_path / "tiny.toml").write_text(recipe_toml(recipe))
    # The same command in both runs: bitwise is promised between equal processes, not beside other tests' state.
    finish(tmp_path, "whole")
    draws = random.Random(seed)
    location = Location(tmp_path / "run")
    in_training = 0
    for _ in range(num_kills):
        began = time.time()
        with start(tmp_path / "tiny.toml", tmp_path / "store", tmp_path / "run") as process:
            # From the moment it holds the run; a tenth of the kills falls before that.
            lease = tmp_path / "run" / "writer.json"
            if draws.random() > 0.1:
                wait_for(lambda began=began, lease=lease: changed_since(lease, began), process)
            time.sleep(draws.random() * 0.5)
            process.kill()
        if process.returncode == -signal.SIGKILL:
            in_training += changed_since(lease, began)
            Checkpoints(location, keep=2).load_latest()  # whole, or not there: anything else is an error
            Checkpoints(location, keep=2).load_best()
    assert in_training > 0  # on a busy machine most fall outside
    finish(tmp_path, "run")
    assert_same_end(location, Location(tmp_path / "whole"))
    ends = [Checkpoints(Location(tmp_path / name), keep=2).load_best() for name in ("run", "whole")]
    leaves, other_leaves = (flat(state["model"]) for state in ends if state is not None)
    assert all(torch.equal(value, other_leaves[name]) for name, value in leaves.items())


def finish(folder: Path, name: str) -> None:
    with start(folder / "tiny.toml", folder / "store", folder / name) as process:
        _, log = process.communicate(timeout=240)
    assert process.returncode == 0, log


def test_a_run_killed_at_random_moments_and_started_again_ends_where_an_uninterrupted_one_ends(
    tmp_path: Path, silent: Progress
) -> None:
    assert_survives_kills(tmp_path, silent, seed=0, num_kills=3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 6))
def test_a_run_killed_many_times_ends_where_an_uninterrupted_one_ends(
    tmp_path: Path, silent: Progress, seed: int
) -> None:
    assert_survives_kills(tmp_path, silent, seed=seed, num_kills=10)


@pytest.mark.parametrize("hanging", ["", "step-00000003", "latest.json"])
def test_a_stop_is_durable_within_12_seconds_on_a_bucket_that_stalls(
    finished: Finished, tmp_path: Path, silent: Progress, hanging: str
) -> None:
    location = TroubledLocation(tmp_path / "run")
    location.hanging = hanging  # the upload of the first epoch; it never ends while the run stops
    requested = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal requested
        if done == 4:
            assert not hanging or location.reached.wait(60)  # or the last save would meet the hanging request
            location.delay_s = 0.6  # of every request, read or write
            requested = time.monotonic()
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="stopped after step 4 of 6, checkpoint written"):
        train_run(finished.recipe, finished.store, location, progress=progress)
    assert time.monotonic() - requested < 12
    assert Location(tmp_path / "run").exists("checkpoints/latest.json")
    state = Checkpoints(Location(tmp_path / "run"), keep=2).load_latest()
    assert state is not None
    assert state["position"]["step"] == 4
    location.go_on.set()
    train_run(finished.recipe, finished.store, Location(tmp_path / "run"), progress=silent)
    assert_same_end(Location(tmp_path / "run"), Location(finished.folder))


def test_an_upload_that_keeps_failing_ends_the_run_at_the_next_step(
    finished: Finished, tmp_path: Path, silent: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.fit.checkpoint._BACKOFF_S", 0.0)
    location = TroubledLocation(tmp_path / "run")
    location.refusals = {"step-": 3}
    with pytest.raises(StorageError, match=r"the checkpoint of step 3 is not written after 3 tries: .*connection lost"):
        train_run(finished.recipe, finished.store, location, progress=silent)
    assert not location.exists("writer.json")


def test_a_second_command_on_a_run_says_who_trains_it_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "long.toml").write_text(recipe_toml(tiny_recipe(optim={"epochs": 5000})))
    write_store(tmp_path / "store")
    paths = (tmp_path / "long.toml", tmp_path / "store", tmp_path / "run")
    with start(*paths) as first:
        wait_for((tmp_path / "run" / "log.jsonl").exists, first)
        with start(*paths) as second:
            output, log = second.communicate(timeout=60)
        assert first.poll() is None
        first.terminate()
        first.communicate(timeout=60)
    assert (first.returncode, second.returncode, output) == (130, 3, "")
    refusal = log.strip().splitlines()[-1]
    assert f"pid {first.pid} trains this run since 2" in refusal
    assert re.search(r"last heartbeat \d+ s ago; wait until it ends, or use another --run$", refusal)
    assert not (tmp_path / "run" / "writer.json").exists()


def test_a_process_that_lost_its_run_stops_before_it_writes_anything_more(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_module, "Lease", partial(Lease, stale_s=0.0, beat_s=60.0))
    location = Location(tmp_path / "run")
    before: dict[Path, bytes] = {}

    def progress(done: int, total: int) -> None:
        if done == 5:
            lease = json.loads(location.read("writer.json"))
            location.write("writer.json", json.dumps({**lease, "token": "another", "host": "elsewhere"}).encode())
            before.update({path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()})

    with pytest.raises(RunError, match="this run was taken over by host elsewhere"):
        train_run(finished.recipe, finished.store, location, progress=progress)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_a_checkpoint_says_what_it_belongs_to(finished: Finished) -> None:
    state = Checkpoints(finished.run.location, keep=2).load_latest()
    assert state is not None
    assert TrainRecipe.model_validate(state["recipe"]) == finished.recipe
    assert state["fingerprint"] == finished.store.manifest.fingerprint
    assert state["git_revision"] == finished.run.record.git_revision


@pytest.mark.parametrize("step", [2, 4])
def test_a_run_with_cached_gradients_resumes_bitwise(
    finished: Finished, tmp_path: Path, silent: Progress, step: int
) -> None:
    recipe = tiny_recipe(optim={"cache_chunk": 2}, encoder={"norm": "group"})
    whole, location = Location(tmp_path / "whole"), Location(tmp_path / "run")
    train_run(recipe, finished.store, whole, progress=silent)
    with pytest.raises(Interrupted):
        train_run(recipe, finished.store, location, progress=stop_after(step))
    train_run(recipe, finished.store, location, progress=silent)
    assert_same_end(location, whole)
    plain = Location(tmp_path / "plain")
    train_run(tiny_recipe(encoder={"norm": "group"}), finished.store, plain, progress=silent)
    for entry, twin in zip(read_history(location), read_history(plain), strict=True):
        assert entry["loss"] == pytest.approx(twin["loss"], rel=1e-3)


def test_sigterm_ends_the_command_with_130_a_message_and_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "long.toml").write_text(recipe_toml(tiny_recipe(optim={"epochs": 5000})))
    write_store(tmp_path / "store")
    with start(tmp_path / "long.toml", tmp_path / "store", tmp_path / "run") as process:
        wait_for((tmp_path / "run" / "log.jsonl").exists, process)
        process.terminate()
        output, log = process.communicate(timeout=60)
    assert (process.returncode, output) == (130, "")
    last = log.strip().splitlines()[-1]
    step = json.loads((tmp_path / "run" / "checkpoints" / "latest.json").read_text())["step"]
    assert last.startswith(f"interscan: stopped after step {step} of 15000, checkpoint written; run the same command")
    assert "Traceback" not in log


def test_a_finished_run_is_not_trained_again(finished: Finished, silent: Progress) -> None:
    before = {path: path.read_bytes() for path in finished.folder.rglob("*") if path.is_file()}

    def forbidden(done: int, total: int) -> None:
        raise AssertionError("a finished run took a step")

    result = train_run(finished.recipe, finished.store, Location(finished.folder), progress=forbidden)
    assert result == finished.run.result()
    assert {path: path.read_bytes() for path in finished.folder.rglob("*") if path.is_file()} == before


def test_another_seed_ends_elsewhere(finished: Finished, tmp_path: Path, silent: Progress) -> None:
    recipe = tiny_recipe(seed=1)
    train_run(recipe, finished.store, Location(tmp_path / "run"), progress=silent)
    state, other = Run.open(Location(tmp_path / "run")).load_model()[0], finished.run.load_model()[0]
    assert not torch.equal(state["encoder"]["linear.weight"], other["encoder"]["linear.weight"])


def test_statistics_and_head_are_fitted_on_training_subjects_alone(
    finished: Finished, tmp_path: Path, silent: Progress
) -> None:
    held_out = finished.run.split.of("test")
    scans = [
        TinyScan(**{**vars(scan), "score": 1000.0, "shown": 1.0}) if scan.subject_id in held_out else scan
        for scan in default_scans()
    ]
    store = write_store(tmp_path / "store", scans)
    train_run(finished.recipe, store, Location(tmp_path / "run"), progress=silent)
    run = Run.open(Location(tmp_path / "run"))
    assert run.split == finished.run.split
    assert_same_end(run.location, Location(finished.folder))


def test_the_statistics_are_those_of_the_training_scores(finished: Finished) -> None:
    cohort = read_cohort(finished.store, "T1w", "mmse").of_subjects(finished.run.split.of("train"))
    known = cohort.scores_N[~np.isnan(cohort.scores_N)]
    result = finished.run.result()
    assert result is not None
    assert result.score_statistics is not None
    assert result.score_statistics.to_dict() == pytest.approx(
        {"mean": known.mean(), "sd": known.std(), "range": np.ptp(known)}
    )


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (tiny_recipe(split={"validation": 0.7, "test": 0.5}), "cannot be split"),
        (tiny_recipe(objective=[{"name": "learner"}]), "learner needs scores"),
        (tiny_recipe(device="cuda"), "no CUDA device"),
        (tiny_recipe(objective=[{"name": "info_nce"}], optim={"cache_chunk": 2}), "norm is 'batch'"),
        (tiny_recipe(**ONE_VALIDATION_SUBJECT), "checkpoint.best is retrieval_at_1 and the 1 validation subjects"),
    ],
)
def test_a_recipe_that_cannot_be_followed_leaves_no_run_behind(
    tmp_path: Path, silent: Progress, monkeypatch: pytest.MonkeyPatch, recipe: TrainRecipe, message: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    store = write_store(tmp_path / "store", default_scans(with_scores=False))
    with pytest.raises(UsageError, match=message):
        train_run(recipe, store, Location(tmp_path / "run"), progress=silent)
    assert not (tmp_path / "run").exists()


def test_a_cohort_without_days_is_refused_for_pairs_and_trains_on_scans(tmp_path: Path, silent: Progress) -> None:
    scans = [TinyScan(**{**vars(scan), "day": None}) for scan in default_scans(odd=False)]
    store = write_store(tmp_path / "store", scans)
    with pytest.raises(UsageError, match="0 training subjects have visits on two days"):
        train_run(tiny_recipe(), store, Location(tmp_path / "run"), progress=silent)
    recipe = tiny_recipe(data={"sampling": "scans"}, objective=[{"name": "learner"}])
    result = train_run(recipe, store, Location(tmp_path / "run"), progress=silent)
    assert result.progression_head is None
    assert "retrieval_at_1" not in result.last_epoch


def test_learner_alone_trains_on_a_cohort_where_most_scores_are_unknown(tmp_path: Path, silent: Progress) -> None:
    scans = [
        scan if int(scan.subject_id[-2:]) % 3 == 0 else TinyScan(**{**vars(scan), "score": None})
        for scan in default_scans(num_subjects=24, odd=False)
    ]
    store = write_store(tmp_path / "store", scans)
    for sampling in ("scans", "pairs"):
        recipe = tiny_recipe(data={"sampling": sampling, "batch_size": 2}, objective=[{"name": "learner"}])
        result = train_run(recipe, store, Location(tmp_path / sampling), progress=silent)
        assert result.last_epoch["learner"] > 0


def test_another_recipe_in_the_same_folder_is_refused(finished: Finished, silent: Progress) -> None:
    with pytest.raises(RunError, match=r"optim\.epochs was 2 and is 3"):
        train_run(tiny_recipe(optim={"epochs": 3}), finished.store, Location(finished.folder), progress=silent)
