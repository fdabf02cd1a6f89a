"""The files of a DICOM series as one zip archive: unpacked within bounds, or packed to the same bytes each time.

An archive may come from anybody. What it promises is added up before a byte is unpacked, no entry is written anywhere,
and none is named in a message, since exporters put names of people into the names of files.
"""

import hashlib
import io
import struct
import zipfile
import zlib
from collections.abc import Iterable, Sequence

from preprocess.errors import ScanError
from preprocess.types import MAX_VOXELS, Finding

ZIP_MAGIC = b"PK\x03\x04"
_EMPTY_MAGIC = b"PK\x05\x06"
MAX_ENTRIES = 10_000
"""Ten times the slices of the largest head; each entry costs a kilobyte before it is looked at."""
_MAX_HEADER_BYTES = 2**18
"""Siemens headers have 100 to 200 kB."""
_MAX_VALUE_BYTES = 2
_DIRECTORY_ENTRY_BYTES = 46
_MAX_NAME_BYTES = 1024
ZIPFILE_ERRORS = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(ArithmeticError, LookupError, RuntimeError, ValueError),
)
"""What it raises for archives that are not sound; an entry without a name, for example, is an IndexError."""
_NAME = "{:06d}.dcm"
_PACKED_EXTRA_BYTES = 30 + 46 + 2 * len(_NAME.format(0))
"""Local header, directory entry and the name in both (APPNOTE.TXT 4.3.7 and 4.3.12)."""
_END_BYTES = 22


def unpack(data: bytes, *, name: str, max_voxels: int = MAX_VOXELS) -> list[bytes]:
    """The files in an archive, but for those that file managers add.

    Args:
        data: the whole archive.
        name: what messages call the scan.
        max_voxels: the archive may unpack to 2 bytes for each, and 256 KiB for each entry's header.

    Raises:
        ScanError: `bad_zip`: damaged, encrypted, an archive in it, packed by another method than deflate, or with paths
            that lead out of it; `too_large`: too many entries or too many bytes.
    """
    _check_directory(data, name)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            _check_entries(entries, name, max_voxels)
            files = [archive.read(entry) for entry in entries if not _is_litter(entry.filename)]
    except ZIPFILE_ERRORS as error:
        message = f"{name}: the zip archive is damaged ({type(error).__name__}); pack it again"
        raise _refusal("bad_zip", message) from error
    if any(file.startswith((ZIP_MAGIC, _EMPTY_MAGIC)) for file in files):
        raise _refusal("bad_zip", f"{name}: an archive inside the zip archive; pack the files of one series alone")
    return files


def pack(files: Iterable[bytes]) -> bytes:
    """An archive of files in the order of their SHA-256, so that neither their names nor their order count."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for number, file in enumerate(sorted(files, key=lambda file: hashlib.sha256(file).digest())):
            archive.writestr(zipfile.ZipInfo(_NAME.format(number), (1980, 1, 1, 0, 0, 0)), file)
    return sink.getvalue()


def packed_size(sizes: Sequence[int]) -> int:
    """Bytes of what `pack` makes of files of these sizes."""
    return sum(sizes) + len(sizes) * _PACKED_EXTRA_BYTES + _END_BYTES


def limit_bytes(max_voxels: int, num_files: int) -> int:
    """Most bytes that the files of a series may have together."""
    return max_voxels * _MAX_VALUE_BYTES + num_files * _MAX_HEADER_BYTES


def _check_directory(data: bytes, name: str) -> None:
    """Refuse an archive whose directory alone would fill the memory: zipfile reads all of it at once."""
    at = data.rfind(_EMPTY_MAGIC, max(0, len(data) - 65_557))
    if at < 0 or at + _END_BYTES > len(data):
        raise _refusal("bad_zip", f"{name}: the zip archive ends early; copy it again")
    num_entries, num_bytes = struct.unpack_from("<HI", data, at + 10)
    most_bytes = MAX_ENTRIES * (_DIRECTORY_ENTRY_BYTES + _MAX_NAME_BYTES)
    # A ZIP64 record would replace both numbers; no series needs one.
    if num_entries > MAX_ENTRIES or num_bytes > most_bytes or data[max(0, at - 20) : at][:4] == b"PK\x06\x07":
        raise _refusal("too_large", f"{name}: a zip archive of more than {MAX_ENTRIES} entries; give one series")


def _check_entries(entries: Sequence[zipfile.ZipInfo], name: str, max_voxels: int) -> None:
    if len(entries) > MAX_ENTRIES:
        raise _refusal("too_large", f"{name}: {len(entries)} entries is more than {MAX_ENTRIES}; give one series")
    if any(entry.flag_bits & 1 for entry in entries):
        raise _refusal("bad_zip", f"{name}: the zip archive is encrypted; pack it without a password")
    if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
        raise _refusal("bad_zip", f"{name}: the zip archive is packed by another method than deflate; pack it again")
    if any(_leads_out(entry.filename) for entry in entries):
        raise _refusal("bad_zip", f"{name}: paths in the zip archive lead out of it; pack one folder")
    if any(entry.filename.lower().endswith(".zip") for entry in entries):
        raise _refusal("bad_zip", f"{name}: an archive inside the zip archive; pack the files of one series alone")
    num_bytes = sum(entry.file_size for entry in entries)
    most_bytes = limit_bytes(max_voxels, len(entries))
    if num_bytes > most_bytes:
        message = (
            f"{name}: unpacks to {num_bytes} bytes, more than {most_bytes} ({max_voxels} voxels and their headers)"
        )
        raise _refusal("too_large", f"{message}; give one series")


def _leads_out(path: str) -> bool:
    parts = path.replace("\\", "/").split("/")
    return ".." in parts or parts[0] == "" or ":" in parts[0]


def _is_litter(path: str) -> bool:
    parts = path.split("/")
    return parts[0] == "__MACOSX" or parts[-1].startswith(".")


def _refusal(code: str, message: str) -> ScanError:
    return ScanError(Finding(code, message))
