"""Two processes over gloo compute the loss, the gradients and the weights of one with the same global batch."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from preprocess.errors import Interrupted, RunError, UsageError
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import default_scans, recipe_toml, tiny_recipe, without_timing, write_store
from tests.support.loops import build_loop
from tests.support.processes import alone, free_port, in_processes
from trainer.fit.distributed import Group, is_first_process, joined, world_of
from trainer.fit.run import Run
from trainer.fit.stop import StopRequest
from trainer.fit.tracking import read_history
from trainer.fit.train import train_run


def changes_of(case: str) -> dict[str, Any]:
    """The fast encoder has no biases before its normalisation: theirs have a gradient of nothing but rounding, which
    AdamW would raise to whole steps."""
    encoder = {"name": "fast", "embedding_width": 8, "norm": "group" if case == "cached" else "batch"}
    return {
        "encoder": encoder,
        "data": {"batch_size": 5},
        "optim": {"epochs": 2, "learning_rate": 1e-3, "clip_norm": 1.0, "cache_chunk": 2 if case == "cached" else 0},
    }


def train_steps(group: Group, store_uri: str, case: str, num_steps: int) -> dict[str, Any]:
    """A few steps of the loop; the losses, the first gradients and the last weights."""
    recipe = tiny_recipe(**changes_of(case))
    store = Store.open(store_uri)
    nowhere = Location(f"{store_uri}-nowhere")
    loop, _ = build_loop(recipe, store, nowhere, seed=7, every_epochs=99, group=group)
    for settings in loop._optimiser.param_groups:
        # AdamW divides by the size of a gradient, and so raises the rounding of the smallest to whole steps.
        settings["eps"] = 1e-2
    losses, gradients = [], {}
    compute_gradients = loop._step.gradients

    def watched(*batch: Any) -> Any:
        loss, values = compute_gradients(*batch)
        losses.append(loss)
        if len(losses) == 1:
            gradients.update({name: one.grad.clone() for name, one in loop.model.named_parameters()})
        return loss, values

    loop._step.gradients = watched  # type: ignore[method-assign]
    loop._epochs = 1
    loop._checkpoints.save_async = lambda *_, **__: None  # type: ignore[method-assign]
    assert num_steps == len(loop.sampler.batches(0))
    loop.run(StopRequest(), None, lambda done, total: None)
    sizes = [len(batch) for batch in loop.sampler.batches(0)]
    weights = {name: value.clone() for name, value in loop.model.state_dict().items()}
    entry = loop.position.history[0]
    return {"losses": losses, "gradients": gradients, "weights": weights, "sizes": sizes, "volumes": entry["volumes"]}


@pytest.mark.parametrize("case", ["whole", "cached"])
def test_two_processes_compute_losses_gradients_and_weights_of_one(tmp_path: Path, case: str) -> None:
    store = write_store(tmp_path / "store", default_scans(num_subjects=13, odd=False))
    arguments = (store.location.uri, case, 3)
    one = alone(train_steps, *arguments)
    two = in_processes(2, train_steps, tmp_path / "answers", *arguments)
    assert {size % 2 for size in one["sizes"]} == {0, 1}  # even and uneven batches
    for process in two:
        assert process["volumes"] == one["volumes"] == 26
        assert process["losses"] == pytest.approx(one["losses"], abs=1e-5)
        for name, gradient in one["gradients"].items():
            largest = max(1.0, float(gradient.abs().max()))
            torch.testing.assert_close(process["gradients"][name], gradient, rtol=0, atol=1e-5 * largest)
        for name, value in one["weights"].items():
            torch.testing.assert_close(process["weights"][name], value, rtol=1e-4, atol=1e-5)
        for name, value in two[0]["weights"].items():
            assert torch.equal(process["weights"][name], value)


def exchange(group: Group) -> dict[str, Any]:
    rows = torch.arange(2.0 * (group.rank + 1)).view(-1, 2).requires_grad_()
    gathered = group.gather(rows, [1, 2])
    torch.autograd.backward((gathered * torch.arange(1.0, 7.0).view(3, 2)).sum())
    return {
        "gathered": gathered.detach(),
        "gradient": rows.grad,
        "any": [group.any(group.rank == 1), group.any(False)],
        "total": group.total(0.5 + group.rank),
        "sent": [group.from_first(b"weights" if group.is_first else None), group.from_first(b"")],
    }


def test_rows_numbers_flags_and_bytes_arrive_everywhere(tmp_path: Path) -> None:
    first, second = in_processes(2, exchange, tmp_path / "answers")
    for process in (first, second):
        assert process["gathered"].tolist() == [[0, 1], [0, 1], [2, 3]]
        assert process["any"] == [True, False]
        assert process["total"] == 2.0
        assert process["sent"] == [b"weights", b""]
    assert first["gradient"].tolist() == [[1, 2]]
    assert second["gradient"].tolist() == [[3, 4], [5, 6]]


def test_shares_are_disjoint_cover_the_batch_and_differ_by_one_at_most() -> None:
    for world_size in range(1, 6):
        for num in range(world_size, 20):
            indices = [list(range(num))[Group(rank, world_size).share(num)] for rank in range(world_size)]
            assert [one for part in indices for one in part] == list(range(num))
            assert [len(one) for one in indices] == Group(0, world_size).shares(num)
            assert max(map(len, indices)) - min(map(len, indices)) <= 1


def test_more_processes_than_subjects_in_a_batch_are_refused() -> None:
    Group(0, 2).require_enough(2)
    with pytest.raises(UsageError, match="4 processes share batches of 2 subjects, and one would have none; start 2"):
        Group(0, 4).require_enough(2)


@pytest.mark.parametrize(
    ("environment", "world"),
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, None),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, (3, 4, 1)),
    ],
)
def test_torchruns_environment_is_read(environment: dict[str, str], world: tuple[int, int, int] | None) -> None:
    assert world_of(environment) == world


def test_half_an_environment_is_refused_with_what_is_missing() -> None:
    with pytest.raises(UsageError, match="WORLD_SIZE is 2 and RANK, LOCAL_RANK is not a number; start with torchrun"):
        world_of({"WORLD_SIZE": "2", "RANK": "x"})


def test_fewer_gpus_than_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert not is_first_process()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with (
        pytest.raises(UsageError, match=r"process 1 .* needs a GPU of its own and there are 1"),
        joined(torch.device("cuda")),
    ):
        raise AssertionError("not reached")


def lose_the_other(group: Group) -> str:
    if group.rank == 1:
        os._exit(0)
    try:
        for _ in range(100):
            group.total(1.0)
    except RunError as error:
        return str(error)
    return "nothing noticed"


def test_a_process_that_ended_is_one_line_in_the_others(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"1\.pt"):
        in_processes(2, lose_the_other, tmp_path / "answers")
    message = torch.load(tmp_path / "answers" / "0.pt")
    assert message.startswith("another process of this training ended or cannot be reached (")
    assert "\n" not in message


def torchrun(store: Path, run: Path, recipe: Path, *settings: str) -> "subprocess.Popen[str]":
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())),
        # After "--", or argparse of Python 3.11 takes --run for a short form of torchrun's own --run-path.
        *("-m", "--", "interscan", "train", str(recipe), "--store", str(store), "--run", str(run), "--json", *settings),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(recipe_toml(tiny_recipe(**changes_of("whole"), checkpoint={"best": "loss"})))
    return path


def assert_nearly_the_same_end(first: Location, second: Location) -> None:
    """Weights and history alike to rounding, over two epochs."""
    (state, _), (other, _) = (Run.open(location).load_model() for location in (first, second))
    for part in ("encoder", "projector", "score_head"):
        for name, value in state[part].items():
            assert float((other[part][name].double() - value).norm()) <= 2e-3 * float(value.double().norm()), name
    for entry, twin in zip(*(without_timing(read_history(location)) for location in (first, second)), strict=True):
        assert entry == pytest.approx(twin, rel=1e-3)


def test_torchrun_trains_one_run_and_prints_one_result(tmp_path: Path, recipe: Path) -> None:
    store = write_store(tmp_path / "store")
    with torchrun(tmp_path / "store", tmp_path / "two", recipe) as started:
        output, log = started.communicate(timeout=120)
    assert started.returncode == 0, log
    assert output.count("\n") == 1
    location = Location(tmp_path / "two")
    assert json.loads(output)["run"] == location.uri
    assert "2 processes share each batch" in log
    assert not location.exists("writer.json")
    train_run(Run.open(location).recipe, store, Location(tmp_path / "one"), progress=lambda done, total: None)
    assert_nearly_the_same_end(location, Location(tmp_path / "one"))
    with torchrun(tmp_path / "store", tmp_path / "two", recipe) as again:
        output, log = again.communicate(timeout=120)
    assert (again.returncode, output.count("\n")) == (0, 1), log
    assert "already finished" in log


def children(pid: int) -> list[int]:
    """Processes that a process started, from Linux' /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended in between
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the processes through Linux' /proc")
@pytest.mark.parametrize("signalled", [0, 1])
def test_a_signal_to_any_process_stops_all_and_one_process_goes_on(
    tmp_path: Path, recipe: Path, signalled: int
) -> None:
    store = write_store(tmp_path / "store")
    run = tmp_path / "run"
    long = ("--set", "optim.epochs=400", "--set", "optim.learning_rate=1e-9")
    with torchrun(tmp_path / "store", run, recipe, *long) as started:
        deadline = time.monotonic() + 120
        while not (run / "log.jsonl").exists() and started.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        by_rank = {}
        for pid in children(started.pid):
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            by_rank.update({int(one[5:]): pid for one in environment if one.startswith(b"RANK=")})
        os.kill(by_rank[signalled], signal.SIGTERM)
        _, log = started.communicate(timeout=120)
    assert log.count("interscan: stopped after step") == 2, log
    step = json.loads((run / "checkpoints" / "latest.json").read_text())["step"]
    assert f"stopped after step {step} of" in log
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        seen.append(done)
        os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        train_run(Run.open(Location(run)).recipe, store, Location(run), progress=progress)
    assert seen == [step + 1]


def test_a_run_changes_from_one_process_to_two_and_back(tmp_path: Path, recipe: Path) -> None:
    store = write_store(tmp_path / "store")
    settings = tiny_recipe(**changes_of("whole"), checkpoint={"best": "loss"})
    silent = lambda done, total: None  # noqa: E731
    train_run(settings, store, Location(tmp_path / "whole"), progress=silent)

    def until(step: int) -> Any:
        def progress(done: int, total: int) -> None:
            if done == step:
                os.kill(os.getpid(), signal.SIGTERM)

        return progress

    location = Location(tmp_path / "run")
    with pytest.raises(Interrupted):
        train_run(settings, store, location, progress=until(1))
    with torchrun(tmp_path / "store", tmp_path / "run", recipe) as started:
        _, log = started.communicate(timeout=120)
    assert started.returncode == 0, log
    assert "going on after step 1 of" in log
    assert_nearly_the_same_end(location, Location(tmp_path / "whole"))
