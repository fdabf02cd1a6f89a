"""Turns what the program wrote and printed into values that are alike whenever its behaviour is, format by format.

Files whose bytes are a promise (volumes, tables, headers) are compared by their bytes. Where a format holds a time, a
speed or the paths of modules, what it says is compared instead: tensors by key, programs by their parameters and by
what they answer to a fixed input, pictures by their pixels. A masked value keeps its key, so one that is gone is seen.
"""

import base64
import hashlib
import io
import itertools
import json
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

MASK = "<varies>"
VOLATILE = {
    "finished": "time of day",
    "created": "time of day",
    "seconds": "time it took",
    "wait_seconds": "time it took",
    "volumes_per_s": "speed of the machine at that moment",
    "mb_per_s": "speed of the machine at that moment",
    "utilisation": "speed of the machine at that moment",
    "git_revision": "the two commits have two",
    "request_id": "drawn anew for every request",
    # What `plan` measures on the store, and what follows from it.
    "au": "measured latency",
    "hours": "measured latency",
    "network_latency_volumes_per_s": "measured latency",
    "client_volumes_per_s": "measured on this machine",
    "decode_volumes_per_s": "measured on this machine",
    "latency_ms": "measured on this machine",
    "device_memory_limit_gb": "memory that happens to be free",
    "max_batch_size": "memory that happens to be free",
}
"""Keys of JSON, checkpoints, TensorBoard and tables whose values vary from run to run, each with the reason."""
VOLATILE_IN = {
    ("*/checkpoints/*.json", "sha256"): "digest of a checkpoint, which holds seconds and the commit",
    ("*/checkpoints/*.json", "name"): "ends in letters drawn anew, so that no two checkpoints have one name",
    ("*", "model.ts"): "digest of a program, whose code holds module paths; its answers are compared",
    ("*", "embed.pt2"): "as model.ts",
    ("*", "compare.pt2"): "as model.ts",
    ("*", "severity.pt2"): "as model.ts",
}
"""The same for keys that vary only in files of such a path."""
TEXTS: tuple[tuple[str, str, str], ...] = (
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|\+\d\d:\d\d)?", MASK, "time of day"),
    (r"(step-\d{8})-[0-9a-f]{8}", r"\1", "names of checkpoints end in letters drawn anew"),
    (r"events\.out\.tfevents\.[\w.-]+", "events.out.tfevents", "TensorBoard's names hold time, host and process"),
    (r"(the recorded) [0-9a-f]{12}", rf"\1 {MASK}", "digest of a checkpoint, which holds seconds and the commit"),
    (r"\b(pid|process) \d+", rf"\1 {MASK}", "process id"),
    (r"(127\.0\.0\.1):\d+", rf"\1:{MASK}", "a free port"),
    (
        r"(?<![\d.,])\d+(?:,\d{3})*(?:\.\d+)? (s|ms|seconds|minutes|min|hours|h|volumes/s|MB/s|GB/s)\b",
        rf"{MASK} \1",
        "time it took, or speed",
    ),
    (r"(CHECKOUT/)[\w/.-]+\.py:\d+", r"\1*.py", "a module's path, and lines within it, may move"),
    *((rf"\b{key} [\d.e+-]+", f"{key} {MASK}", why) for key, why in VOLATILE.items()),
)
"""Patterns in text, what is written instead, and why."""


def digest(data: bytes) -> str:
    """SHA-256, short enough to be read in a list."""
    return hashlib.sha256(data).hexdigest()[:16]


