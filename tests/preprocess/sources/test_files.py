"""What lies below a folder: every file once, links followed, loops ended, and what cannot be read named."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from preprocess.errors import UsageError
from preprocess.sources.files import Files, list_files
from preprocess.storage import Location

FILES = {"a.txt": b"12", "sub-01/x.nii": b"123", ".git/config": b"1", "sub-01/.x.part": b"1", "derivatives/y.nii": b"1"}


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    return root


def reported(files: Files) -> dict[str, str]:
    return {one.name: one.code for one in files.unlisted}


@pytest.mark.parametrize("kind", ["local", "memory", pytest.param("gs", marks=pytest.mark.bucket)])
def test_every_file_has_its_size(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    locations = {"local": lambda: str(tmp_path), "memory": lambda: f"memory://{tmp_path.name}"}
    uri = locations[kind]() if kind in locations else f"{request.getfixturevalue('bucket')}/raw"
    location = Location(uri)
    for name, data in FILES.items():
        location.write(name, data)
    Location(f"{uri}-other").write("z.nii", b"1")
    sizes = {name: len(data) for name, data in FILES.items()}
    assert list_files(location) == Files(dict(sorted(sizes.items())))
    Location(uri).write("b.nii", b"1234")
    assert list_files(location).sizes == {**sizes, "b.nii": 4}


def test_a_listing_of_a_bucket_is_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    location = Location("memory://one-request")
    location.write("sub-01/x.nii", b"1")
    requests: list[str] = []
    find = location.fs.find
    monkeypatch.setattr(location.fs, "find", lambda *args, **options: requests.append("find") or find(*args, **options))
    monkeypatch.setattr(location.fs, "info", lambda *args, **options: requests.append("info"))
    list_files(location)
    assert requests == ["find"]


def test_nothing_there_is_an_empty_list_and_a_file_is_no_folder(tmp_path: Path) -> None:
    assert list_files(Location(tmp_path / "none")) == Files()
    put(tmp_path, "x.nii")
    Location("memory://a-file").write("x.nii", b"1")
    for uri in (f"{tmp_path}/x.nii", "memory://a-file/x.nii"):
        with pytest.raises(UsageError, match="a file; give its folder, or a CSV or TSV table that names it"):
            list_files(Location(uri))


def test_links_to_folders_and_files_are_followed_wherever_they_lead(tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere", "sub-02/anat/x.nii", "anat/y.nii", "z.nii")
    source = put(tmp_path / "source", "sub-01/anat/a.nii")
    (source / "sub-02").symlink_to(elsewhere / "sub-02")
    (source / "sub-03").mkdir()
    (source / "sub-03/anat").symlink_to("../../elsewhere/anat")
    (source / "sub-03/z.nii").symlink_to(elsewhere / "z.nii")
    files = list_files(Location(source))
    assert list(files.sizes) == ["sub-01/anat/a.nii", "sub-02/anat/x.nii", "sub-03/anat/y.nii", "sub-03/z.nii"]
    assert files.sizes["sub-03/z.nii"] == 1
    assert files.unlisted == []


def test_a_source_that_is_a_link_is_listed(tmp_path: Path) -> None:
    put(tmp_path / "real", "x.nii")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert list(list_files(Location(tmp_path / "link")).sizes) == ["x.nii"]


def test_loops_end_and_a_folder_is_listed_once_under_its_own_name(tmp_path: Path) -> None:
    source = put(tmp_path / "source", "sub-02/anat/x.nii")
    (source / "sub-02/anat/up").symlink_to(source)
    (source / "sub-02/self").symlink_to(".")
    (source / "a-copy").symlink_to("sub-02")  # sorts before the folder itself
    (source / "outside").symlink_to(tmp_path)  # holds the source
    put(tmp_path, "other.nii")
    files = list_files(Location(source))
    assert list(files.sizes) == ["outside/other.nii", "sub-02/anat/x.nii"]
    repeated = {"a-copy", "sub-02/anat/up", "sub-02/self", "outside/source"}
    assert reported(files) == dict.fromkeys(repeated, "link_repeated")


def test_two_links_to_one_folder_list_it_once(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "x.nii")
    source = put(tmp_path / "source", "a.nii")
    for name in ("one", "two"):
        (source / name).symlink_to(tmp_path / "elsewhere")
    files = list_files(Location(source))
    assert list(files.sizes) == ["a.nii", "one/x.nii"]
    assert reported(files) == {"two": "link_repeated"}


def test_links_to_nothing_are_named_with_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "x.nii").symlink_to("gone.nii")
    (tmp_path / "loop.nii").symlink_to("loop.nii")
    (tmp_path / "annexed.nii.gz").symlink_to("../.git/annex/objects/Xk/3z/MD5E-s1--a.nii.gz/MD5E-s1--a.nii.gz")
    files = list_files(Location(tmp_path))
    assert reported(files) == {"x.nii": "link_dangling", "loop.nii": "link_dangling", "annexed.nii.gz": "annex_missing"}
    why = {one.name: one.why for one in files.unlisted}
    assert "git annex get" in why["annexed.nii.gz"]
    assert why["x.nii"] == "a link to a file that is not there; restore the file or the link"


def test_pipes_are_named_and_names_that_are_no_text_are_listed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nii")
    (tmp_path / os.fsdecode(b"M\xfcller")).mkdir()
    (tmp_path / os.fsdecode(b"M\xfcller/x.nii")).touch()
    files = list_files(Location(tmp_path))
    assert list(files.sizes) == [os.fsdecode(b"M\xfcller/x.nii")]
    assert reported(files) == {"pipe.nii": "special_file"}


_LIST = """
import os, sys
from preprocess.errors import StorageError
from preprocess.sources.files import list_files
from preprocess.storage import Location
if os.geteuid() == 0:
    os.seteuid(65534)
try:
    files = list_files(Location(sys.argv[1]))
    print(sorted(files.sizes), [(one.code, one.name, one.why) for one in files.unlisted])
except StorageError as error:
    print("refused", error)
"""


def test_folders_without_permission_are_named_and_a_source_without_is_refused() -> None:
    """As a user that permissions hold for: they do not for root."""
    root = Path(tempfile.mkdtemp())  # pytest's own folder is closed to other users
    root.chmod(0o755)
    put(root, "open/x.nii", "closed/y.nii")
    (root / "closed").chmod(0)

    def listed(folder: Path) -> str:
        done = subprocess.run(
            [sys.executable, "-c", _LIST, str(folder)],
            capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3],
        )  # fmt: skip
        return done.stdout

    try:
        found = listed(root)
        assert "['open/x.nii']" in found
        assert "('folder_unreadable', 'closed', 'a folder that cannot be read (Permission denied)" in found
        assert listed(root / "closed").startswith(f"refused {root}/closed: access refused")
    finally:
        (root / "closed").chmod(0o755)
        shutil.rmtree(root)


def test_a_folder_with_ten_thousand_files_is_listed_whole(tmp_path: Path) -> None:
    for folder in range(100):
        subject = tmp_path / f"sub-{folder:03d}"
        subject.mkdir()
        for file in range(100):
            (subject / f"{file}.nii").touch()
    files = list_files(Location(tmp_path))
    assert len(files.sizes) == 10_000
    assert list(files.sizes) == sorted(files.sizes)
