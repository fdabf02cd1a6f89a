"""Checkpoints at any URL: data first, pointer last, every name unique, digest checked on load, nothing unpickled."""

import hashlib
import io
import json
import pickle
import uuid
from typing import Any

import torch

from preprocess.errors import RunError
from preprocess.storage import Location

_FOLDER = "checkpoints"
_POINTER = f"{_FOLDER}/latest.json"
State = dict[str, Any]


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


class Checkpoints:
    """The checkpoints of one run.

    Args:
        run: the run's folder.
        keep: how many of the latest stay.
    """

    def __init__(self, run: Location, *, keep: int) -> None:
        self._run = run
        self._keep = keep

    def save(self, state: State, *, step: int) -> str:
        """Write a checkpoint, point to it, and drop the oldest; returns its name."""
        data = dump_state(state)
        name = f"{_FOLDER}/step-{step:08d}-{uuid.uuid4().hex[:8]}.pt"
        self._run.write(name, data)
        pointer = {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "step": step}
        self._run.write(_POINTER, json.dumps(pointer).encode())
        kept = [found for found in self._run.names(_FOLDER) if found.endswith(".pt")]
        for old in kept[: -self._keep]:
            if old != name:
                self._run.delete(old)
        return name

    def load_latest(self) -> State | None:
        """The state that the pointer names, or None where nothing was saved yet.

        Raises:
            RunError: the checkpoint is missing or is not the one that was written.
        """
        try:
            pointer = json.loads(self._run.read(_POINTER))
        except (FileNotFoundError, NotADirectoryError):
            return None
        where = f"{self._run.uri}/{pointer['name']}"
        try:
            data = self._run.read(pointer["name"])
        except FileNotFoundError as error:
            raise RunError(f"{where}: the latest checkpoint is missing; start a new run in another place") from error
        found = hashlib.sha256(data).hexdigest()
        if found != pointer["sha256"]:
            raise RunError(
                f"{where}: SHA-256 {found[:12]} is not the recorded {pointer['sha256'][:12]}, it is damaged; "
                "start a new run in another place"
            )
        return load_state(data, where=where)