class Normaliser:
    """Makes texts and values alike that differ only in what varies from run to run.

    Args:
        folders: absolute folders and the words that stand for them, for example the checkout.
    """

    def __init__(self, folders: Mapping[str, str]) -> None:
        # The longest first, since one may lie within another.
        self._folders = sorted(folders.items(), key=lambda one: -len(one[0]))
        self._patterns = [(re.compile(pattern), instead) for pattern, instead, _ in TEXTS]

    def text(self, text: str) -> str:
        """A text without times, rates, drawn names and folders of this run."""
        for folder, word in self._folders:
            text = text.replace(folder, word)
        for pattern, instead in self._patterns:
            text = pattern.sub(instead, text)
        return text

    def value(self, value: Any, name: str = "") -> Any:
        """A nested value with the volatile keys masked and tensors and arrays as digests, as plain JSON.

        Args:
            value: of JSON, or of a checkpoint.
            name: path of the file it is of, below the work folder.
        """
        if isinstance(value, Mapping):
            return {str(key): self._entry(str(key), part, name) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(part, name) for part in value]
        if isinstance(value, torch.Tensor):
            data_bytes = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            return f"{value.dtype} {tuple(value.shape)} {digest(data_bytes)}"
        if isinstance(value, np.ndarray):
            return f"{value.dtype} {value.shape} {digest(np.ascontiguousarray(value).tobytes())}"
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, float):
            return repr(value)  # NaN and infinity are no JSON, and NaN is not equal to itself
        return value if isinstance(value, int | bool | None) else f"{type(value).__name__} {value}"

    def _entry(self, key: str, value: Any, name: str) -> Any:
        masked = key in VOLATILE or any(key == one and fnmatch(name, where) for where, one in VOLATILE_IN)
        return MASK if masked and value is not None else self.value(value, name)

    def printed(self, text: str) -> Any:
        """What was printed: as a value where it is one JSON object, else its lines."""
        try:
            return {"json": self.value(json.loads(text), "stdout")}
        except ValueError:
            return self.text(text).splitlines()

    def file(self, path: Path, name: str) -> Any:
        """What a file says, by its ending; its bytes where there is no better way.

        Args:
            path: the file.
            name: the same below the work folder, with slashes.
        """
        read = next((read for pattern, read in _READERS.items() if fnmatch(name, pattern)), None)
        return digest(path.read_bytes()) if read is None else read(self, path, name)


def _json(normaliser: Normaliser, path: Path, name: str) -> Any:
    text = path.read_text(encoding="utf-8")
    # Without strings and numbers: spaces and line breaks are part of the format too.
    layout = digest(re.sub(r'"(\\.|[^"\\])*"|-?\d[\d.eE+-]*', "", text).encode())
    return {"values": normaliser.value(json.loads(text), name), "layout": layout}


def _json_lines(normaliser: Normaliser, path: Path, name: str) -> Any:
    return [normaliser.value(json.loads(line), name) for line in path.read_text(encoding="utf-8").splitlines()]


def _checkpoint(normaliser: Normaliser, path: Path, name: str) -> Any:
    return normaliser.value(torch.load(path, map_location="cpu", weights_only=True), name)


def _arrays(normaliser: Normaliser, path: Path, name: str) -> Any:
    with np.load(path, allow_pickle=False) as arrays:
        return normaliser.value({key: arrays[key] for key in arrays.files}, name)


def _table(_normaliser: Normaliser, path: Path, _name: str) -> Any:
    table = pq.read_table(path)
    columns = {
        field.name: f"{field.type} {digest(json.dumps(table[field.name].to_pylist(), default=str).encode())}"
        for field in table.schema
    }
    # The bytes decide; columns say where they differ.
    return {"columns": columns, "bytes": digest(path.read_bytes())}


def pixels(data: bytes) -> str:
    """A picture without its metadata, in which matplotlib names itself."""
    with Image.open(io.BytesIO(data)) as picture:
        return f"{picture.mode} {picture.size} {digest(picture.tobytes())}"


def _picture(_normaliser: Normaliser, path: Path, _name: str) -> Any:
    return pixels(path.read_bytes())


_EMBEDDED = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")
_CELL = re.compile(r"(<t[hd][^>]*>)(.*?)(</t[hd]>)")


