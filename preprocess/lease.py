"""Who may write to a location: one process at a time, by a lease object that is put only where its name is free.

writer.json names the holder (host, pid, a random token) and its last heartbeat. A holder that is gone is replaced: at
once when it is a dead process of this machine, otherwise when its heartbeat is old and does not move while watched.
Who replaces it is decided by a second create-only object named after the lost token, so that of several takers one
wins. Object stores cannot tie a write to a lease: a holder that was frozen between its check and its write may still
put one object. States of a run have unique names and rows of a store have the same bytes whoever writes them, so this
loses work at most. Clocks of the machines should agree to a few seconds.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zarr.abc.store import Store

from preprocess.console import LOG
from preprocess.errors import ArtefactError, InterscanError, RunError, StorageError, StoreError
from preprocess.holder import Holder
from preprocess.storage import Location
from preprocess.surroundings import complaint_of_name

LEASE_NAME = "writer.json"
_ATTEMPTS = 8
"""Rounds in which others may come first before we give up; each means that somebody else made progress."""
_PATIENCE_S = 2.0
"""That the end of a program waits for a heartbeat under way."""


@dataclass(frozen=True, slots=True)
class Leased:
    """What is held, as messages call it.

    Attributes:
        noun: for example `store`.
        elsewhere: the remedy that does not wait.
        error: raised when another process holds it.
    """

    noun: str
    elsewhere: str
    error: type[InterscanError]


STORE = Leased("store", "another location for the store", StoreError)
RUN = Leased("run", "another --run", RunError)
CROSS_VALIDATION = Leased("cross-validation", "another --out", RunError)
ARTEFACT = Leased("artefact", "another folder for the artefact", ArtefactError)
SHARD = Leased("shard of a store", "another shard", StoreError)
COHORT = Leased("cohort", "another folder for the cohort", StorageError)


class Lease:
    """The right to write to one folder.

        with Lease(Location("gs://bucket/run"), RUN) as lease:
            lease.require()  # before each change
            lease.beat()  # every `beat_s` seconds; `held` does both by itself

    Args:
        folder: the folder to write to.
        what: what the folder is, as messages call it.
        does: what this process does there, for people.
        stale_s: age of a heartbeat from which its holder counts as gone.
        beat_s: seconds between two heartbeats; a sixth of `stale_s` when not given.
    """

    def __init__(
        self,
        folder: Location,
        what: Leased = RUN,
        *,
        does: str = "trains",
        stale_s: float = 60.0,
        beat_s: float | None = None,
    ) -> None:
        self._folder = folder
        self._what = what
        self._stale_s = stale_s
        self.beat_s = stale_s / 6 if beat_s is None else beat_s
        self._me = Holder.this_process(does)
        self._made_folder = False
        self._beating = threading.Lock()
        self._confirmed = -float("inf")
        self._lost: str = ""

    def __enter__(self) -> "Lease":
        try:
            self.acquire()
        except KeyboardInterrupt:  # it may have come when the lease was ours already
            self.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lease.

        Raises:
            InterscanError: another process holds it; of the class in `what`.
            StorageError: the folder's name is no UTF-8, or the file system refuses.
        """
        complaint = complaint_of_name(self._folder.uri)
        if complaint:
            raise StorageError(complaint)
        self._made_folder = self._folder.is_local and not Path(self._folder.path).exists()
        for _ in range(_ATTEMPTS):
            checked_at = time.monotonic()
            is_created = self._folder.create(LEASE_NAME, self._record())
            # Read back: an earlier holder or taker that was frozen between its look and its change may have overwritten
            # or removed what we put a moment ago. And what was refused may be our own: a client that repeats a request
            # whose answer was lost finds the name taken by the first.
            holder = self._read()
            if holder is not None and holder.token == self._me.token:
                self._confirmed = checked_at
                return
            if holder is not None and not is_created:
                self._replace(holder)
        raise self._what.error(
            f"{self._folder.uri}: other processes took and left this {self._what.noun} {_ATTEMPTS} times while this "
            "one tried; start one at a time"
        )

    def require(self) -> None:
        """Make sure, before anything is written, that the lease is still ours.

        Asks the bucket, unless it said so a moment ago: nobody may take over sooner than `stale_s` after a heartbeat.

        Raises:
            InterscanError: another process has taken over; of the class in `what`.
        """
        if self._lost:
            raise self._what.error(self._lost)
        checked_at = time.monotonic()
        if checked_at - self._confirmed > self._stale_s / 12:
            self._confirm(checked_at)

    def beat(self) -> None:
        """Renew the heartbeat; a bucket that cannot be reached for a while is borne.

        Raises:
            InterscanError: another process has taken over; of the class in `what`.
        """
        with self._beating:
            if self._lost:
                raise self._what.error(self._lost)
            checked_at = time.monotonic()
            try:
                # Looked at before it is written: a heartbeat over another's lease would take the lease back.
                self._confirm(checked_at)
                try:
                    self._folder.write(LEASE_NAME, self._record())
                except StorageError:
                    # Whoever sweeps half-written files out of a folder may have met this one.
                    self._folder.write(LEASE_NAME, self._record())
            except StorageError as error:
                LOG.warning("%s: the heartbeat is not written: %s", self._folder.uri, error)

    def require_free(self) -> None:
        """Make sure that nobody alive holds the lease, without taking it.

        Raises:
            InterscanError: another process holds it; of the class in `what`.
        """
        holder = self._read()
        if holder is not None and not self._is_gone(holder):
            raise self._what.error(self._held_by(holder))

    def release(self) -> None:
        """Give the lease back and write nothing more; what cannot be removed is found dead by the next process."""
        # A heartbeat on the way would come back after it was removed; one that hangs is not waited for.
        free = self._beating.acquire(timeout=_PATIENCE_S)
        self._lost = self._lost or f"{self._folder.uri}: this process has given the {self._what.noun} back"
        try:
            holder = self._read()
            if free and holder is not None and holder.token == self._me.token:
                self._folder.delete(LEASE_NAME)
        except StorageError as error:
            LOG.warning("%s: %s is not removed: %s", self._folder.uri, LEASE_NAME, error)
        finally:
            if free:
                self._beating.release()
            if self._made_folder:
                with suppress(OSError):  # it holds what was written
                    Path(self._folder.path).rmdir()

    def _confirm(self, checked_at: float) -> None:
        holder = self._read()
        if holder is None or holder.token != self._me.token:
            by = f"by {holder.name}" if holder else f"({LEASE_NAME} is gone)"
            self._lost = (
                f"{self._folder.uri}: this {self._what.noun} was taken over {by}, so this process writes nothing "
                "more; let the other one go on, or start again when it has ended"
            )
            raise self._what.error(self._lost)
        self._confirmed = checked_at

    def _replace(self, holder: Holder) -> None:
        """Remove a holder that is gone, so that the next round can take the lease.

        Raises:
            InterscanError: it lives, or another process is replacing it; of the class in `what`.
        """
        if not self._is_gone(holder):
            raise self._what.error(self._held_by(holder))
        claim = f"writer-claim-{holder.token}.json"
        if not self._folder.create(claim, self._record()):
            other = self._read(claim)
            if other is None:
                return
            if not self._is_gone(other):
                raise self._what.error(self._held_by(other))
            self._folder.delete(claim)
            return
        # The claim excludes all other takers from here; but one may have been done before it was ours.
        found = self._read()
        if found is not None and found.token == holder.token:
            LOG.warning("%s: taking over from %s, which is gone", self._folder.uri, holder.name)
            self._folder.delete(LEASE_NAME)
        self._folder.delete(claim)

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
            f"{self._folder.uri}: {holder.name} {holder.does} this {self._what.noun} since {since}, last heartbeat "
            f"{age_s:.0f} s ago; wait until it ends, or use {self._what.elsewhere}"
        )

    def _record(self) -> bytes:
        return json.dumps({**asdict(self._me), "heartbeat": time.time()}).encode()

    def _read(self, name: str = LEASE_NAME) -> Holder | None:
        try:
            record: dict[str, Any] = json.loads(self._folder.read(name))
            return Holder(**record)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError) as error:
            raise self._what.error(
                f"{self._folder.uri}/{name}: interscan did not write this; delete it if nobody writes to this "
                f"{self._what.noun}"
            ) from error


