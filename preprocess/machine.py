"""What this machine gives the program: how many cores."""

import os


def num_cores() -> int:
    """Cores this process may use; at least 1. A container or a batch system often grants fewer than there are."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