def _masked_cells(line: str, columns: set[int]) -> str:
    number = itertools.count()
    return _CELL.sub(lambda cell: f"{cell[1]}{MASK if next(number) in columns else cell[2]}{cell[3]}", line)


def page_lines(page: str, normaliser: Normaliser) -> list[str]:
    """The lines of a report, with its pictures as pixels and the volatile columns of its tables masked."""
    page = _EMBEDDED.sub(lambda found: f"pixels {pixels(base64.b64decode(found[1]))}", page)
    lines, columns = [], set[int]()
    for line in normaliser.text(page).splitlines():
        cells = _CELL.findall(line)
        if "<thead>" in line:
            columns = {number for number, (_, inner, _) in enumerate(cells) if inner in VOLATILE}
        elif columns and "<tr>" in line:
            line = _masked_cells(line, columns)
        lines.append(line)
    return lines


def _page(normaliser: Normaliser, path: Path, _name: str) -> Any:
    return page_lines(path.read_text(encoding="utf-8"), normaliser)


def _events(normaliser: Normaliser, path: Path, name: str) -> Any:
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.util.tensor_util import make_ndarray

    metrics: dict[str, list[Any]] = {}
    for event in EventFileLoader(str(path)).Load():
        for one in event.summary.value:
            metrics.setdefault(one.tag, []).append([event.step, float(make_ndarray(one.tensor))])
    return normaliser.value({tag: MASK if tag in VOLATILE else metrics[tag] for tag in sorted(metrics)}, name)


def _fixed_scans(folder: Path, number: int) -> list[torch.Tensor]:
    """Scans in [0, 1] of the shape that an artefact's golden values have; three of them, so that a batch is one."""
    with np.load(folder / "golden.npz", allow_pickle=False) as golden:
        shape = next(golden[key].shape for key in golden.files if golden[key].ndim >= 4)
    size = 3 * int(np.prod(shape[1:]))
    return [
        (((torch.arange(size) * factor) % 251) / 250).float().reshape(3, *shape[1:]) for factor in (7919, 6271)[:number]
    ]


def _answers(scans: list[torch.Tensor], method: Callable[..., Any]) -> Any:
    with torch.no_grad():
        return method(*scans)


def _script(normaliser: Normaliser, path: Path, name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch announces the end of TorchScript
        model = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        num_inputs = {
            key: 2 if key == "compare" else 1 for key in ("embed", "compare", "severity") if hasattr(model, key)
        }
        answers = {
            key: _answers(_fixed_scans(path.parent, number), getattr(model, key)) for key, number in num_inputs.items()
        }
    return normaliser.value({"parameters": dict(model.state_dict()), "answers": answers}, name)


def _program(normaliser: Normaliser, path: Path, name: str) -> Any:
    program = torch.export.load(path)
    scans = _fixed_scans(path.parent, 2 if path.stem == "compare" else 1)
    answer = _answers(scans, program.module())
    return normaliser.value({"parameters": dict(program.state_dict), "answer": answer}, name)


_READERS: dict[str, Callable[[Normaliser, Path, str], Any]] = {
    "*.json": _json,
    "*.jsonl": _json_lines,
    "*.pt": _checkpoint,
    "*.npz": _arrays,
    "*.parquet": _table,
    "*.png": _picture,
    "*.html": _page,
    "*.tfevents*": _events,
    "*.ts": _script,
    "*.pt2": _program,
}
"""How files are read, by pattern; all others by their bytes."""


def unique_names(names: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Normalised names by file; the second of one name, which two checkpoints of one step have, gets a number.

    Args:
        names: of the file, and the same normalised, in a stable order.
    """
    taken: dict[str, int] = {}
    unique = {}
    for name, plain in names:
        taken[plain] = taken.get(plain, 0) + 1
        unique[name] = plain if taken[plain] == 1 else f"{plain} ({taken[plain]})"
    return unique
