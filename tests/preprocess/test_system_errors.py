"""A refusal of the operating system is one line: where, why, and what helps."""

import errno
import os

import pytest

from preprocess.system_errors import describe, remedy_of


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x"),
            "/data/x: no space left on device; make room there, or choose another location",
        ),
        (
            OSError(errno.EROFS, os.strerror(errno.EROFS), "/data"),
            "/data: read-only file system; choose a location that can be written",
        ),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "too many open files; allow more open files (ulimit -n)"),
        (OSError("quota of the tenant"), "quota of the tenant"),
        (TimeoutError(), "timeouterror"),
    ],
)
def test_the_line_names_place_reason_and_remedy(error: OSError, line: str) -> None:
    assert describe(error) == line


def test_what_the_system_really_raises_has_a_remedy(tmp_path) -> None:
    with pytest.raises(FileNotFoundError) as missing:
        (tmp_path / "none").read_bytes()
    assert describe(missing.value) == f"{tmp_path}/none: no such file or directory; check the path"
    with pytest.raises(OSError) as long_name:
        (tmp_path / ("x" * 300)).write_bytes(b"")
    assert remedy_of(long_name.value) == "choose a shorter name"
