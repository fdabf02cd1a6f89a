"""Which way a source is listed, and what no source may hold: two files for one row."""

from pathlib import Path

import pytest

from preprocess.errors import UsageError
from preprocess.sources.discover import list_scans


def put(root: Path, *names: str) -> str:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("path,subject_id\n" if name.endswith("csv") else "{}")
    return str(root)


def subjects(uri: str) -> list[str]:
    return [scan.subject_id for scan, _, _ in list_scans(uri, ("T1w",)).scans]


def test_the_kind_of_source_is_seen_from_what_is_there(tmp_path: Path) -> None:
    assert subjects(put(tmp_path / "bids", "dataset_description.json", "sub-1/anat/sub-1_T1w.nii")) == ["sub-1"]
    assert subjects(put(tmp_path / "bids2", "sub-1/anat/sub-1_T1w.nii", "sub-1/anat/sub-1_T2w.nii")) == ["sub-1"]
    assert subjects(put(tmp_path / "plain", "anna/x.nii", "ben.nii.gz")) == ["anna", "ben"]
    put(tmp_path / "table", "scans.csv", "anna/x.nii")
    assert subjects(str(tmp_path / "table" / "scans.csv")) == []


def test_nothing_there_is_one_line(tmp_path: Path) -> None:
    for uri in (str(tmp_path / "none"), str(tmp_path)):
        with pytest.raises(UsageError, match="no such folder, or an empty one"):
            list_scans(uri, ("T1w",))


@pytest.mark.parametrize(
    "names",
    [
        ("sub-1/anat/sub-1_T1w.nii", "sub-1/anat/sub-1_T1w.nii.gz"),
        ("sub-1/anat/sub-1_T1w.nii", "sub-1/extra/sub-1_T1w.nii"),
        ("anna/x.nii", "anna/x.nii.gz"),
        ("anna/b/c.nii", "anna/b_c.nii"),
    ],
)
def test_two_files_for_the_same_row_are_refused(names: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        list_scans(put(tmp_path, *names), ("T1w",))
    assert f"{names[0]} and {names[1]} are both" in str(caught.value)
