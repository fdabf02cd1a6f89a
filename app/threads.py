"""How many threads a forward pass uses and how they wait for each other; decided before PyTorch is loaded.

OpenMP's threads spin while they wait. On a machine that does anything else that costs more than it gains: a pair took
1.4 s with spinning threads and 0.5 s with one. And glibc keeps memory in an arena for each thread that ever allocated,
so that a service of many threads grows without holding anything.
"""

import ctypes
import os
import sys

from preprocess.machine import num_cores

_ARENAS = 2
_M_ARENA_MAX = -8
"""glibc's name of the option (malloc.h)."""


def settle_threads(wanted: int) -> int:
    """Set the environment of OpenMP for this process; returns how many threads a forward pass will use.

    Args:
        wanted: threads; 0 for `OMP_NUM_THREADS` where it is set, else one for each core.
    """
    given = os.environ.get("OMP_NUM_THREADS", "")
    threads = wanted or (int(given) if given.isdecimal() and int(given) > 0 else num_cores())
    os.environ["OMP_NUM_THREADS"] = str(threads)
    # What an operator has set stays; GNU's OpenMP reads the first two, Intel's the last.
    for name, value in (("OMP_WAIT_POLICY", "PASSIVE"), ("GOMP_SPINCOUNT", "0"), ("KMP_BLOCKTIME", "0")):
        os.environ.setdefault(name, value)
    _keep_few_arenas()
    return threads


def _keep_few_arenas() -> None:
    if not sys.platform.startswith("linux") or "MALLOC_ARENA_MAX" in os.environ:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
