"""Checkpoints at any URL: data first, pointer last, every name unique, digest checked on load, nothing unpickled.

checkpoints/step-00000012-1a2b3c4d.pt   one state, put only where the name is free
checkpoints/latest.json                 the state in force and those kept before it, each with its digest
checkpoints/best.json                   the state with the best figure, where the recipe names one
"""

import hashlib
import io
import json
import pickle
import random
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

_FOLDER = "checkpoints"
_POINTER = f"{_FOLDER}/latest.json"
_BEST = f"{_FOLDER}/best.json"
_TRIES = 3
_BACKOFF_S = 1.0
"""Before the second try, twice that before the third, each times a random factor from 0.5 to 1.5."""
State = dict[str, Any]
_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Best:
    """Why a checkpoint is the best so far: a figure of the history, and its value."""

    figure: str
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
            f"{where}: holds more than tensors and plain values, so interscan did not write it; "
            "start a new run in another place"
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

    Args:
        run: the run's folder.
        keep: how many of the latest stay; the best stays besides.
        background: uploads there; without it every save is synchronous.
        origin: what the states belong to (recipe, fingerprint, git_revision); written into each and held against each
            that is loaded.
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
        self._entries: list[dict[str, Any]] | None = None
        """What latest.json names, newest first; None before it was read."""

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

        One upload is under way at most and one waits. A newer one takes the place of one that waits, unless that is
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
        if self._pointer(_POINTER).get("name") != entry["name"]:
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
        """Raise what an upload failed with; asked after every step."""
        if self._background is not None:
            self._background.raise_failure()

    def load_latest(self) -> State | None:
        """The state that the pointer names, or None where nothing was saved yet.

        Raises:
            RunError: the checkpoint is missing, is not the one that was written, or belongs to another run.
        """
        return self._load(_POINTER)

    def load_best(self) -> State | None:
        """The state with the best figure, or None where the recipe named none or nothing was saved yet.

        Raises:
            RunError: as `load_latest`.
        """
        return self._load(_BEST)

    def kept(self) -> tuple[int, ...]:
        """Steps of the states that stay and are there, in order, each once."""
        present = set(self._run.names(_FOLDER))
        return tuple(sorted({int(entry["step"]) for entry in self._named() if entry["name"] in present}))

    def load_kept(self, step: int) -> State:
        """The newest state of a step that `kept` names.

        Raises:
            RunError: as `load_latest`.
            KeyError: no such step is kept.
        """
        for entry in self._named():
            if entry["step"] == step:
                return self._read(entry)
        raise KeyError(step)

    def _named(self) -> list[dict[str, Any]]:
        """What latest.json names, newest first."""
        pointer = self._pointer(_POINTER)
        return [pointer, *pointer.get("earlier", [])] if pointer else []

    def _load(self, pointer_name: str) -> State | None:
        pointer = self._pointer(pointer_name)
        return self._read(pointer) if pointer else None

    def _read(self, pointer: Mapping[str, Any]) -> State:
        where = f"{self._run.uri}/{pointer['name']}"
        try:
            data = self._run.read(pointer["name"])
        except FileNotFoundError as error:
            raise RunError(f"{where}: this checkpoint is missing; start a new run in another place") from error
        found = hashlib.sha256(data).hexdigest()
        if found != pointer["sha256"]:
            raise RunError(
                f"{where}: SHA-256 {found[:12]} is not the recorded {pointer['sha256'][:12]}, it is damaged; "
                "start a new run in another place"
            )
        state = load_state(data, where=where)
        for name, wanted in self._origin.items():
            if name == "git_revision":
                if state.get(name, wanted) != wanted:
                    LOG.warning("%s was written by revision %s, this is %s", where, state[name], wanted)
            elif name in state and state[name] != wanted:
                raise RunError(
                    f"{where}: its {name} is not this run's, it was copied from another run; "
                    "start a new run in another place"
                )
        return state

    def _pointer(self, name: str) -> dict[str, Any]:
        """Contents of a pointer; empty where there is none."""
        try:
            pointer: dict[str, Any] = json.loads(self._run.read(name))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return pointer

    def _put(self, state: State, *, step: int, best: Best | None, last: bool = False) -> dict[str, Any]:
        data = dump_state(state)
        digest = hashlib.sha256(data).hexdigest()

        def write() -> dict[str, Any]:
            # A new name each try: a try that failed may have written a part, or all.
            name = f"{_FOLDER}/step-{step:08d}-{uuid.uuid4().hex[:8]}.pt"
            if not self._run.create(name, data):
                raise StorageError(f"{self._run.uri}/{name}: the name is taken; check who else writes there")
            entry = {"name": name, "sha256": digest, "step": step}
            if self._overtaken.is_set() and not last:
                return entry
            if best is not None:
                told = {**entry, "figure": best.figure, "value": best.value}
                self._run.write(_BEST, json.dumps(told).encode())
            self._point(entry)
            return entry

        return _try_thrice(f"the checkpoint of step {step} is not written", write)

    def _point(self, entry: dict[str, Any]) -> None:
        if self._entries is None:
            before = self._pointer(_POINTER)
            self._entries = [{key: before[key] for key in entry}, *before.get("earlier", [])] if before else []
        kept = [entry, *(one for one in self._entries if one["name"] != entry["name"])][: self._keep]
        self._run.write(_POINTER, json.dumps({**entry, "earlier": kept[1:]}).encode())
        self._entries = kept

    def _prune(self) -> None:
        """Delete every state that no pointer names: old ones, and what a crash left behind."""
        latest, best = self._pointer(_POINTER), self._pointer(_BEST)
        named = {one["name"] for one in (latest, best, *latest.get("earlier", [])) if one}
        if self._overtaken.is_set():
            return
        for name in self._run.names(_FOLDER):
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
