"""Which DICOM series lie in a folder or bucket, by the headers of its files; no pixel is fetched.

Headers are read by threads, a bounded number of files at a time. Of each file only its planes are kept; what the files
of a series have in common is kept once.
"""

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from preprocess.dicom_headers import Frame, Header, read_header
from preprocess.errors import ScanError, StorageError
from preprocess.storage import Location

_READERS = 8
"""As a disk or a bucket answers several at once."""
_BATCH = 1024
_PIECE_BYTES = 2**16
"""A request to a bucket: most headers are shorter."""
MEDIA_INDEX = "1.2.840.10008.1.3.10"
"""SOP class of DICOMDIR."""


@dataclass(slots=True)
class Series:
    """The images of one series.

    Attributes:
        group: patient, study and series.
        headers: what differs between its files in more than their planes, each with no planes, and the planes.
        names: its files, relative to the source.
        sizes: theirs in bytes.
    """

    group: tuple[str, str, str] = field(repr=False)
    headers: dict[Header, list[Frame]] = field(default_factory=dict, repr=False)
    names: list[str] = field(default_factory=list, repr=False)
    sizes: list[int] = field(default_factory=list, repr=False)
    _common: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False)

    @property
    def first(self) -> Header:
        """The header of its first file, without planes."""
        return next(iter(self.headers))

    @property
    def whole(self) -> list[Header]:
        """All headers, with all planes."""
        return [replace(header, frames=tuple(frames)) for header, frames in self.headers.items()]

    @property
    def frames(self) -> list[Frame]:
        """All planes."""
        return [frame for frames in self.headers.values() for frame in frames]

    def add(self, name: str, size: int, header: Header) -> None:
        """Enter a file."""
        self.headers.setdefault(replace(header, frames=()), []).extend(map(self._compact, header.frames))
        self.names.append(name)
        self.sizes.append(size)

    def _compact(self, frame: Frame) -> Frame:
        """The plane with what it has in common with others kept once: its place alone is its own."""
        known = self._common
        return replace(
            frame,
            size=known.setdefault(frame.size, frame.size),
            orientation=known.setdefault(frame.orientation, frame.orientation),
            spacing_mm=known.setdefault(frame.spacing_mm, frame.spacing_mm),
            echo=known.setdefault(frame.echo, frame.echo),
            moment=known.setdefault(frame.moment, frame.moment),
            sort=known.setdefault(frame.sort, frame.sort),
        )


@dataclass(slots=True)
class DicomFiles:
    """What lies in a folder.

    Attributes:
        series: all series of images, by patient, study and series.
        objects: names of DICOM files that are no images, by what they are, such as `SR`.
        indexes: names of DICOMDIR files.
        unreadable: names of files that are DICOM and damaged, or that cannot be opened, with the reason.
        others: names of files that are not DICOM.
    """

    series: dict[tuple[str, str, str], Series] = field(default_factory=dict)
    objects: dict[str, list[str]] = field(default_factory=dict)
    indexes: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)


def read_files(source: Location, sizes: dict[str, int]) -> DicomFiles:
    """Read the header of every file.

    Args:
        source: folder or bucket.
        sizes: bytes of each file by its name.

    Raises:
        StorageError: the bucket refuses.
        UsageError: pydicom is not installed.
    """
    found = DicomFiles()
    names = iter(sizes)
    with ThreadPoolExecutor(_READERS) as pool:
        while batch := list(islice(names, _BATCH)):
            answers = pool.map(lambda name: _ask(source, name, sizes[name]), batch)
            for name, answer in zip(batch, answers, strict=True):
                _sort(found, name, sizes[name], answer)
    return found


def _ask(source: Location, name: str, size: int) -> Header | str | None:
    """The header, None for what is not DICOM, or why there is none."""
    if size < 132:
        return None
    try:
        with io.BufferedReader(_Pieces(source, name, size), _PIECE_BYTES) as stream:
            return read_header(stream, name="a file")
    except ScanError as error:
        return str(error).partition(": ")[2]
    except FileNotFoundError:
        return "listed but not there; copy it again"
    except StorageError:
        if not source.is_local:
            raise
        return "cannot be opened; give this user the right to read it"


def _sort(found: DicomFiles, name: str, size: int, answer: Header | str | None) -> None:
    if answer is None:
        found.others.append(name)
    elif isinstance(answer, str):
        found.unreadable[name] = answer
    elif answer.sop_class == MEDIA_INDEX:
        found.indexes.append(name)
    elif not answer.frames:
        sort = answer.modality if answer.modality.isalnum() and len(answer.modality) <= 16 else "unknown"
        found.objects.setdefault(sort, []).append(name)
    else:
        found.series.setdefault(answer.group, Series(answer.group)).add(name, size, answer)


class _Pieces(io.RawIOBase):
    """A file that is fetched piece by piece, as far as its reader goes."""

    name = ""
    """pydicom asks for one; the file's own would stay in its data set."""

    def __init__(self, source: Location, name: str, size: int) -> None:
        self._source, self._name, self._size, self._at = source, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        end = min(self._at + len(buffer), self._size)
        if end <= self._at:
            return 0
        data = self._source.read_part(self._name, self._at, end)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
