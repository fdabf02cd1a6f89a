"""A checkpoint is whole or not there, is what was written, and cannot run code."""

import json
import logging
import pickle
import threading
import time
from pathlib import Path

import pytest
import torch

from preprocess.errors import RunError, StorageError
from preprocess.storage import Location
from tests.support.troubled import TroubledLocation
from trainer.fit import checkpoint
from trainer.fit.background import Background
from trainer.fit.checkpoint import Best, Checkpoints, dump_state, load_state


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


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
    run = TroubledLocation(tmp_path)
    checkpoints = Checkpoints(run, keep=1)
    checkpoints.save(state_of(1), step=1)
    run.refusals = {refused: 3}
    with pytest.raises(StorageError):
        checkpoints.save(state_of(2), step=2)
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
    with pytest.raises(RunError, match="this checkpoint is missing"):
        checkpoints.load_latest()


def test_every_kept_state_is_named_by_its_step_and_loads_as_it_was_written(tmp_path: Path) -> None:
    run = Location(tmp_path)
    checkpoints = Checkpoints(run, keep=3)
    assert checkpoints.kept() == ()
    names = [checkpoints.save(state_of(step), step=step) for step in (1, 2, 3, 4)]
    later = Checkpoints(run, keep=3)
    assert later.kept() == (2, 3, 4)
    for step in (2, 3, 4):
        assert step_of(later.load_kept(step)) == {"step": step}
    with pytest.raises(KeyError):
        later.load_kept(1)
    run.delete(names[2])
    assert later.kept() == (2, 4)
    with pytest.raises(RunError, match="this checkpoint is missing"):
        later.load_kept(3)


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


def test_a_state_is_put_before_the_pointer_and_only_where_its_name_is_free(tmp_path: Path) -> None:
    run = TroubledLocation(tmp_path)
    name = Checkpoints(run, keep=1).save(state_of(1), step=1, best=Best("loss", 0.5))
    assert run.requested == [("create", name), ("write", "checkpoints/best.json"), ("write", "checkpoints/latest.json")]


@pytest.mark.parametrize(("refused", "tries"), [("step-", 2), ("latest.json", 2), ("best.json", 1)])
def test_an_upload_that_fails_twice_is_tried_a_third_time(tmp_path: Path, refused: str, tries: int) -> None:
    run = TroubledLocation(tmp_path)
    run.refusals = {refused: tries}
    with Background() as background:
        Checkpoints(run, keep=2, background=background).save_async(state_of(7), step=7, best=Best("loss", 0.5))
    assert step_of(Checkpoints(run, keep=2).load_latest()) == {"step": 7}
    assert len(files(run)) == 1


def test_an_upload_that_fails_three_times_fails_the_next_step_with_one_line(tmp_path: Path) -> None:
    run = TroubledLocation(tmp_path)
    run.refusals = {"step-": 3}

    def train() -> None:
        with Background() as background:
            checkpoints = Checkpoints(run, keep=2, background=background)
            checkpoints.save_async(state_of(1), step=1)
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                checkpoints.raise_failure()
                time.sleep(0.005)

    with pytest.raises(StorageError) as raised:
        train()
    message = str(raised.value)
    assert message.startswith("the checkpoint of step 1 is not written after 3 tries: ")
    assert "connection lost; run the same command again to go on" in message
    assert "\n" not in message
    assert run.refusals == {"step-": 0}


def test_a_step_goes_on_while_a_state_is_uploaded_as_it_was(tmp_path: Path) -> None:
    run = TroubledLocation(tmp_path)
    run.hanging = "step-"
    state = state_of(1)
    with Background() as background:
        checkpoints = Checkpoints(run, keep=2, background=background)
        checkpoints.save_async(state, step=1)
        assert run.reached.wait(10)
        assert isinstance(state["weights"], torch.Tensor)
        state["weights"].zero_()
        checkpoints.raise_failure()
        assert checkpoints.load_latest() is None
        run.go_on.set()
        checkpoints.wait()
        loaded = checkpoints.load_latest()
    assert loaded is not None
    assert torch.equal(loaded["weights"], torch.ones(3))


def test_behind_a_slow_upload_one_state_waits_and_a_newer_replaces_it(tmp_path: Path) -> None:
    run = TroubledLocation(tmp_path)
    run.hanging = "step-"
    with Background() as background:
        checkpoints = Checkpoints(run, keep=9, background=background)
        checkpoints.save_async(state_of(1), step=1)
        assert run.reached.wait(10)
        for step in range(2, 6):
            checkpoints.save_async(state_of(step), step=step)
        run.go_on.set()
    assert [name[17:25] for name in files(run)] == ["00000001", "00000005"]


