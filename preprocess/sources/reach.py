"""Files that a table names, wherever they lie: their sizes, their bytes, and what the store calls them.

One bad path is one scan left out: a folder, a loop of links, a name too long, an unknown protocol, an archive that is
not there. A bucket that refuses everything is one error of the run.
"""

import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from preprocess.dicom_zip import MAX_ENTRIES, limit_bytes, pack, packed_size
from preprocess.errors import ScanError, StorageError, UsageError
from preprocess.sources.files import list_files
from preprocess.storage import Location, Options, refusals
from preprocess.types import MAX_VOXELS, Finding, Scan

_Answer = TypeVar("_Answer")
_PART_READERS = 8
"""As a disk or a bucket answers several at once; a whole series is held anyway."""


def is_whole(path: str) -> bool:
    """Whether the path is a URL or an absolute path, and not relative to its table."""
    return "://" in path or path.startswith(("/", "~"))


def size_of(uri: str) -> int:
    """The file's size in bytes; 0 where it is missing, or no file.

    Raises:
        StorageError: it cannot be reached; the reason in one line.
    """

    def ask() -> int:
        location = Location(uri)
        info = location.fs.info(location.path)
        return 0 if info.get("type") == "directory" else int(info.get("size") or 0)

    try:
        return _guarded(uri, ask)
    except FileNotFoundError:
        return 0


def read_scan(source: Location, scan: Scan) -> bytes:
    """A scan's bytes; of a scan that is made of several files, the archive that `dicom_zip.pack` makes of them.

    Args:
        source: the folder or bucket that was listed; a refusal of its own bucket ends the run, to be gone on with.
        scan: whose file.

    Raises:
        ScanError: the file is missing or cannot be read; the message does not hold its path on this machine.
        StorageError: the source's own bucket refuses.
    """
    if scan.parts:
        return _read_parts(source, scan)
    return _read_file(source, scan, Location.read)


def read_start(source: Location, scan: Scan, num_bytes: int) -> bytes:
    """The first bytes of a scan's file; of a scan that is made of several files, those of one of them.

    Args:
        source: as for `read_scan`.
        scan: whose file.
        num_bytes: how many; fewer come of a smaller file.

    Raises:
        ScanError: as `read_scan`.
        StorageError: as `read_scan`.
    """
    if scan.parts:
        return _read_parts(source, scan, num_bytes)
    return _read_file(source, scan, lambda file: file.read_part("", 0, num_bytes))


def _read_file(source: Location, scan: Scan, read: Callable[[Location], bytes]) -> bytes:
    label = scan.shown or _base(scan.uri)
    options: Options | None = source.options if "://" in scan.uri else None
    try:
        return _guarded(scan.uri, lambda: read(Location(scan.uri, options)))
    except FileNotFoundError as error:
        raise ScanError(Finding("missing", f"{scan.name}: {label} is listed but not there; copy the file")) from error
    except StorageError as error:
        if not source.is_local and scan.uri.startswith(f"{source.uri.rstrip('/')}/"):
            raise
        message = f"{scan.name}: {label} cannot be read ({_reason(error)}); correct its path, or make it readable"
        raise ScanError(Finding("unreachable", message)) from error


def read_mask_file(scan: Scan) -> bytes:
    """The file of a scan's brain mask; empty where none was given, or it is gone.

    Raises:
        ScanError: it cannot be read; the message does not hold its path.
    """
    if not scan.mask_uri:
        return b""
    try:
        return _guarded(scan.mask_uri, lambda: Location(scan.mask_uri).read())
    except FileNotFoundError:
        return b""
    except StorageError as error:
        message = f"{scan.name}: its brain mask cannot be read ({_reason(error)}); make it readable"
        raise ScanError(Finding("mask_unusable", message)) from error


def _read_parts(source: Location, scan: Scan, num_bytes: int = 0) -> bytes:
    """The files of a series as one archive; none is named, since exporters put people and dates into names.

    Args:
        source: the folder.
        scan: whose files.
        num_bytes: where given, only so many of the first file are read.
    """
    try:
        if num_bytes:
            return source.read_part(scan.parts[0], 0, num_bytes)
        with ThreadPoolExecutor(_PART_READERS) as pool:
            return pack(pool.map(source.read, scan.parts))
    except FileNotFoundError as error:
        message = f"{scan.name}: a file of its series is listed but not there; copy the series again"
        raise ScanError(Finding("missing", message)) from error
    except StorageError as error:
        if not source.is_local:
            raise
        message = f"{scan.name}: a file of its series cannot be read ({_reason(error)}); make it readable"
        raise ScanError(Finding("unreachable", message)) from error


def read_folder(folder: Location, *, name: str) -> bytes:
    """All files of a folder as one archive, as a zip of a DICOM series is.

    Args:
        folder: which may hold folders.
        name: what messages call the scan.

    Raises:
        UsageError: empty, or more files or bytes than a series has.
        StorageError: it cannot be read.
    """
    sizes = list_files(folder).sizes
    num_bytes, most_bytes = packed_size(list(sizes.values())), limit_bytes(MAX_VOXELS, len(sizes))
    if not sizes or len(sizes) > MAX_ENTRIES or num_bytes > most_bytes:
        raise UsageError(
            f"{folder.uri}: {len(sizes)} files of {num_bytes} bytes in all, expected 1 to {MAX_ENTRIES} files of at "
            f"most {most_bytes} bytes; give {name} as a NIfTI file or as the folder of one DICOM series"
        )
    with ThreadPoolExecutor(_PART_READERS) as pool:
        return pack(pool.map(folder.read, sizes))


def label_of(path: str, scan_name: str) -> str:
    """What the store calls a file that a table names.

    A relative path stays as it is. Of an absolute one only the file's name is kept, since folders of one machine, and
    the user names in them, are nobody else's; of a URL all but credentials and query, which may be a signature.

    Args:
        path: the table's cell.
        scan_name: tells files of one name apart.
    """
    if "::" not in path and "://" in path and not path.startswith(("file://", "local://")):
        protocol, _, rest = path.partition("://")
        address = rest.split("?")[0].split("#")[0]
        host, slash, tail = address.partition("/")
        return f"{protocol}://{host.rpartition('@')[2]}{slash}{tail}"
    outside = is_whole(path) or path.startswith("../") or "/../" in path
    return f"outside/{scan_name}/{_base(path)}" if outside else path


def _guarded(uri: str, ask: Callable[[], _Answer]) -> _Answer:
    """Ask a file system; whatever it raises becomes FileNotFoundError or one StorageError."""
    if "\0" in uri:
        raise StorageError("the path holds a NUL character")
    try:
        with refusals(_base(uri), missing_is_error=False):
            return ask()
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise StorageError(f"{_base(uri)}: {' '.join(str(error).split())[:120]}") from error


def _reason(error: StorageError) -> str:
    """Why, without the path: what the operating system calls it, or what the file system says."""
    cause = error.__cause__
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    if cause is not None and cause.__cause__ is None and not isinstance(cause, OSError):
        return type(cause).__name__ if "/" in str(cause) else " ".join(str(cause).split())[:120] or type(cause).__name__
    return str(error) if "/" not in str(error) else "refused"


def _base(uri: str) -> str:
    """The file's own name, without folders, query and what tells an archive."""
    return uri.split("::")[0].split("?")[0].rstrip("/").rpartition("/")[2].replace("\0", "\\0")[:80] or "the file"
