"""Checkpoints at any URL: data first, pointer last, every name unique, digest checked on load, nothing unpickled.

checkpoints/step-00000012-1a2b3c4d.pt   one state, put only where the name is free
checkpoints/latest.json                 the state in force and those kept before it, each with its digest
checkpoints/best.json                   the state with the best metric, where the recipe names one

A run goes on from the newest state that is whole, and says what was lost where that is not the one written last.
"""

import hashlib
import io
import json
import pickle
import random
import struct
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from preprocess.console import LOG
from preprocess.errors import RunError, StorageError
from preprocess.storage import Location
from trainer.fit.background import Background
from trainer.fit.pointers import (
    BEST,
    FOLDER,
    LATEST,
    DamagedError,
    Entry,
    entries_of,
    read_pointer,
    state_names,
    whole_states,
)

_ANEW = "start a new run at another location"
_TRIES = 3
_BACKOFF_S = 1.0
"""Before the second try, twice that before the third, each times a random factor from 0.5 to 1.5."""
_UNREADABLE = (
    *(RuntimeError, ValueError, LookupError, EOFError, struct.error),
    *(AttributeError, AssertionError, TypeError),
)
"""What torch.load raises for an archive with changed bytes, beside what it refuses to run."""
State = dict[str, Any]
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Best:
    """Why a checkpoint is the best so far: a metric of the history, and its value."""

    metric: str
    value: float


def dump_state(state: State) -> bytes:
    """Tensors and plain values as bytes that `load_state` reads."""
    sink = io.BytesIO()
    torch.save(state, sink)
    return sink.getvalue()


def load_state(data: bytes, *, where: str = "checkpoint") -> State:
    """The inverse of `dump_state`; nothing in it is executed (`weights_only`).

    Args:
        data: what `dump_state` gave.
        where: how messages name it.

    Raises:
        RunError: it holds anything but tensors and plain values.
    """
    try:
        state: State = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RunError(
            f"{where}: holds more than tensors and plain values, so interscan did not write it; {_ANEW}"
        ) from error
    return state


