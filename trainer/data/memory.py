"""How much memory this process may use: the smaller of what the machine and its control group offer."""

from pathlib import Path

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_CGROUP_USES = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")
_FALLBACK_BYTES = 4 * 2**30
"""Assumed where the system says nothing (not Linux)."""
STREAM_FRACTION = 0.25
"""Part of the available memory that a stream takes by default; the rest is the model's, and other people's."""


def available_bytes(root: Path = Path("/")) -> int:
    """Memory that can still be taken, in bytes.

    Args:
        root: where /proc and /sys lie.
    """
    machine = _meminfo(root / "proc/meminfo")
    limits = [_number(root / path.lstrip("/")) for path in _CGROUP_LIMITS]
    uses = [_number(root / path.lstrip("/")) for path in _CGROUP_USES]
    group = [limit - (use or 0) for limit, use in zip(limits, uses, strict=True) if limit is not None]
    offers = [offer for offer in (machine, *group) if offer is not None]
    return max(0, min(offers, default=_FALLBACK_BYTES))


def default_budget_bytes() -> int:
    """What a stream may hold when nobody says otherwise."""
    return int(available_bytes() * STREAM_FRACTION)


def _meminfo(path: Path) -> int | None:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _number(path: Path) -> int | None:
    """The file's number; None where there is none, or where it says `max`."""
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None
