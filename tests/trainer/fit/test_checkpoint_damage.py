"""Of a damaged checkpoint, or a damaged pointer, the run loses as little as the whole ones allow, and says what."""

import json
import logging
from pathlib import Path

import pytest
import torch

from preprocess.errors import RunError, StorageError
from preprocess.storage import Location
from tests.support.troubled import TroubledLocation
from trainer.fit import checkpoint
from trainer.fit.checkpoint import Best, Checkpoints


def state_of(step: int) -> dict[str, object]:
    return {"weights": torch.full((3,), float(step)), "position": {"step": step}, "sums": {"loss": 0.5}}


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_BACKOFF_S", 0.0)


def step_of(state: dict[str, object] | None) -> object:
    assert state is not None
    return state["position"]


def files(run: Location) -> list[str]:
    return [name for name in run.names("checkpoints") if name.endswith(".pt")]


def flip_bit(run: Location, name: str) -> None:
    data = bytearray(run.read(name))
    weights = torch.full((3,), float(name[17:25])).numpy().tobytes()
    data[data.index(weights) + 5] ^= 4
    run.write(name, bytes(data))


def spoil(run: Location, name: str, how: str) -> None:
    match how:
        case "flipped":
            flip_bit(run, name)
        case "cut":
            run.write(name, run.read(name)[:-100])
        case "empty":
            run.write(name, b"")
        case "gone":
            run.delete(name)
        case "no JSON":
            run.write(name, b'{"name": "checkpoints/st')


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, logger="interscan")
    return caplog


def save_steps(run: Location, *steps: int, keep: int = 3, best: int = 0) -> list[str]:
    checkpoints = Checkpoints(run, keep=keep)
    return [
        checkpoints.save(state_of(step), step=step, best=Best("loss", 0.5) if step == best else None) for step in steps
    ]


@pytest.mark.parametrize("how", ["flipped", "cut", "empty", "gone"])
@pytest.mark.parametrize("num_damaged", [1, 2])
def test_a_run_goes_on_from_the_newest_whole_state_and_says_what_was_lost(
    tmp_path: Path, warned: pytest.LogCaptureFixture, how: str, num_damaged: int
) -> None:
    run = Location(tmp_path)
    names = save_steps(run, 10, 20, 30)
    for name in names[-num_damaged:]:
        spoil(run, name, how)
    checkpoints = Checkpoints(run, keep=3)
    assert step_of(checkpoints.load_latest()) == {"step": 30 - 10 * num_damaged}
    assert checkpoints.lost_steps == 10 * num_damaged
    (line,) = warned.messages
    assert all(name in line for name in names[-num_damaged:])
    assert line.endswith(
        f"going on from {names[-1 - num_damaged]} instead, after step {30 - 10 * num_damaged}: "
        f"{10 * num_damaged} later steps are lost and computed again"
    )
    assert "\n" not in line


def test_damaged_states_are_no_longer_counted_and_push_out_no_whole_one(tmp_path: Path) -> None:
    run = Location(tmp_path)
    names = save_steps(run, 10, 20, 30, keep=3)
    flip_bit(run, names[2])
    checkpoints = Checkpoints(run, keep=3)
    checkpoints.load_latest()
    again = checkpoints.save(state_of(30), step=30)
    pointer = json.loads(run.read("checkpoints/latest.json"))
    assert [pointer["name"], *(one["name"] for one in pointer["earlier"])] == [again, names[1], names[0]]
    assert files(run) == sorted([names[0], names[1], again])
    assert Checkpoints(run, keep=3).kept() == (10, 20, 30)
    assert step_of(Checkpoints(run, keep=3).load_latest()) == {"step": 30}


def test_the_best_state_serves_where_no_later_one_is_whole(tmp_path: Path, warned: pytest.LogCaptureFixture) -> None:
    run = Location(tmp_path)
    names = save_steps(run, 10, 20, 30, 40, keep=2, best=10)
    for name in names[2:]:
        flip_bit(run, name)
    checkpoints = Checkpoints(run, keep=2)
    assert step_of(checkpoints.load_latest()) == {"step": 10}
    assert checkpoints.lost_steps == 30
    checkpoints.save(state_of(20), step=20)
    assert [int(name[17:25]) for name in files(run)] == [10, 20]
    assert step_of(Checkpoints(run, keep=2).load_best()) == {"step": 10}


def test_where_no_state_is_whole_the_run_is_refused_with_each_of_them_named(tmp_path: Path) -> None:
    run = Location(tmp_path)
    names = save_steps(run, 10, 20)
    flip_bit(run, names[0])
    run.delete(names[1])
    with pytest.raises(RunError) as raised:
        Checkpoints(run, keep=2).load_latest()
    message = str(raised.value)
    assert f"{names[1]}: this checkpoint is missing; " in message
    assert f"{names[0]}: SHA-256 " in message
    assert message.endswith("no other checkpoint of this run is whole; start a new run at another location")


