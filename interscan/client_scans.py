"""What a request carries: scans from disk, from memory or by URI, and its fields, checked before a byte is sent.

The fields are checked by the models that the service itself reads requests with.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from preprocess.errors import UsageError
from preprocess.system_errors import describe

if TYPE_CHECKING:
    from pydantic import BaseModel

    from interscan.client_calls import Deadline

Scan = str | os.PathLike[str] | bytes
"""A path of this machine, a URI that the service reads itself, or the bytes of a file."""
_FORMS = "a NIfTI file (.nii, .nii.gz) or a zip of one DICOM series"


@dataclass(frozen=True, slots=True)
class Body:
    """The body of one request, which can be sent more than once.

    Attributes:
        json: the object of a request by URIs; None where files are uploaded.
        texts: the text fields beside uploaded files.
        uploads: name of the part and the file, in order.
    """

    json: dict[str, Any] | None = None
    texts: dict[str, str] = field(default_factory=dict)
    uploads: tuple[tuple[str, Path | bytes], ...] = ()

    def open(self, held: ExitStack, deadline: "Deadline") -> dict[str, Any]:
        """The arguments that httpx takes for it; files are read while they are sent, a piece at a time.

        Args:
            held: what closes the files.
            deadline: looked at before each piece.

        Raises:
            UsageError: a file that cannot be opened.
        """
        if self.json is not None:
            return {"json": self.json}
        files = []
        for part, source in self.uploads:
            content = source if isinstance(source, bytes) else _TimedFile(held, source, deadline)
            # The name of a file often names a person: the service neither needs nor gets it.
            files.append((part, (part, content, "application/octet-stream")))
        return {"data": self.texts, "files": files}


class _TimedFile:
    """A file as httpx reads it: of the length that it had when it was opened, and only while the call has time.

    The length is announced before the first byte, so a file that grows or shrinks meanwhile cannot be sent.

    Args:
        held: what closes it.
        path: a regular file.
        deadline: when the call ends.
    """

    def __init__(self, held: ExitStack, path: Path, deadline: "Deadline") -> None:
        self._path = path
        self._deadline = deadline
        try:
            self._file: IO[bytes] = held.enter_context(path.open("rb"))
        except OSError as error:
            raise UsageError(describe(error)) from error
        self._num_bytes = os.fstat(self._file.fileno()).st_size

    def tell(self) -> int:
        """How many bytes have been read."""
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """To the beginning before it is sent; to the end, which httpx asks for the length, is where it was at first."""
        return self._file.seek(self._num_bytes if whence == os.SEEK_END else offset)

    def read(self, num_bytes: int) -> bytes:
        """The next piece.

        Raises:
            OutOfTimeError: the call has no time left.
            UsageError: the file cannot be read, or has changed its length.
        """
        self._deadline.check()
        left = self._num_bytes - self._file.tell()
        try:
            piece = self._file.read(min(num_bytes, left))
            is_changed = len(piece) < min(num_bytes, left) or os.fstat(self._file.fileno()).st_size != self._num_bytes
        except OSError as error:
            raise UsageError(f"{self._path}: {describe(error)}") from error
        if is_changed:
            raise UsageError(f"{self._path} changed while it was sent; ask again when nothing writes to it")
        return piece


def scans_by_uri(scans: Mapping[str, Scan]) -> list[str] | None:
    """The URIs of scans that are all given so; None where all are files.

    Args:
        scans: by what messages call them, for example `the earlier scan`.

    Raises:
        UsageError: files and URIs in one request, which the service does not take.
    """
    uris = {name: scan for name, scan in scans.items() if isinstance(scan, str) and "://" in scan}
    if not uris:
        return None
    files = [name for name in scans if name not in uris]
    if files:
        raise UsageError(
            f"{next(iter(uris))} is a URI and {files[0]} is not; a request either uploads its scans or names all by URI"
        )
    return list(uris.values())


def files_of(scans: Mapping[str, Scan]) -> list[Path | bytes]:
    """The files to upload, each seen to be there.

    Args:
        scans: as in `scans_by_uri`.

    Raises:
        UsageError: no such file, a folder, an empty one, or what is no scan at all.
    """
    return [_file_of(name, scan) for name, scan in scans.items()]


def _file_of(name: str, scan: Scan) -> Path | bytes:
    if isinstance(scan, bytes):
        if not scan:
            raise UsageError(f"{name} has 0 bytes; give {_FORMS}")
        return scan
    if not isinstance(scan, str | os.PathLike):
        raise UsageError(f"{name} is of type {type(scan).__name__}; give a path, a URI or the bytes of {_FORMS}")
    path = Path(scan)
    try:
        num_bytes = path.stat().st_size
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file; give {name} as {_FORMS}") from error
    except (OSError, ValueError) as error:
        reason = describe(error) if isinstance(error, OSError) else f"{str(path)!r} is no path of a file"
        raise UsageError(f"{reason}; give {name} as {_FORMS}") from error
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "no regular file"
        raise UsageError(f"{path} is {kind}; give {name} as {_FORMS}")
    if not num_bytes:
        raise UsageError(f"{path} has 0 bytes; give {name} as {_FORMS}")
    return path


def json_body(model: "type[BaseModel]", given: Mapping[str, Any]) -> Body:
    """A request by URIs.

    Args:
        model: what the JSON object is.
        given: its fields; None for one not given.

    Raises:
        UsageError: a field with a wrong value.
    """
    return Body(json=_checked(model, given))


def form_body(
    model: "type[BaseModel]", given: Mapping[str, Any], parts: Iterable[str], files: Sequence[Path | bytes]
) -> Body:
    """A request that uploads its scans.

    Args:
        model: what the text fields are.
        given: these fields; None for one not given.
        parts: name of each file's part.
        files: from `files_of`.

    Raises:
        UsageError: a field with a wrong value.
    """
    texts = {name: _as_text(value) for name, value in _checked(model, given).items()}
    return Body(texts=texts, uploads=tuple(zip(parts, files, strict=True)))


def _checked(model: "type[BaseModel]", given: Mapping[str, Any]) -> dict[str, Any]:
    from pydantic import ValidationError

    try:
        fields = model.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        said = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults]
        raise UsageError("; ".join(said)) from error
    return fields.model_dump(mode="json", exclude_none=True, exclude_defaults=True)


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
