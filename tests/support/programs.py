"""TorchScript archives for tests: of small modules, and the same archive with one of its files changed."""

import io
import warnings
import zipfile
from collections.abc import Mapping

import torch


def scripted(module: torch.nn.Module) -> bytes:
    """model.ts of a module, as TorchScript writes it."""
    sink = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        torch.jit.save(torch.jit.script(module.eval()), sink)
    return sink.getvalue()


def entries(data: bytes) -> dict[str, bytes]:
    """The files of an archive, by their whole names."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


def with_files(data: bytes, changes: Mapping[str, bytes | None], *, deflated: str | None = None) -> bytes:
    """The archive with files replaced or added, or left out where there is None.

    Args:
        data: the archive.
        changes: by whole name.
        deflated: name of the one file that is compressed.
    """
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, content in (entries(data) | dict(changes)).items():
            if content is not None:
                archive.writestr(name, content, zipfile.ZIP_DEFLATED if name == deflated else zipfile.ZIP_STORED)
    return sink.getvalue()
