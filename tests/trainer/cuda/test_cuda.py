"""What only a CUDA device can show: what `auto` takes there, what it says of its memory, and several GPUs at once."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import default_scans, tiny_recipe, write_store
from tests.support.loops import build_loop
from tests.support.processes import alone, in_processes
from tests.trainer.cuda.conftest import SKIPPED
from trainer.data.device_memory import DeviceMemory
from trainer.fit.distributed import Group
from trainer.fit.precision import Compute, choose_compute
from trainer.fit.stop import StopRequest

ROOT = Path(__file__).parents[3]


@pytest.mark.cuda
def test_auto_takes_the_gpu_and_the_half_precision_that_is_native_to_it() -> None:
    major, _ = torch.cuda.get_device_capability()
    # Tensor cores know bfloat16 from compute capability 8.0 (Ampere) on.
    expected = torch.bfloat16 if major >= 8 else torch.float16
    assert choose_compute("auto", "auto") == Compute(torch.device("cuda"), expected)


@pytest.mark.cuda
def test_the_peak_of_a_device_is_what_its_tensors_took() -> None:
    torch.cuda.reset_peak_memory_stats()
    before = DeviceMemory.of(torch.device("cuda"))
    block = torch.empty(64 * 2**20, dtype=torch.uint8, device="cuda")
    after = DeviceMemory.of(torch.device("cuda"))
    assert after.peak_bytes - before.peak_bytes == block.nbytes
    assert after.free_bytes + after.held_bytes == pytest.approx(before.free_bytes + before.held_bytes, abs=2**28)
    assert after.room_bytes(measured=1, largest=1) > 0


def train_on(group: Group, store_uri: str, run: str) -> dict[str, Any]:
    """An epoch of this process's part of each batch, on its own GPU."""
    recipe = tiny_recipe(data={"batch_size": 5}, optim={"epochs": 1, "learning_rate": 1e-6})
    compute = Compute(torch.device("cuda"), torch.float32)
    loop, _ = build_loop(
        recipe, Store.open(store_uri), Location(run), seed=7, group=group, compute=compute, every_epochs=99
    )
    loop._checkpoints.save_async = lambda *_, **__: None  # type: ignore[method-assign]
    loop.run(StopRequest(), None, lambda done, total: None)
    entry = loop.position.history[0]
    weights = {name: value.cpu() for name, value in loop.model.state_dict().items()}
    return {"loss": entry["loss"], "volumes": entry["volumes"], "weights": weights}


@pytest.mark.cuda
def test_two_processes_over_nccl_compute_the_loss_of_one(tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip(f"{torch.cuda.device_count()} CUDA device here; two processes over nccl need two")
    store = write_store(tmp_path / "store", default_scans(num_subjects=13, odd=False))
    arguments = (store.location.uri, str(tmp_path / "run"))
    one = alone(train_on, *arguments)
    two = in_processes(2, train_on, tmp_path / "answers", *arguments, device=torch.device("cuda"))
    for process in two:
        assert process["volumes"] == one["volumes"] == 26
        assert process["loss"] == pytest.approx(one["loss"], rel=1e-2)  # TF32 in the convolutions
        for name, value in two[0]["weights"].items():
            assert torch.equal(process["weights"][name], value), name


def test_without_a_gpu_every_test_of_one_says_what_is_missing() -> None:
    command = [sys.executable, "-m", "pytest", "-n", "0", "-rs", "-m", "cuda", str(Path(__file__).parent)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert SKIPPED in done.stdout
    assert " passed" not in done.stdout
