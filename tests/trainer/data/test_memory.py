"""The memory that may be used is the least of what the machine and both kinds of control groups offer."""

from pathlib import Path

import pytest

from trainer.data.memory import STREAM_FRACTION, available_bytes, default_budget_bytes


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


@pytest.mark.parametrize(
    ("files", "available"),
    [
        (MEMINFO, 4_000_000 * 1024),
        (MEMINFO | NEW_GROUP, 600_000),
        (MEMINFO | OLD_GROUP, 2_000_000),
        (NEW_GROUP, 600_000),
        (MEMINFO | NEW_GROUP | {"sys/fs/cgroup/memory.max": "max\n"}, 4_000_000 * 1024),
        # The old kind says no limit with a number near 2^63.
        (MEMINFO | OLD_GROUP | {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}, 4096000000),
        (NEW_GROUP | {"sys/fs/cgroup/memory.current": "1000001"}, 0),
        ({"sys/fs/cgroup/memory.max": "1000000\n"}, 1_000_000),
        ({}, 4 * 2**30),
        ({"proc/meminfo": "MemTotal: 1 kB\n"}, 4 * 2**30),
    ],
)
def test_the_least_offer_counts(tmp_path: Path, files: dict[str, str], available: int) -> None:
    assert available_bytes(tree(tmp_path, files)) == available


def test_a_stream_takes_a_part_of_what_this_machine_offers() -> None:
    total = next(int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line)
    assert 0 < default_budget_bytes() <= total * 1024 * STREAM_FRACTION
