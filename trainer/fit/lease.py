"""Who may write to a run: one process at a time, by a lease object that is put only where its name is free.

writer.json names the holder (host, pid, a random token) and its last heartbeat. A holder that is gone is replaced: at
once when it is a dead process of this machine, otherwise when its heartbeat is old and does not move while watched.
Who replaces it is decided by a second create-only object named after the lost token, so that of several takers one
wins. Object stores cannot tie a write to a lease: a holder that was frozen between its check and its write may still
put one object. Names of states are unique and a pointer of the same run leads to the same end, so this loses steps at
most. Clocks of the machines should agree to a few seconds.
"""

import json
import os
import platform
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from preprocess.console import LOG
from preprocess.errors import RunError, StorageError
from preprocess.storage import Location

LEASE_NAME = "writer.json"
_ATTEMPTS = 8
"""Rounds in which others may come first before we give up; each means that somebody else made progress."""
_PATIENCE_S = 2.0
"""That the end of a program waits for a heartbeat under way."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a run, and when it was last seen.

    Attributes:
        host: name of the machine, for people.
        machine: what tells whether a pid means a process of ours: host, boot and pid namespace.
        pid: of the process.
        process_start: start of that process in clock ticks since boot, since pids are used again; -1 unknown.
        token: random, unlike any other holder's.
        since: seconds since 1970 when it took the run.
        heartbeat: seconds since 1970 when it last renewed.
    """

    host: str
    machine: str
    pid: int
    process_start: int
    token: str
    since: float
    heartbeat: float

    @classmethod
    def this_process(cls) -> "Holder":
        """A new holder with a new token."""
        pid, now = os.getpid(), time.time()
        state = _process_state(pid)
        return cls(platform.node(), _machine(), pid, state[1] if state else -1, uuid.uuid4().hex, now, now)

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


