"""Threads are settled before PyTorch is loaded, and what an operator has set stays."""

import os
import subprocess
import sys

import pytest

from app.threads import settle_threads
from preprocess.machine import num_cores

NAMES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.setenv(name, "?")
        monkeypatch.delenv(name)
    monkeypatch.setattr("app.threads._keep_few_arenas", lambda: None)


def test_without_a_word_there_is_one_thread_a_core_and_none_spins() -> None:
    assert settle_threads(0) == num_cores()
    assert os.environ["OMP_NUM_THREADS"] == str(num_cores())
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize(("given", "wanted", "used"), [("3", 0, 3), ("3", 5, 5), ("many", 2, 2)])
def test_what_is_wanted_comes_before_what_the_environment_says(
    given: str, wanted: int, used: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert settle_threads(wanted) == used
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_pytorch_takes_them_over() -> None:
    code = "from app.threads import settle_threads; settle_threads(1); import torch; print(torch.get_num_threads())"
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, timeout=120
    )
    assert done.stdout == "1\n"