class LeasedLocation(Location):
    """A folder that refuses every change once its lease is lost.

    Args:
        inner: the folder.
        lease: checked before each change.
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

    def zarr_store(self) -> Store:
        """This folder as a Zarr store, if the lease holds now."""
        self._lease.require()
        return self._inner.zarr_store()

    def child(self, name: str) -> "LeasedLocation":
        """The folder `name` below this one, under the same lease."""
        return LeasedLocation(self._inner.child(name), self._lease)

    def require(self) -> None:
        """Make sure that the lease holds.

        Raises:
            InterscanError: another process has taken over.
        """
        self._lease.require()


@contextmanager
def held(folder: Location, what: Leased, *, does: str = "writes") -> Iterator[LeasedLocation]:
    """Hold the lease while the block runs, with a heartbeat beside it.

        with held(Location("gs://bucket/store"), STORE) as store:
            store.write("index.parquet", table)

    Args:
        folder: the folder to write to.
        what: what the folder is, as messages call it.
        does: what this process does there, for people.

    Yields:
        The folder, which refuses changes once another process has taken over.

    Raises:
        InterscanError: another process holds it; of the class in `what`.
    """
    lease = Lease(folder, what, does=does)
    ended = threading.Event()

    def beat() -> None:
        with suppress(InterscanError):  # lost; the next change says so, and nobody is left to beat for
            while not ended.wait(lease.beat_s):
                lease.beat()

    with lease:
        threading.Thread(target=beat, name="interscan-heartbeat", daemon=True).start()
        try:
            yield LeasedLocation(folder, lease)
        finally:
            ended.set()
