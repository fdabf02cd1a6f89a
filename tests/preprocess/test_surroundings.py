"""A user without a name or home gets what libraries ask for, and streams that are closed or know ASCII stop nothing."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from preprocess.surroundings import readable, settle

VARIABLES = ("MPLCONFIGDIR", "NUMBA_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*VARIABLES, "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LOGNAME", "somebody")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_a_user_whom_the_machine_does_not_know_gets_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")

    def unknown(uid: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    settle()
    assert os.environ["LOGNAME"] == f"uid-{os.getuid()}"


def test_where_there_is_a_home_nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    before = dict(os.environ)
    settle()
    assert dict(os.environ) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("home", ["/nonexistent", "relative", "file"])
def test_without_a_home_that_can_be_written_caches_go_to_a_folder_of_ones_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, home: str
) -> None:
    (tmp_path / "file").touch()
    if home == "/nonexistent" and os.geteuid() == 0:
        home = str(tmp_path / "file" / "below")  # root could make the other one
    monkeypatch.setenv("HOME", str(tmp_path / "file") if home == "file" else home)
    settle()
    own = tmp_path / f"interscan-{os.getuid()}"
    assert [Path(os.environ[name]).parent for name in VARIABLES] == [own] * 3
    assert stat.S_IMODE(own.stat().st_mode) == 0o700
    settle()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("interscan-")] == [own.name]


def test_what_was_set_already_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "relative")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "/mine")
    settle()
    assert os.environ["NUMBA_CACHE_DIR"] == "/mine"
    assert os.environ["MPLCONFIGDIR"].startswith(str(tmp_path))


@pytest.mark.parametrize("prepared", ["open to others", "a link"])
def test_a_folder_that_others_may_have_put_there_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, prepared: str
) -> None:
    planted = tmp_path / f"interscan-{os.getuid()}"
    if prepared == "a link":
        (tmp_path / "elsewhere").mkdir()
        planted.symlink_to(tmp_path / "elsewhere")
    else:
        planted.mkdir()
        planted.chmod(0o777)
    monkeypatch.setenv("HOME", "relative")
    settle()
    used = Path(os.environ["NUMBA_CACHE_DIR"]).parent
    assert used.parent == tmp_path
    assert used != planted
    assert stat.S_IMODE(used.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"M\xfcller", "M\\xfcller"), ("Müller".encode(), "Müller"), (b"plain", "plain"), (b"a\\xfc", "a\\xfc")],
)
def test_bytes_that_are_no_utf_8_are_written_out(name: bytes, shown: str) -> None:
    text = readable(os.fsdecode(name))
    assert text == shown
    text.encode("utf-8")


SPEAKER = """
import os, sys
from preprocess.surroundings import open_streams
open_streams()
opened = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
print("12 \\u00b5m, M\\udcfcller")
print("said", file=sys.stderr)
sys.stdout.flush()
sys.exit(0 if opened > 2 else 9)
"""


@pytest.mark.parametrize("closed", ["", ">&-", "2>&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "ascii:surrogateescape"])
def test_whatever_is_printed_goes_out_or_nowhere_and_never_into_a_file(
    tmp_path: Path, closed: str, encoding: str
) -> None:
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", SPEAKER, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding}, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "file").read_bytes() == b""
    if not closed:
        assert done.stderr == b"said\n"
        mu = "µ".encode() if encoding == "utf-8" else b"\\xb5"
        assert done.stdout in (b"12 " + mu + b"m, M\\udcfcller\n", b"12 " + mu + b"m, M\xfcller\n")
