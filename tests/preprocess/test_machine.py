"""Cores are those granted, not those there are."""

import os
import subprocess
import sys

import pytest

from preprocess.machine import num_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system grants all cores to every process")
def test_only_the_cores_that_are_granted_count() -> None:
    program = (
        "import os; first = min(os.sched_getaffinity(0)); os.sched_setaffinity(0, {first});"
        "from preprocess.machine import num_cores; print(num_cores())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_a_system_without_affinity_counts_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert num_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert num_cores() == 1
