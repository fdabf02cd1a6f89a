"""A checkpoint is whole or not there, is what was written, and cannot run code."""

import json
import pickle
from pathlib import Path

import pytest
import torch

from preprocess.errors import RunError, StorageError
from preprocess.storage import Location
from trainer.fit.checkpoint import Checkpoints, dump_state, load_state


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


class CrashingLocation(Location):
    """Refuses to write names that hold a given text."""

    refused = ""

    def write(self, name: str, data: bytes) -> None:
        if self.refused and self.refused in name:
            raise StorageError(f"{name}: connection lost")
        super().write(name, data)


def state_of(step: int) -> dict[str, object]:
    return {"weights": torch.full((3,), float(step)), "position": {"step": step}, "sums": {"loss": 0.5}}


def files(run: Location) -> list[str]:
    return [name for name in run.names("checkpoints") if name.endswith(".pt")]


def test_a_state_comes_back_bit_for_bit() -> None:
    state = {**state_of(3), "rng": torch.get_rng_state(), "history": [{"loss": 1 / 3}]}
    found = load_state(dump_state(state))
    assert torch.equal(found["rng"], state["rng"])
    assert torch.equal(found["weights"], state["weights"])
    assert found["history"] == [{"loss": 1 / 3}]


def test_where_nothing_was_saved_there_is_nothing_to_load(tmp_path: Path) -> None:
    assert Checkpoints(Location(tmp_path / "none"), keep=2).load_latest() is None


def test_the_latest_of_several_is_loaded_and_only_so_many_are_kept(tmp_path: Path) -> None:
    run = Location(tmp_path)
    checkpoints = Checkpoints(run, keep=2)
    names = [checkpoints.save(state_of(step), step=step) for step in (5, 10, 15, 100)]
    assert files(run) == sorted(names[-2:])
    loaded = checkpoints.load_latest()
    assert loaded is not None
    assert loaded["position"] == {"step": 100}


def test_two_saves_of_one_step_do_not_share_a_name(tmp_path: Path) -> None:
    checkpoints = Checkpoints(Location(tmp_path), keep=5)
    assert checkpoints.save(state_of(1), step=1) != checkpoints.save(state_of(1), step=1)


@pytest.mark.parametrize("refused", ["step-00000002", "latest.json"])
def test_a_crash_before_the_pointer_leaves_the_earlier_checkpoint_in_force(tmp_path: Path, refused: str) -> None:
    run = CrashingLocation(tmp_path)
    checkpoints = Checkpoints(run, keep=1)
    checkpoints.save(state_of(1), step=1)
    run.refused = refused
    with pytest.raises(StorageError):
        checkpoints.save(state_of(2), step=2)
    run.refused = ""
    loaded = Checkpoints(Location(tmp_path), keep=1).load_latest()
    assert loaded is not None
    assert loaded["position"] == {"step": 1}
    checkpoints.save(state_of(3), step=3)
    assert len(files(run)) == 1


def test_what_a_crash_left_behind_never_pushes_out_the_checkpoint_in_force(tmp_path: Path) -> None:
    run = Location(tmp_path)
    run.write("checkpoints/step-00000009-orphan00.pt", b"half a run ahead")
    checkpoints = Checkpoints(run, keep=1)
    checkpoints.save(state_of(4), step=4)
    loaded = checkpoints.load_latest()
    assert loaded is not None
    assert loaded["position"] == {"step": 4}


def test_a_damaged_checkpoint_is_refused_with_both_digests(tmp_path: Path) -> None:
    run = Location(tmp_path)
    checkpoints = Checkpoints(run, keep=2)
    name = checkpoints.save(state_of(1), step=1)
    data = bytearray(run.read(name))
    data[-1] ^= 1
    run.write(name, bytes(data))
    recorded = json.loads(run.read("checkpoints/latest.json"))["sha256"][:12]
    with pytest.raises(RunError, match=rf"SHA-256 \w{{12}} is not the recorded {recorded}"):
        checkpoints.load_latest()


def test_a_checkpoint_that_is_gone_is_an_error_not_a_new_start(tmp_path: Path) -> None:
    run = Location(tmp_path)
    checkpoints = Checkpoints(run, keep=2)
    run.delete(checkpoints.save(state_of(1), step=1))
    with pytest.raises(RunError, match="the latest checkpoint is missing"):
        checkpoints.load_latest()


@pytest.mark.parametrize("plain", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path: Path, plain: bool) -> None:
    victim = tmp_path / "victim"
    if plain:
        data = pickle.dumps(Bomb(victim), protocol=2)
    else:
        data = dump_state({"weights": torch.ones(2), "extra": Bomb(victim)})
    with pytest.raises(RunError, match="gs://b/run: holds more than tensors and plain values"):
        load_state(data, where="gs://b/run")
    assert not victim.exists()
