"""A run with damaged files goes on to the end that it would have had, or is answered with one line and a code."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from preprocess.storage import Location
from tests.support.cohorts import recipe_toml, tiny_recipe, without_timing, write_store
from trainer.fit.checkpoint import load_state
from trainer.fit.tracking import read_history

EPOCHS = 3


def interscan(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "interscan", *arguments], capture_output=True, text=True, timeout=240, check=False
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recipe, store and a finished run of three epochs, all states kept."""
    folder = tmp_path_factory.mktemp("whole")
    write_store(folder / "store")
    recipe = tiny_recipe(optim={"epochs": EPOCHS}, checkpoint={"keep": EPOCHS})
    (folder / "recipe.toml").write_text(recipe_toml(recipe))
    assert train(folder, "run").returncode == 0
    return folder


def train(folder: Path, run: str) -> "subprocess.CompletedProcess[str]":
    return interscan("train", str(folder / "recipe.toml"), "--store", str(folder / "store"), "--run", str(folder / run))


def copied(whole: Path, tmp_path: Path) -> Path:
    """The run elsewhere, as it was before it was finished."""
    run = whole / tmp_path.name
    shutil.copytree(whole / "run", run)
    (run / "result.json").unlink()
    (run / "model.pt").unlink()
    return run


def newest(run: Path) -> Path:
    return run / json.loads((run / "checkpoints" / "latest.json").read_text())["name"]


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def model_of(run: Path) -> dict[str, object]:
    return load_state((run / "model.pt").read_bytes())


@pytest.mark.parametrize("pointer", [None, b"", b'{"name": "chec'])
def test_one_flipped_bit_costs_one_epoch_and_no_more(whole: Path, tmp_path: Path, pointer: bytes | None) -> None:
    run = copied(whole, tmp_path)
    lost = newest(run)
    flip_bit(lost)
    if pointer is not None:
        (run / "checkpoints" / "latest.json").write_bytes(pointer)
    done = train(whole, run.name)
    assert done.returncode == 0, done.stderr
    (line,) = [one for one in done.stderr.splitlines() if "later steps are lost" in one]
    history = read_history(Location(run))
    steps = int(history[1]["step"])
    assert f"after step {steps}: " in line
    if pointer is None:
        assert lost.name in line
    assert not lost.exists()
    # The log has each epoch once, and says where steps were computed again.
    assert [entry["epoch"] for entry in history] == [0.0, 1.0, 2.0]
    assert [entry.pop("lost_steps", 0.0) for entry in history] == [0.0, 0.0, history[2]["step"] - steps]
    assert without_timing(history) == without_timing(read_history(Location(whole / "run")))
    encoder, wanted = (model_of(one)["encoder"] for one in (run, whole / "run"))
    assert isinstance(encoder, dict)
    assert isinstance(wanted, dict)
    assert all(torch.equal(value, wanted[name]) for name, value in encoder.items())


def test_a_finished_run_with_a_damaged_model_or_result_is_ended_anew_as_its_line_says(
    whole: Path, tmp_path: Path
) -> None:
    for damaged in ("model.pt", "result.json"):
        run = whole / f"{tmp_path.name}-{damaged}"
        shutil.copytree(whole / "run", run)
        (run / damaged).write_bytes((run / damaged).read_bytes()[:100])
        refused = interscan("evaluate", str(run))
        assert refused.returncode == 3
        (line,) = refused.stderr.splitlines()
        assert damaged in line
        assert "delete result.json and run the same interscan train command again" in line
        (run / "result.json").unlink()
        assert train(whole, run.name).returncode == 0
        encoder, wanted = (model_of(one)["encoder"] for one in (run, whole / "run"))
        assert isinstance(encoder, dict)
        assert isinstance(wanted, dict)
        assert all(torch.equal(value, wanted[name]) for name, value in encoder.items())


@pytest.mark.parametrize(
    ("damaged", "verb", "says"),
    [
        ("run.json", "train", "put back a copy of it, or start a new run at another location"),
        ("run.json", "evaluate", "put back a copy of it, or start a new run at another location"),
        ("log.jsonl", "evaluate", "delete log.jsonl"),
        ("result.json", "train", "delete result.json and run the same interscan train command again"),
    ],
)
def test_every_other_damaged_file_is_one_line_and_exit_3(
    whole: Path, tmp_path: Path, damaged: str, verb: str, says: str
) -> None:
    run = whole / tmp_path.name
    shutil.copytree(whole / "run", run)
    (run / damaged).write_bytes(b'{"epoch"')
    done = train(whole, run.name) if verb == "train" else interscan(verb, str(run))
    assert done.returncode == 3
    (line,) = done.stderr.splitlines()
    assert f"{run.name}/{damaged}" in line
    assert says in line


def test_where_no_checkpoint_is_whole_the_run_is_refused(whole: Path, tmp_path: Path) -> None:
    run = copied(whole, tmp_path)
    for path in (run / "checkpoints").glob("*.pt"):
        flip_bit(path)
    done = train(whole, run.name)
    assert done.returncode == 3
    (line,) = [one for one in done.stderr.splitlines() if one.startswith("interscan: ")]
    assert line.endswith("no other checkpoint of this run is whole; start a new run at another location")
