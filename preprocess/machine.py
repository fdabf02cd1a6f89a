"""What this machine gives the program: how many cores, and how much memory."""

import os
from collections.abc import Iterator
from pathlib import Path

_FALLBACK_BYTES = 4 * 2**30
"""Assumed where the system says nothing (not Linux)."""
_GROUP_FILES = {
    "sys/fs/cgroup": ("memory.max", "memory.current"),
    "sys/fs/cgroup/memory": ("memory.limit_in_bytes", "memory.usage_in_bytes"),
}
"""Folder of the control groups of version 2 and of version 1, and their files of the limit and of what is used."""
_CACHE_LINES = ("inactive_file", "active_file", "total_inactive_file", "total_active_file")
"""Lines of memory.stat about copies of files, which the kernel drops when memory is wanted; those of version 1 that
begin with total_ include the groups below."""


def num_cores() -> int:
    """Cores this process may use; at least 1. A container or a batch system often grants fewer than there are."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_bytes(root: Path = Path("/")) -> int:
    """Memory that can still be taken, in bytes: the least of what the machine and each control group offer.

    Args:
        root: where /proc and /sys lie.
    """
    return _least(root, "MemAvailable:", still_free=True)


def total_bytes(root: Path = Path("/")) -> int:
    """Memory that this process may have if nobody else takes any, in bytes.

    Args:
        root: where /proc and /sys lie.
    """
    return _least(root, "MemTotal:", still_free=False)


def _least(root: Path, line: str, *, still_free: bool) -> int:
    offers = [number for number in (_meminfo(root / "proc/meminfo", line),) if number is not None]
    for folder, (limit_name, use_name) in _groups(root):
        limit = _number(folder / limit_name)
        if limit is None:
            continue
        use = (_number(folder / use_name) or 0) if still_free else 0
        # What a group read from files counts as used until somebody else wants the memory.
        offers.append(limit - max(0, use - (_cached(folder / "memory.stat") if still_free else 0)))
    return max(0, min(offers, default=_FALLBACK_BYTES))


def _groups(root: Path) -> Iterator[tuple[Path, tuple[str, str]]]:
    """This process's control groups and all above them: a batch system limits one of those."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    mine = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    for start, names in _GROUP_FILES.items():
        is_second = start.endswith("cgroup")
        paths = [path for _, kinds, path in mine if (kinds == "" if is_second else "memory" in kinds.split(","))]
        folders = {root / start}
        for path in paths:
            # In a container the path may be that of the machine, which is not there: then the root is the group.
            inner = root / start / path.strip("/")
            folders |= {folder for folder in (inner, *inner.parents) if folder.is_relative_to(root / start)}
        yield from ((folder, names) for folder in sorted(folders))


def _cached(path: Path) -> int:
    """Bytes of a group that are copies of files; 0 where it does not say."""
    try:
        pairs = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return 0
    found = {
        pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit() and pair[0] in _CACHE_LINES
    }
    second = found.get("inactive_file", 0) + found.get("active_file", 0)
    return max(second, found.get("total_inactive_file", 0) + found.get("total_active_file", 0))


def _meminfo(path: Path, wanted: str) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(wanted):
            return int(line.split()[1]) * 1024
    return None


def _number(path: Path) -> int | None:
    """The file's number; None where there is none, or where it says `max`."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
