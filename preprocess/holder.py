"""Who a process is, as other processes and machines may read it, and whether it still runs."""

import os
import platform
import time
import uuid
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease, and when it was last seen.

    Attributes:
        host: name of the machine, for people.
        machine: what tells whether a pid means a process of ours: host, boot and pid namespace.
        pid: the process's id.
        process_start: start of that process in clock ticks since boot, since pids are used again; -1 unknown.
        token: random, unlike any other holder's.
        since: seconds since 1970 when it took the lease.
        heartbeat: seconds since 1970 when it last renewed.
        does: what it does there, for people.
    """

    host: str
    machine: str
    pid: int
    process_start: int
    token: str
    since: float
    heartbeat: float
    does: str = "trains"

    @classmethod
    def this_process(cls, does: str) -> "Holder":
        """A new holder with a new token."""
        pid, now = os.getpid(), time.time()
        state = _process_state(pid)
        return cls(platform.node(), _machine(), pid, state[1] if state else -1, uuid.uuid4().hex, now, now, does)

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"host {self.host}, pid {self.pid}"

    def is_dead_here(self) -> bool:
        """Whether it is a process of this machine that no longer runs; false for other machines."""
        if self.machine != _machine():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass  # it runs, as another user
        state = _process_state(self.pid)
        if state is None:
            return False
        return state[0] in "ZX" or self.process_start not in (-1, state[1])


def _machine() -> str:
    """Host, boot and pid namespace: only where all three agree does a pid mean the same process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{platform.node()}|{boot}|{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()  # not Linux


def _process_state(pid: int) -> tuple[str, int] | None:
    """State letter and start time of a process, from Linux' /proc; None where it cannot be known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[19])
