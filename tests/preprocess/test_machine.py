"""Cores are those granted, not those there are; memory is the least that the machine and the control groups offer."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from preprocess.machine import available_bytes, num_cores, total_bytes


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


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal:       8000000 kB\nMemFree:  1 kB\nMemAvailable:    4000000 kB\n"}
NEW_GROUP = {"sys/fs/cgroup/memory.max": "1000000\n", "sys/fs/cgroup/memory.current": "400000\n"}
OLD_GROUP = {
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000000\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000000\n",
}
SLURM = {
    "proc/self/cgroup": "0::/system.slice/job_7/step_0\n",
    "sys/fs/cgroup/system.slice/job_7/memory.max": "900000\n",
    "sys/fs/cgroup/system.slice/job_7/memory.current": "100000\n",
    "sys/fs/cgroup/system.slice/job_7/step_0/memory.max": "max\n",
}
OLD_SLURM = {
    "proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/job_7\n",
    "sys/fs/cgroup/memory/job_7/memory.limit_in_bytes": "700000\n",
    "sys/fs/cgroup/memory/job_7/memory.usage_in_bytes": "200000\n",
}


@pytest.mark.parametrize(
    ("files", "available", "total"),
    [
        (MEMINFO, 4_000_000 * 1024, 8_000_000 * 1024),
        (MEMINFO | NEW_GROUP, 600_000, 1_000_000),
        (MEMINFO | OLD_GROUP, 2_000_000, 3_000_000),
        (NEW_GROUP, 600_000, 1_000_000),
        (MEMINFO | NEW_GROUP | {"sys/fs/cgroup/memory.max": "max\n"}, 4_000_000 * 1024, 8_000_000 * 1024),
        # The old kind says no limit with a number near 2^63.
        (
            MEMINFO | OLD_GROUP | {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"},
            4_000_000 * 1024,
            8_000_000 * 1024,
        ),
        (NEW_GROUP | {"sys/fs/cgroup/memory.current": "1000001"}, 0, 1_000_000),
        ({"sys/fs/cgroup/memory.max": "1000000\n"}, 1_000_000, 1_000_000),
        ({}, 4 * 2**30, 4 * 2**30),
        ({"proc/meminfo": "MemFree: 1 kB\n"}, 4 * 2**30, 4 * 2**30),
        (MEMINFO | SLURM, 800_000, 900_000),
        (MEMINFO | OLD_SLURM, 500_000, 700_000),
        # Inside a container the path is that of the machine outside, and the root is the container's own group.
        (NEW_GROUP | {"proc/self/cgroup": "0::/../../pod7\n"}, 600_000, 1_000_000),
    ],
)
def test_the_least_offer_counts(tmp_path: Path, files: dict[str, str], available: int, total: int) -> None:
    root = tree(tmp_path, files)
    assert (available_bytes(root), total_bytes(root)) == (available, total)


@pytest.mark.parametrize("prefix", ["", "total_"])
def test_copies_of_files_count_as_free_since_the_kernel_drops_them(tmp_path: Path, prefix: str) -> None:
    folder, files = ("sys/fs/cgroup", NEW_GROUP) if not prefix else ("sys/fs/cgroup/memory", OLD_GROUP)
    stat = f"anon 5\nfile 999999\n{prefix}inactive_file 200000\n{prefix}active_file 50000\nodd line of text\n"
    before = available_bytes(tree(tmp_path, files))
    assert available_bytes(tree(tmp_path, {f"{folder}/memory.stat": stat})) == before + 250_000


def test_this_machine_offers_no_more_than_it_has() -> None:
    assert 0 < available_bytes() <= total_bytes()
