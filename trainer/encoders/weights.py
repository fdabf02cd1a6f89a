"""Initial weights from a file on disk or in a bucket: all names and shapes fit, or nothing is loaded.

Files of torch.save are read with `weights_only`, so nothing in them is executed; .safetensors files hold tensors only.
"""

import hashlib
import io
import pickle
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from preprocess.errors import UsageError
from preprocess.storage import Location, Options

_NAMED = 5
"""Names that a message lists of each kind."""

_STARTS = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
"""First bytes of what torch.save writes: a zip, and before version 1.6 a pickled magic number."""

_DAMAGE = (
    *(pickle.UnpicklingError, RuntimeError, EOFError, struct.error),
    *(ValueError, LookupError, TypeError, AttributeError, AssertionError),
)
"""What torch.load raises: the first for what it refuses and for files cut off, all of them for files with changed bytes
(seen in 3,000 files of both formats with three bytes changed)."""


def load_weights(module: nn.Module, uri: str, *, prefix: str = "", options: Options | None = None) -> str:
    """Copy weights from a file into a module.

    Args:
        module: what to fill; unchanged when the file is refused.
        uri: local path or URL of a state dict written by torch.save, or of a .safetensors file. Dicts within dicts are
            read as one, their names joined by dots.
        prefix: what stands before the module's own names in the file, with its dot, as in `encoder.`; names without it
            are left out.
        options: arguments of the fsspec file system.

    Returns:
        SHA-256 of the file, for the run's record.

    Raises:
        UsageError: no such file, more than tensors in it, or names and shapes that are not the module's.
        StorageError: the bucket or disk refuses.
    """
    try:
        data = Location(uri, options).read()
    except FileNotFoundError as error:
        raise UsageError(f"{uri}: there is no such file of weights; check the path") from error
    found = _with_prefix(_flat(_read(data, uri)), prefix, uri)
    _refuse_other_values(found, uri)
    expected = module.state_dict()
    _refuse_what_does_not_fit(found, expected, f"{uri}: not the weights of {type(module).__name__}")
    module.load_state_dict({**expected, **found})
    return hashlib.sha256(data).hexdigest()


def _read(data: bytes, uri: str) -> Mapping[Any, Any]:
    if uri.endswith(".safetensors"):
        return _read_safetensors(data, uri)
    if not data.startswith(_STARTS):
        raise UsageError(f"{uri}: no file of torch.save, or damaged; give a state dict, or a .safetensors file")
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _DAMAGE as error:
        raise UsageError(
            f"{uri}: holds more than tensors, or damaged; give a state dict written by torch.save, or .safetensors"
        ) from error
    if not isinstance(state, Mapping):
        raise UsageError(f"{uri}: holds a {type(state).__name__}; give a state dict, tensors by name")
    return state


def _read_safetensors(data: bytes, uri: str) -> Mapping[Any, Any]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load
    except ImportError as error:
        raise UsageError(f"{uri}: the package safetensors is not installed; install it, or give a .pt file") from error
    try:
        return load(data)
    except SafetensorError as error:
        raise UsageError(f"{uri}: no safetensors file, or damaged ({error}); check the file") from error


def _flat(state: Mapping[Any, Any], above: str = "") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in state.items():
        full_name = f"{above}{name}"
        values |= _flat(value, f"{full_name}.") if isinstance(value, Mapping) else {full_name: value}
    return values


def _with_prefix(values: Mapping[str, Any], prefix: str, uri: str) -> dict[str, Any]:
    chosen = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    if not chosen:
        raise UsageError(
            f"{uri}: {f'no name begins with {prefix!r}' if prefix else 'there are no names'}; "
            f"it holds {_listed(values) or 'nothing'}"
        )
    return chosen


def _refuse_other_values(values: Mapping[str, Any], uri: str) -> None:
    others = [f"{name} ({type(value).__name__})" for name, value in values.items() if not torch.is_tensor(value)]
    if others:
        raise UsageError(f"{uri}: not tensors: {_listed(others)}; give a state dict, or the prefix of one within")


def _refuse_what_does_not_fit(
    found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], what: str
) -> None:
    # A counter that older files lack; it counts only for a BatchNorm without momentum, of which there is none here.
    missing = [name for name in expected if name not in found and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in found if name not in expected]
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in found and found[name].shape != expected[name].shape
    ]
    faults = [
        f"{kind} {_listed(names)}"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if faults:
        raise UsageError(f"{what}: {'; '.join(faults)}; give weights of the same network, or another prefix")


def _listed(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