def test_the_best_that_waits_is_not_replaced_but_waited_for(tmp_path: Path) -> None:
    run = TroubledLocation(tmp_path)
    run.hanging = "step-"
    with Background() as background:
        checkpoints = Checkpoints(run, keep=1, background=background)
        checkpoints.save_async(state_of(1), step=1, best=Best("loss", 0.9))
        assert run.reached.wait(10)
        checkpoints.save_async(state_of(2), step=2, best=Best("loss", 0.5))
        later = threading.Thread(target=lambda: checkpoints.save_async(state_of(3), step=3))
        later.start()
        later.join(0.2)
        assert later.is_alive()
        run.go_on.set()
        later.join(10)
    assert [name[17:25] for name in files(run)] == ["00000002", "00000003"]
    assert step_of(Checkpoints(run, keep=1).load_best()) == {"step": 2}
    assert json.loads(run.read("checkpoints/best.json"))["figure"] == "loss"


@pytest.mark.parametrize("hanging", ["step-", "latest.json"])
def test_the_last_save_passes_an_upload_that_hangs_which_then_leaves_the_pointer_alone(
    tmp_path: Path, hanging: str
) -> None:
    run = TroubledLocation(tmp_path)
    Checkpoints(run, keep=2).save(state_of(1), step=1)
    run.hanging = hanging
    with Background() as background:
        checkpoints = Checkpoints(run, keep=2, background=background)
        checkpoints.save_async(state_of(2), step=2)
        assert run.reached.wait(10)
        checkpoints.save_async(state_of(3), step=3)
        checkpoints.save_last(state_of(4), step=4)
        assert step_of(Checkpoints(run, keep=2).load_latest()) == {"step": 4}
        run.go_on.set()
    if hanging == "step-":
        assert step_of(Checkpoints(run, keep=2).load_latest()) == {"step": 4}
    # A pointer already on the way cannot be called back; it then names a whole state of the same run.
    assert Checkpoints(run, keep=2).load_latest() is not None


def test_the_last_save_is_not_pruned_by_an_upload_that_lists_what_is_there_at_that_moment(tmp_path: Path) -> None:
    class Listing(Location):
        """Has the last save put its state while another thread is about to list the states."""

        def names(self, folder: str = "") -> list[str]:
            if threading.current_thread() is not threading.main_thread() and not listed.is_set():
                listed.set()
                assert saved.wait(30)
            return super().names(folder)

    listed, saved = threading.Event(), threading.Event()
    run = Listing(tmp_path)
    with Background() as background:
        checkpoints = Checkpoints(run, keep=1, background=background)
        checkpoints.save_async(state_of(1), step=1)
        assert listed.wait(30)
        checkpoints.save_last(state_of(2), step=2)
        saved.set()
    assert step_of(Checkpoints(run, keep=1).load_latest()) == {"step": 2}


def test_states_carry_where_they_come_from_and_those_of_another_run_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Location(tmp_path)
    origin = {"recipe": {"seed": 1}, "fingerprint": "aa", "git_revision": "one"}
    Checkpoints(run, keep=1, origin=origin).save(state_of(1), step=1)
    loaded = Checkpoints(run, keep=1).load_latest()
    assert loaded is not None
    assert {name: loaded[name] for name in origin} == origin
    for name, other in (("recipe", {"seed": 2}), ("fingerprint", "bb")):
        with pytest.raises(RunError, match=f"its {name} is not this run's, it was copied from another run"):
            Checkpoints(run, keep=1, origin={**origin, name: other}).load_latest()
    with caplog.at_level(logging.WARNING, logger="interscan"):
        assert Checkpoints(run, keep=1, origin={**origin, "git_revision": "two"}).load_latest() is not None
    assert "was written by revision one, this is two" in caplog.text


def test_the_kept_ones_are_named_with_their_digests_newest_first(tmp_path: Path) -> None:
    run = Location(tmp_path)
    for step in (1, 2, 3, 4):
        Checkpoints(run, keep=3).save(state_of(step), step=step)
    pointer = json.loads(run.read("checkpoints/latest.json"))
    assert [pointer["step"], *(one["step"] for one in pointer["earlier"])] == [4, 3, 2]
    assert sorted(one["name"] for one in (pointer, *pointer["earlier"])) == files(run)
