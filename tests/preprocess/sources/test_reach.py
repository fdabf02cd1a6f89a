"""Files that tables name: one bad path is one scan left out, and nothing of this machine goes into the store."""

from pathlib import Path

import pytest

from preprocess.errors import ScanError, StorageError
from preprocess.sources.reach import is_whole, label_of, read_folder, read_scan, size_of
from preprocess.storage import Location
from preprocess.types import Scan


def bad_paths(root: Path) -> dict[str, str]:
    (root / "folder.nii").mkdir()
    (root / "loop.nii").symlink_to("loop.nii")
    (root / "no.zip").write_bytes(b"not a zip file")
    (root / "file").write_bytes(b"x")
    return {
        f"{root}/folder.nii": "Is a directory",
        f"{root}/loop.nii": "Too many levels of symbolic links",
        f"{root}/{'x' * 300}.nii": "File name too long",
        f"{root}/file/x.nii": "Not a directory",
        f"{root}/a\0b.nii": "NUL character",
        "nonsense://x.nii": "Protocol not known: nonsense",
        f"zip://a.nii::{root}/no.zip": "not a zip file",
        "http://127.0.0.1:9/x.nii": "Connect call failed",
    }


def test_a_bad_path_is_a_finding_that_does_not_name_the_machines_folders(tmp_path: Path) -> None:
    for uri, reason in bad_paths(tmp_path).items():
        with pytest.raises(ScanError) as caught:
            read_scan(Location(tmp_path), Scan("anna", "1", "T1w", uri))
        assert caught.value.finding.code == "unreachable", uri
        assert reason.lower() in str(caught.value).lower(), uri
        assert str(caught.value).startswith("anna_1_T1w: ")
        assert str(tmp_path) not in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("uri", ["{root}/gone.nii", "memory://gone/x.nii", "zip://a.nii::{root}/gone.zip"])
def test_a_missing_file_is_missing(uri: str, tmp_path: Path) -> None:
    path = uri.format(root=tmp_path)
    assert size_of(path) == 0
    with pytest.raises(ScanError) as caught:
        read_scan(Location(tmp_path), Scan("anna", "", "T1w", path))
    assert caught.value.finding.code == "missing"
    assert str(tmp_path) not in str(caught.value)


def test_sizes_of_what_is_no_file_are_zero_or_a_refusal_and_never_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "x.nii").write_bytes(b"123")
    assert size_of(f"{tmp_path}/x.nii") == 3
    for uri in bad_paths(tmp_path):
        # Of a server that does not answer, fsspec's HTTP file system says that the file is missing.
        if uri.endswith("folder.nii") or uri.startswith("http://"):
            assert size_of(uri) == 0
            continue
        with pytest.raises(StorageError) as caught:
            size_of(uri)
        assert "\n" not in str(caught.value)


def test_a_refusal_of_the_sources_own_bucket_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Location("memory://own")
    source.write("x.nii", b"1")

    def refuse(*_: object, **__: object) -> bytes:
        raise PermissionError("token expired")

    monkeypatch.setattr(source.fs, "cat_file", refuse)
    with pytest.raises(StorageError, match="access refused"):
        read_scan(source, Scan("anna", "", "T1w", "memory://own/x.nii"))
    with pytest.raises(ScanError):
        read_scan(source, Scan("anna", "", "T1w", "memory://others/x.nii"))


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("a/1.nii", "a/1.nii"),
        ("/srv/someone/data/1.nii", "outside/anna_1_T1w/1.nii"),
        ("~/1.nii", "outside/anna_1_T1w/1.nii"),
        ("../secret/1.nii", "outside/anna_1_T1w/1.nii"),
        ("file:///srv/someone/1.nii", "outside/anna_1_T1w/1.nii"),
        ("gs://bucket/a/1.nii", "gs://bucket/a/1.nii"),
        ("https://me:secret@host/a/1.nii?X-Amz-Signature=abc#x", "https://host/a/1.nii"),
        ("zip://in/1.nii::/srv/someone/x.zip", "outside/anna_1_T1w/1.nii"),
    ],
)
def test_labels_hold_no_folders_of_the_machine_and_no_signatures(path: str, label: str) -> None:
    assert label_of(path, "anna_1_T1w") == label


def test_whole_paths_are_told_from_relative_ones() -> None:
    assert [is_whole(path) for path in ("/a", "gs://a", "~/a", "a/b", "../a")] == [True, True, True, False, False]


def test_a_scan_of_several_files_is_one_archive_whatever_they_are_called(tmp_path: Path) -> None:
    for folder, names in (("a", "123"), ("b", "321")):
        (tmp_path / folder).mkdir()
        for name, text in zip(names, ("x", "y", "z"), strict=True):
            (tmp_path / folder / name).write_text(text)
    scans = [Scan("anna", "", "T1w", "x", parts=tuple(f"{folder}/{name}" for name in "123")) for folder in ("a", "b")]
    first, second = (read_scan(Location(tmp_path), scan) for scan in scans)
    assert first == second == read_folder(Location(tmp_path / "a"), name="x")
    (tmp_path / "a" / "2").unlink()
    with pytest.raises(ScanError, match="anna_T1w: a file of its series is listed but not there") as caught:
        read_scan(Location(tmp_path), scans[0])
    assert caught.value.finding.code == "missing"
