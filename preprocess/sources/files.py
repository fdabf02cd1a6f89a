"""Every file below a folder, with its size, and everything else there that is no readable file.

On this machine links to folders are followed: a folder is listed once, under its own name where it lies inside the
source, and a loop ends. Folders that cannot be read and links to nothing are kept with the reason, since whatever lists
files for us elsewhere drops them without a word.
"""

import os
import stat
from dataclasses import dataclass, field

from preprocess.errors import UsageError
from preprocess.storage import Location, refusals


@dataclass(frozen=True, slots=True)
class Unlisted:
    """Something in a folder that is no readable file.

    Attributes:
        code: as in `reconciliation.CODES`.
        name: relative to the source.
        why: reason and remedy, to stand behind the name.
    """

    code: str
    name: str
    why: str


@dataclass(slots=True)
class Files:
    """What lies below a folder.

    Attributes:
        sizes: every file with its size in bytes, by name relative to the folder, sorted.
        unlisted: everything else there, but folders that were looked into.
    """

    sizes: dict[str, int] = field(default_factory=dict)
    unlisted: list[Unlisted] = field(default_factory=list)


def list_files(source: Location) -> Files:
    """Everything below a folder: one listing of a bucket, or one walk over a folder of this machine.

    Raises:
        UsageError: the location is a file.
        StorageError: the bucket or the folder itself cannot be read.
    """
    with refusals(source.uri):
        files = _walk(source.path) if source.is_local else _find(source)
    if "" in files.sizes:
        raise UsageError(f"{source.uri}: a file; give its folder, or a CSV or TSV table that names it")
    return Files(dict(sorted(files.sizes.items())), sorted(files.unlisted, key=lambda one: one.name))


def _find(source: Location) -> Files:
    source.fs.invalidate_cache()  # a bucket listed before may have grown since
    try:
        found = source.fs.find(source.path, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return Files()
    start = len(source.path.rstrip("/")) + 1
    # A name that ends in a slash marks an empty folder in a bucket's own console.
    return Files({path[start:]: int(info.get("size") or 0) for path, info in found.items() if not path.endswith("/")})


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder to look into: how to reach it, its name below the source, and where it really lies."""

    path: str
    name: str
    real: str


def _walk(root: str) -> Files:
    """Folders first and links to folders after them, so that a folder inside the source keeps its own name."""
    files = Files()
    try:
        is_folder = stat.S_ISDIR(os.stat(root).st_mode)  # noqa: PTH116 - strings: 100,000 Path objects cost seconds
    except FileNotFoundError:
        return files
    if not is_folder:
        return Files({"": 0})
    pending = [_Folder(root, "", os.path.realpath(root))]
    links: list[_Folder] = []
    seen: set[str] = set()
    while pending or links:
        if not pending:
            links.sort(key=lambda link: link.name, reverse=True)
        folder = pending.pop() if pending else links.pop()
        if folder.real in seen:
            why = "a link to a folder that is listed already, or that it lies in"
            files.unlisted.append(Unlisted("link_repeated", folder.name, why))
            continue
        seen.add(folder.real)
        try:
            with os.scandir(folder.path) as entries:
                for entry in entries:
                    _sort_entry(entry, folder, pending, links, files)
        except OSError as error:
            if not folder.name:
                raise
            why = f"a folder that cannot be read ({error.strerror or error}); give this user the right to read it"
            files.unlisted.append(Unlisted("folder_unreadable", folder.name, why))
    return files


def _sort_entry(
    entry: os.DirEntry[str], folder: _Folder, pending: list[_Folder], links: list[_Folder], files: Files
) -> None:
    name = f"{folder.name}/{entry.name}" if folder.name else entry.name
    try:
        mode, size = (info := entry.stat()).st_mode, info.st_size
    except OSError as error:
        files.unlisted.append(_broken(entry.path, name, error))
        return
    if stat.S_ISDIR(mode):
        if entry.is_symlink():
            links.append(_Folder(entry.path, name, os.path.realpath(entry.path)))
        else:
            pending.append(_Folder(entry.path, name, f"{folder.real.rstrip('/')}/{entry.name}"))
    elif stat.S_ISREG(mode):
        files.sizes[name] = size
    else:
        files.unlisted.append(Unlisted("special_file", name, "a pipe, socket or device, not a file"))


def _broken(path: str, name: str, error: OSError) -> Unlisted:
    """A link whose target is not there, goes in a loop or may not be looked at."""
    try:
        target = os.readlink(path)  # noqa: PTH115
    except OSError:
        target = ""
    if ".git/annex/objects" in target:
        why = "a git-annex link whose content is not here; run git annex get (or datalad get) on it"
        return Unlisted("annex_missing", name, why)
    if isinstance(error, FileNotFoundError):
        return Unlisted("link_dangling", name, "a link to a file that is not there; restore the file or the link")
    why = f"a link that leads nowhere ({error.strerror or error}); restore the file or the link"
    return Unlisted("link_dangling", name, why)