class Lease:
    """The right to write to one run.

    Args:
        run: the run's folder.
        stale_s: age of a heartbeat from which its holder counts as gone.
        beat_s: seconds between two heartbeats; a sixth of `stale_s` when not given.
    """

    def __init__(self, run: Location, *, stale_s: float = 60.0, beat_s: float | None = None) -> None:
        self._run = run
        self._stale_s = stale_s
        self.beat_s = stale_s / 6 if beat_s is None else beat_s
        self._me = Holder.this_process()
        self._beating = threading.Lock()
        self._confirmed = -float("inf")
        self._lost: str = ""

    def __enter__(self) -> "Lease":
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the run.

        Raises:
            RunError: another process holds it.
        """
        for _ in range(_ATTEMPTS):
            asked = time.monotonic()
            if self._run.create(LEASE_NAME, self._record()):
                found = self._read()
                if found is not None and found.token == self._me.token:
                    self._confirmed = asked
                    return
                continue
            holder = self._read()
            if holder is not None:
                self._replace(holder)
        raise RunError(
            f"{self._run.uri}: other processes took and left this run {_ATTEMPTS} times while this one tried; "
            "start one at a time"
        )

    def require(self) -> None:
        """Make sure, before anything is written, that the run is still ours.

        Asks the bucket, unless it said so a moment ago: nobody may take over sooner than `stale_s` after a heartbeat.

        Raises:
            RunError: another process has taken over.
        """
        if self._lost:
            raise RunError(self._lost)
        asked = time.monotonic()
        if asked - self._confirmed > self._stale_s / 12:
            self._confirm(asked)

    def beat(self) -> None:
        """Renew the heartbeat; a bucket that cannot be reached for a while is borne.

        Raises:
            RunError: another process has taken over.
        """
        with self._beating:
            if self._lost:
                raise RunError(self._lost)
            asked = time.monotonic()
            try:
                self._confirm(asked)
                self._run.write(LEASE_NAME, self._record())
            except StorageError as error:
                LOG.warning("%s: the heartbeat is not written: %s", self._run.uri, error)

    def release(self) -> None:
        """Give the run back and write nothing more; what cannot be removed is found dead by the next process."""
        # A heartbeat on the way would come back after it was removed; one that hangs is not waited for.
        free = self._beating.acquire(timeout=_PATIENCE_S)
        self._lost = self._lost or f"{self._run.uri}: this process has given the run back"
        try:
            holder = self._read()
            if free and holder is not None and holder.token == self._me.token:
                self._run.delete(LEASE_NAME)
        except StorageError as error:
            LOG.warning("%s: %s is not removed: %s", self._run.uri, LEASE_NAME, error)
        finally:
            if free:
                self._beating.release()

    def _confirm(self, asked: float) -> None:
        holder = self._read()
        if holder is None or holder.token != self._me.token:
            by = f"by {_name(holder)}" if holder else f"({LEASE_NAME} is gone)"
            self._lost = (
                f"{self._run.uri}: this run was taken over {by}, so this process writes nothing more; "
                "let the other one train, or start again when it has ended"
            )
            raise RunError(self._lost)
        self._confirmed = asked

    def _replace(self, holder: Holder) -> None:
        """Remove a holder that is gone, so that the next round can take its place.

        Raises:
            RunError: it lives, or another process is replacing it.
        """
        if not self._is_gone(holder):
            raise RunError(self._held_by(holder))
        claim = f"writer-claim-{holder.token}.json"
        if not self._run.create(claim, self._record()):
            other = self._read(claim)
            if other is None:
                return
            if not self._is_gone(other):
                raise RunError(self._held_by(other))
            self._run.delete(claim)
            return
        # The claim excludes all other takers from here; but one may have been done before it was ours.
        found = self._read()
        if found is not None and found.token == holder.token:
            LOG.warning("%s: taking over from %s, which is gone", self._run.uri, _name(holder))
            self._run.delete(LEASE_NAME)
        self._run.delete(claim)

    def _is_gone(self, holder: Holder) -> bool:
        if holder.is_dead_here():
            return True
        if time.time() - holder.heartbeat <= self._stale_s:
            return False
        # Its clock may be wrong, or its beat on the way: it must not move while we watch.
        time.sleep(1.5 * self.beat_s)
        found = self._read()
        return found is None or found == holder or found.token != holder.token

    def _held_by(self, holder: Holder) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(holder.since))
        age_s = max(0.0, time.time() - holder.heartbeat)
        return (
            f"{self._run.uri}: {_name(holder)} trains this run since {since}, last heartbeat {age_s:.0f} s ago; "
            "wait until it ends, or use another --run"
        )

    def _record(self) -> bytes:
        return json.dumps({**asdict(self._me), "heartbeat": time.time()}).encode()

    def _read(self, name: str = LEASE_NAME) -> Holder | None:
        try:
            record: dict[str, Any] = json.loads(self._run.read(name))
            return Holder(**record)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError) as error:
            raise RunError(
                f"{self._run.uri}/{name}: interscan did not write this; delete it if nobody trains this run"
            ) from error


class LeasedLocation(Location):
    """A run's folder that refuses every change once its lease is lost.

    Args:
        inner: the folder.
        lease: asked before each change.
    """

    def __init__(self, inner: Location, lease: Lease) -> None:
        super().__init__(inner.uri, inner.options)
        self._inner = inner
        self._lease = lease

    def read(self, name: str = "") -> bytes:
        """The whole object."""
        return self._inner.read(name)

    def names(self, folder: str = "") -> list[str]:
        """Sorted names of all objects below `folder`."""
        return self._inner.names(folder)

    def write(self, name: str, data: bytes) -> None:
        """Put a whole object, if the lease holds."""
        self._lease.require()
        self._inner.write(name, data)

    def create(self, name: str, data: bytes) -> bool:
        """Put an object if the lease holds and the name is free."""
        self._lease.require()
        return self._inner.create(name, data)

    def delete(self, name: str) -> None:
        """Remove an object, if the lease holds."""
        self._lease.require()
        self._inner.delete(name)


def _name(holder: Holder) -> str:
    return f"host {holder.host}, pid {holder.pid}"


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