def snapshot(value: Any) -> Any:
    """A copy, on the CPU, of a nested value of tensors, that later steps do not change."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: snapshot(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(snapshot(part) for part in value)
    return value


class Checkpoints:
    """The checkpoints of one run.

        checkpoints = Checkpoints(Location("gs://bucket/run"), keep=2)
        checkpoints.save({"model": model.state_dict()}, step=12)
        state = checkpoints.load_latest()

    Args:
        run: the run's folder.
        keep: how many of the latest stay; the best stays besides.
        background: uploads there; without it every save is synchronous.
        origin: what the states belong to (recipe, fingerprint, git_revision); written into each and held against each
            that is loaded.

    Attributes:
        lost_steps: by how many steps the state that `load_latest` found is older than the one written last.
    """

    def __init__(
        self,
        run: Location,
        *,
        keep: int,
        background: Background | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self._run = run
        self._keep = keep
        self._background = background
        self._origin = dict(origin or {})
        self._overtaken = threading.Event()
        self._entries: list[Entry] | None = None
        """What latest.json names, newest first, or shall name; None before it was read."""
        self.lost_steps = 0

    def save(self, state: State, *, step: int, best: Best | None = None) -> str:
        """Write a checkpoint, point to it, and drop the oldest; returns its name.

        Args:
            state: what to write.
            step: steps done.
            best: given when no earlier checkpoint was better.

        Raises:
            StorageError: three tries failed.
        """
        entry = self._put({**state, **self._origin}, step=step, best=best)
        _try_thrice("old checkpoints are not dropped", self._prune)
        return str(entry["name"])

    def save_async(self, state: State, *, step: int, best: Best | None = None) -> None:
        """Copy the state now and write it on the background thread, as `save` does.

        One upload is under way at most and one waits. A newer one replaces one that waits, unless that is
        the best so far: then this call waits until it has begun. So three copies of a state exist at most.

        Raises:
            InterscanError: an earlier upload failed.
        """
        if self._background is None:
            self.save(state, step=step, best=best)
            return
        # Before the copy is made, so that a failure costs nothing and names the upload that failed.
        self._background.raise_failure()
        frozen = snapshot(state)

        def upload() -> None:
            self.save(frozen, step=step, best=best)

        self._background.submit(upload, must_run=best is not None)

    def save_last(self, state: State, *, step: int) -> str:
        """Write a checkpoint before this returns, past an upload that is under way and may hang.

        That one no longer touches the pointer. Nothing is dropped, since a stopped machine has little time; the next
        save does it.
        """
        self._overtaken.set()
        if self._background is not None:
            self._background.forget()
        entry = self._put({**state, **self._origin}, step=step, best=None, last=True)
        # An upload that was just writing its pointer may have written it after this one.
        if read_pointer(self._run, LATEST).get("name") != entry["name"]:
            _try_thrice("the pointer is not written", lambda: self._point(entry))
        return str(entry["name"])

    def wait(self) -> None:
        """Return when all uploads are durable.

        Raises:
            InterscanError: one failed.
        """
        if self._background is not None:
            self._background.wait()

    def raise_failure(self) -> None:
        """Raise what an upload failed with; called after every step."""
        if self._background is not None:
            self._background.raise_failure()

    def load_latest(self) -> State | None:
        """The newest state that is whole, or None where nothing was saved yet.

        Where that is not the one written last, a warning says what was lost, and the next save no longer counts the
        damaged ones.

        Raises:
            RunError: no state is whole, or the newest whole one belongs to another run.
        """
        entries, fault = self._known()
        faults = [fault] if fault else []
        steps = [entry["step"] for entry in entries] + [step for step, _ in state_names(self._run) if fault]
        for entry in self._newest_first(entries):
            try:
                state = self._read(entry)
            except DamagedError as error:
                faults.append(str(error))
                entries = [one for one in entries if one["name"] != entry["name"]]
                continue
            self._entries = entries
            if faults:
                self.lost_steps = max(0, *(step - entry["step"] for step in steps))
                LOG.warning(
                    "%s; going on from %s instead, after step %d: %d later steps are lost and computed again",
                    "; ".join(faults),
                    entry["name"],
                    entry["step"],
                    self.lost_steps,
                )
            return state
        if faults:
            raise RunError(f"{'; '.join(faults)}; no other checkpoint of this run is whole; {_ANEW}")
        if state_names(self._run):
            LOG.warning("%s/%s: no checkpoint there is whole or named; beginning anew", self._run.uri, FOLDER)
        self._entries = []
        return None

    def load_best(self) -> State | None:
        """The state with the best metric, or None where the recipe named none or nothing was saved yet.

        Raises:
            RunError: pointer or state is missing or damaged, or belongs to another run.
        """
        remedy = f"delete {self._run.uri}/{BEST}, and use the latest checkpoint"
        try:
            pointer = read_pointer(self._run, BEST)
            return self._read(entries_of(pointer)[0]) if pointer else None
        except DamagedError as error:
            raise RunError(f"{error}; {remedy}") from error

    def kept(self) -> tuple[int, ...]:
        """Steps of the states that stay and are there, in order, each once."""
        present = set(self._run.names(FOLDER))
        return tuple(sorted({entry["step"] for entry in self._known()[0] if entry["name"] in present}))

    def load_kept(self, step: int) -> State:
        """The newest whole state of a step that `kept` names.

        Raises:
            RunError: all states of the step are missing or damaged, or the newest belongs to another run.
            KeyError: no such step is kept.
        """
        fault: DamagedError | None = None
        for entry in self._known()[0]:
            if entry["step"] != step:
                continue
            try:
                return self._read(entry)
            except DamagedError as error:
                fault = fault or error
        if fault is None:
            raise KeyError(step)
        raise RunError(f"{fault}; choose another epoch, or {_ANEW}") from fault

    def _known(self) -> tuple[list[Entry], str]:
        """The states of the run, newest first, and what is wrong with the pointer, if anything is."""
        try:
            pointer = read_pointer(self._run, LATEST)
        except DamagedError as error:
            return whole_states(self._run), str(error)
        if pointer:
            return entries_of(pointer), ""
        found = whole_states(self._run)
        return found, f"{self._run.uri}/{LATEST} is missing" if found else ""

    def _newest_first(self, entries: list[Entry]) -> list[Entry]:
        """These and the best one, newest first; those of one step in the order given."""
        try:
            best = entries_of(read_pointer(self._run, BEST))
        except DamagedError as error:
            LOG.warning("%s; old checkpoints stay until a better one comes, as one of them may be the best", error)
            best = []
        names = {entry["name"] for entry in entries}
        both = [*entries, *(entry for entry in best if entry["name"] not in names)]
        return sorted(both, key=lambda entry: -entry["step"])

    def _read(self, entry: Entry) -> State:
        where = f"{self._run.uri}/{entry['name']}"
        try:
            data = self._run.read(entry["name"])
        except FileNotFoundError as error:
            raise DamagedError(f"{where}: this checkpoint is missing") from error
        found = hashlib.sha256(data).hexdigest()
        if found != entry["sha256"]:
            raise DamagedError(
                f"{where}: SHA-256 {found[:12]} is not the recorded {entry['sha256'][:12]}, it is damaged"
            )
        try:
            state = load_state(data, where=where)
        except _UNREADABLE as error:  # only of a state without a recorded digest, see trainer.fit.pointers
            raise DamagedError(f"{where}: cannot be read ({type(error).__name__}), it is damaged") from error
        for name, expected in self._origin.items():
            if name == "git_revision":
                if state.get(name, expected) != expected:
                    LOG.warning("%s was written by revision %s, this is %s", where, state[name], expected)
            elif name in state and state[name] != expected:
                raise RunError(f"{where}: its {name} is not this run's, it was copied from another run; {_ANEW}")
        return state

    def _put(self, state: State, *, step: int, best: Best | None, last: bool = False) -> Entry:
        data = dump_state(state)
        digest = hashlib.sha256(data).hexdigest()

        def write() -> Entry:
            # A new name each try: a try that failed may have written a part, or all.
            name = f"{FOLDER}/step-{step:08d}-{uuid.uuid4().hex[:8]}.pt"
            if not self._run.create(name, data):
                raise StorageError(f"{self._run.uri}/{name}: the name is taken; check who else writes there")
            entry = Entry(name=name, sha256=digest, step=step)
            if self._overtaken.is_set() and not last:
                return entry
            # Pointers come after the state that they name, and the best before the latest: a run that is cut off
            # between the two does not go on past a best that no pointer names.
            if best is not None:
                pointer = {**entry, "figure": best.metric, "value": best.value}
                self._run.write(BEST, json.dumps(pointer).encode())
            self._point(entry)
            return entry

        return _try_thrice(f"the checkpoint of step {step} is not written", write)

    def _point(self, entry: Entry) -> None:
        if self._entries is None:
            try:
                self._entries = entries_of(read_pointer(self._run, LATEST))
            except DamagedError:
                self._entries = whole_states(self._run)
        kept = [entry, *(one for one in self._entries if one["name"] != entry["name"])][: self._keep]
        self._run.write(LATEST, json.dumps({**entry, "earlier": kept[1:]}).encode())
        self._entries = kept

    def _prune(self) -> None:
        """Delete every state that no pointer names: old ones, damaged ones, and what a crash left behind."""
        try:
            latest, best = (read_pointer(self._run, name) for name in (LATEST, BEST))
        except DamagedError:
            return  # what it named may be any of them
        named = {entry["name"] for entry in (*entries_of(latest), *entries_of(best))}
        names = self._run.names(FOLDER)
        # Looked at after the list: a state that `save_last` puts later is not in it.
        if self._overtaken.is_set():
            return  # `save_last` may have put a state that the pointers read above do not name
        for name in names:
            if name.endswith(".pt") and name not in named:
                self._run.delete(name)


def _try_thrice(what: str, action: Callable[[], _Answer]) -> _Answer:
    """Repeat what the bucket refuses, with growing random pauses; the last refusal becomes one line.

    Raises:
        StorageError: what did not happen, and why.
    """
    for tried in range(1, _TRIES):
        try:
            return action()
        except StorageError as error:
            pause_s = _BACKOFF_S * 2 ** (tried - 1) * random.uniform(0.5, 1.5)  # noqa: S311 - spreads load, no secret
            LOG.warning("try %d of %d: %s; again in %.1f s", tried, _TRIES, error, pause_s)
            time.sleep(pause_s)
    try:
        return action()
    except StorageError as error:
        raise StorageError(f"{what} after {_TRIES} tries: {error}; run the same command again to go on") from error
