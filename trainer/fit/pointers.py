"""The small JSON files that name a run's states, and which states are there when such a file is damaged or gone.

A state that no pointer names has no recorded digest. It is known as whole by its own checksums: torch.save writes a zip
archive, whose every record has a CRC-32, which no single flipped bit passes.
"""

import hashlib
import io
import json
import lzma
import re
import struct
import zipfile
import zlib
from typing import Any, TypedDict

from preprocess.errors import RunError
from preprocess.storage import Location

FOLDER = "checkpoints"
LATEST = f"{FOLDER}/latest.json"
BEST = f"{FOLDER}/best.json"
_STATE = re.compile(rf"{FOLDER}/step-(\d{{8,}})-[0-9a-f]{{8}}\.pt")


_UNREADABLE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError),
    *(NotImplementedError, RuntimeError, OSError, ValueError),
)
"""What zipfile raises for an archive with changed bytes: also that it is encrypted, or packed in a way unknown."""


class DamagedError(RunError):
    """A pointer or a state is missing or not what was written; the caller knows whether another can be used."""


class Entry(TypedDict):
    """What a pointer says of a state.

    Attributes:
        name: the state's file, relative to the run's folder.
        sha256: SHA-256 of the file's bytes.
        step: steps done.
    """

    name: str
    sha256: str
    step: int


def read_pointer(run: Location, name: str) -> dict[str, Any]:
    """Contents of a pointer; empty where there is none.

    Raises:
        DamagedError: it is no such JSON.
    """
    try:
        data = run.read(name)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    try:
        pointer = json.loads(data)
        for part in (pointer, *pointer.get("earlier", [])):
            Entry(name=part["name"] + "", sha256=part["sha256"] + "", step=part["step"] + 0)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        size = "is empty" if not data else f"holds {len(data)} bytes that are no pointer"
        raise DamagedError(f"{run.uri}/{name} {size}, it is damaged") from error
    found: dict[str, Any] = pointer
    return found


def entries_of(pointer: dict[str, Any]) -> list[Entry]:
    """What a pointer names, newest first."""
    parts = [pointer, *pointer.get("earlier", [])] if pointer else []
    return [Entry(name=part["name"], sha256=part["sha256"], step=part["step"]) for part in parts]


def state_names(run: Location) -> list[tuple[int, str]]:
    """Steps and names of the states that are there, newest first."""
    found = [(match, name) for name in run.names(FOLDER) if (match := _STATE.fullmatch(name))]
    return sorted(((int(match[1]), name) for match, name in found), reverse=True)


def whole_states(run: Location) -> list[Entry]:
    """The states that are there and whole by their own checksums, newest first, with the digests that they have."""
    entries = []
    for step, name in state_names(run):
        data = run.read(name)
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                is_whole = archive.testzip() is None
        except _UNREADABLE:
            is_whole = False
        if is_whole:
            entries.append(Entry(name=name, sha256=hashlib.sha256(data).hexdigest(), step=step))
    return entries
