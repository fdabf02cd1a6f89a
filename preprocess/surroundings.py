"""Foreign surroundings: a user without a name, no home to write to, standard streams closed or in ASCII only.

Containers run programs under any user id, on read-only disks. Libraries then fail at import (MONAI asks who the user
is, FastSurfer#286) or later (numba keeps compiled code beside its source or under the home, umap#715). Programs call
`settle` first; whoever imports the packages as libraries may call it too, before anything else. Only what is missing
is set, so whoever runs the program may decide otherwise.
"""

import getpass
import os
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TextIO

_CACHES = {"MPLCONFIGDIR": "matplotlib", "NUMBA_CACHE_DIR": "numba", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
"""Variables that say where a library keeps what it may write, and our folders for it."""


def settle() -> None:
    """Give this process, and those it starts, a user name and folders for caches, where there are none."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["LOGNAME"] = f"uid-{os.getuid()}"
    missing = [variable for variable in _CACHES if not os.environ.get(variable)]
    if missing and not _home_takes_caches():
        # Without any folder for temporary files the libraries say themselves what they cannot do.
        with suppress(OSError):
            folder = _own_folder()
            for variable in missing:
                os.environ[variable] = str(folder / _CACHES[variable])


def open_streams() -> None:
    """Make standard streams usable: closed ones lead nowhere, and no character stops what is printed.

    A closed stream's number would be given to the next file that is opened, into which stray output would then go.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.dup2(null, number)
    if null > 2:
        os.close(null)
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            nowhere = open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115, PTH123 - kept
            setattr(sys, name, nowhere)
        elif hasattr(stream, "reconfigure") and not _takes_all(stream):
            stream.reconfigure(errors="backslashreplace")


def readable(text: str) -> str:
    r"""Text that every file, table and JSON reader takes: bytes of a file name that are no UTF-8 as `\xfc`.

    Python holds such bytes as lone surrogates, which nothing but the file system accepts.
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") if _is_odd(text) else text


def complaint_of_name(text: str) -> str:
    """Why a path cannot be written down anywhere, as one line with the remedy; empty for one that can."""
    if not _is_odd(text):
        return ""
    if sys.getfilesystemencoding().lower() not in ("utf-8", "utf8"):
        return f"{readable(text)}: the locale names ASCII files only; set PYTHONUTF8=1, or LC_ALL=C.UTF-8"
    return (
        f"{readable(text)}: holds bytes that are no UTF-8; rename the folder, or reach it through a link whose name is "
        "UTF-8"
    )


def _is_odd(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _takes_all(stream: TextIO) -> bool:
    """Whether any text may be written: UTF-8 that also gives the odd bytes of file names back."""
    encoding = (stream.encoding or "").lower().replace("_", "-")
    return encoding in ("utf-8", "utf8") and stream.errors in ("surrogateescape", "backslashreplace")


def _home_takes_caches() -> bool:
    """Whether folders for configuration and caches can be made under the home, or where XDG variables say."""
    try:
        home = Path.home()
    except RuntimeError:  # neither HOME nor an entry of this user
        home = None
    folders = []
    for variable, default in (("XDG_CONFIG_HOME", ".config"), ("XDG_CACHE_HOME", ".cache")):
        given = os.environ.get(variable)
        if not given and home is None:
            return False
        folders.append(Path(given) if given else home / default)  # type: ignore[operator]
    return all(_can_be_made(folder) for folder in folders)


def _can_be_made(folder: Path) -> bool:
    """Whether a folder is there, or can be, and may be written to; relative ones would follow the working folder."""
    if not folder.is_absolute():
        return False
    with suppress(OSError):
        for parent in (folder, *folder.parents):
            if parent.exists():
                return parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)
    return False


def _own_folder() -> Path:
    """A folder of this user below the one for temporary files, used again by later runs.

    Others may write there too, and compiled code that they put into it would be run: a folder of that name which is
    not ours alone is not used.
    """
    folder = Path(tempfile.gettempdir()) / f"interscan-{os.getuid()}"
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return folder
    return Path(tempfile.mkdtemp(prefix="interscan-"))