@pytest.mark.parametrize("how", ["cut", "empty", "no JSON", "gone"])
def test_without_a_readable_pointer_the_states_are_found_by_their_own_checksums(
    tmp_path: Path, warned: pytest.LogCaptureFixture, how: str
) -> None:
    run = Location(tmp_path)
    names = save_steps(run, 10, 20, 30)
    spoil(run, "checkpoints/latest.json", how)
    flip_bit(run, names[2])
    checkpoints = Checkpoints(run, keep=3)
    assert checkpoints.kept() == (10, 20)
    assert step_of(checkpoints.load_kept(10)) == {"step": 10}
    assert step_of(checkpoints.load_latest()) == {"step": 20}
    assert checkpoints.lost_steps == 10
    (line,) = warned.messages
    assert "checkpoints/latest.json " in line
    assert f"going on from {names[1]} instead, after step 20" in line
    again = checkpoints.save(state_of(30), step=30)
    assert files(run) == sorted([names[0], names[1], again])
    assert step_of(Checkpoints(run, keep=3).load_latest()) == {"step": 30}


@pytest.mark.parametrize("how", ["cut", "empty", "no JSON"])
def test_a_save_over_a_damaged_pointer_drops_no_whole_state(tmp_path: Path, how: str) -> None:
    run = Location(tmp_path)
    names = save_steps(run, 10, 20)
    spoil(run, "checkpoints/latest.json", how)
    again = Checkpoints(run, keep=3).save(state_of(30), step=30)
    assert files(run) == sorted([*names, again])


def test_a_damaged_pointer_with_no_whole_state_is_refused(tmp_path: Path) -> None:
    run = Location(tmp_path)
    (name,) = save_steps(run, 10)
    run.write("checkpoints/latest.json", b"")
    flip_bit(run, name)
    with pytest.raises(RunError, match=r"latest\.json is empty, it is damaged; no other checkpoint .*start a new run"):
        Checkpoints(run, keep=2).load_latest()


@pytest.mark.parametrize("how", ["cut", "empty", "no JSON"])
def test_a_damaged_best_pointer_stops_nothing_and_nothing_is_dropped_that_it_may_have_named(
    tmp_path: Path, warned: pytest.LogCaptureFixture, how: str
) -> None:
    run = Location(tmp_path)
    names = save_steps(run, 10, 20, 30, keep=1, best=10)
    spoil(run, "checkpoints/best.json", how)
    with pytest.raises(RunError, match=r"best\.json .*damaged; delete .*best\.json, and use the latest checkpoint"):
        Checkpoints(run, keep=1).load_best()
    checkpoints = Checkpoints(run, keep=1)
    assert step_of(checkpoints.load_latest()) == {"step": 30}
    assert "old checkpoints stay until a better one comes" in warned.text
    forty = checkpoints.save(state_of(40), step=40)
    assert files(run) == sorted([names[0], names[2], forty])
    fifty = checkpoints.save(state_of(50), step=50, best=Best("loss", 0.1))
    assert files(run) == [fifty]


def test_a_damaged_best_state_is_named_and_leaves_the_latest_alone(tmp_path: Path) -> None:
    run = Location(tmp_path)
    names = save_steps(run, 10, 20, keep=1, best=10)
    flip_bit(run, names[0])
    with pytest.raises(RunError, match=r"00000010.* it is damaged; delete .*best\.json, and use the latest checkpoint"):
        Checkpoints(run, keep=1).load_best()
    assert step_of(Checkpoints(run, keep=1).load_latest()) == {"step": 20}


def test_of_two_states_of_one_step_the_whole_one_is_loaded(tmp_path: Path) -> None:
    run = Location(tmp_path)
    names = save_steps(run, 10, 20, 20)
    flip_bit(run, names[2])
    assert step_of(Checkpoints(run, keep=3).load_kept(20)) == {"step": 20}
    flip_bit(run, names[1])
    with pytest.raises(RunError, match="it is damaged; choose another epoch, or start a new run"):
        Checkpoints(run, keep=3).load_kept(20)


def test_states_of_a_crash_before_the_first_pointer_serve(tmp_path: Path, warned: pytest.LogCaptureFixture) -> None:
    run = TroubledLocation(tmp_path)
    run.refusals = {"latest.json": 3}
    with pytest.raises(StorageError):
        Checkpoints(run, keep=2).save(state_of(5), step=5)
    found = Checkpoints(Location(tmp_path), keep=2)
    assert step_of(found.load_latest()) == {"step": 5}
    assert "latest.json is missing" in warned.text
    for name in files(Location(tmp_path)):
        flip_bit(Location(tmp_path), name)
    warned.clear()
    assert Checkpoints(Location(tmp_path), keep=2).load_latest() is None
    assert "no checkpoint there is whole or named; beginning anew" in warned.text
