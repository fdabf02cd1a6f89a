"""Plain folders and tables of NIfTI files."""

from pathlib import Path

import pytest

from preprocess.errors import UsageError
from preprocess.sources import Listing, list_scans


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def table(root: Path, *lines: str, name: str = "scans.csv") -> Listing:
    put(root, {name: "\n".join(lines) + "\n"})
    return list_scans(str(root / name), ("T1w",))


def test_a_folder_holds_one_folder_a_subject_or_one_file_a_subject(tmp_path: Path) -> None:
    put(tmp_path, {"anna/2019.nii.gz": "12", "anna/late/2021.nii": "", "ben.nii.gz": "", "anna/notes.txt": ""})
    listing = list_scans(str(tmp_path), ("FLAIR", "T1w"))
    assert [(scan.visit, scan.modality, scan.day, size) for scan, _, size in listing.scans] == [
        (("anna", "2019", ""), "FLAIR", None, 2),
        (("anna", "late_2021", ""), "FLAIR", None, 0),
        (("ben", "", ""), "FLAIR", None, 0),
    ]


def test_a_table_names_scans_days_and_scores(tmp_path: Path) -> None:
    put(tmp_path, {"a/1.nii.gz": "1", "a/2.nii.gz": "22"})
    listing = table(
        tmp_path,
        "path,subject_id,session_id,acq_time,modality,site,scanner,mmse",
        "a/2.nii.gz,anna,second,2020-07-21,T1w,north,A,27",
        "a/1.nii.gz,anna,,2020-01-01,,north,A,90-92",
        "a/3.nii.gz,anna,third,,FLAIR,,,",
    )
    (second, name, size), (first, _, _) = listing.scans
    assert (second.visit, second.day, second.outcomes) == (("anna", "second", ""), 202, {"mmse": 27.0})
    assert (second.site, second.scanner, name, size) == ("north", "A", "a/2.nii.gz", 2)
    assert second.uri == str(tmp_path / "a/2.nii.gz")
    assert (first.session_id, first.day) == ("day-0", 0)
    assert listing.other_modalities == {"FLAIR"}
    assert listing.notes == ["scans.csv line 3: mmse '90-92' is not a score and is left empty; correct the table"]


def test_a_missing_file_is_listed_with_size_zero(tmp_path: Path) -> None:
    listing = table(tmp_path, "path,subject_id", "gone.nii.gz,anna", "/nowhere/at/all.nii.gz,ben")
    assert [size for _, _, size in listing.scans] == [0, 0]
    assert listing.scans[1][0].uri == "/nowhere/at/all.nii.gz"


def test_tabs_absolute_paths_and_urls(tmp_path: Path) -> None:
    from preprocess.storage import Location

    put(tmp_path, {"x.nii": "123"})
    Location(f"memory://{tmp_path.name}").write("y.nii", b"12345")
    (tmp_path / "t").mkdir()
    listing = table(
        tmp_path / "t",
        "subject_id\tpath",
        f"a\t{tmp_path}/x.nii",
        f"b\tmemory://{tmp_path.name}/y.nii",
        "c\t../x.nii",
        name="scans.TSV",
    )
    assert [size for _, _, size in listing.scans] == [3, 5, 3]


@pytest.mark.bucket
def test_a_table_in_a_bucket_names_scans_in_the_bucket(bucket: str) -> None:
    from preprocess.storage import Location

    place = Location(f"{bucket}/raw")
    place.write("a/1.nii.gz", b"12345")
    place.write("scans.csv", b"path,subject_id,day\na/1.nii.gz,anna,0\n")
    ((scan, name, size),) = list_scans(f"{bucket}/raw/scans.csv", ("T1w",)).scans
    assert (scan.uri, name, size) == (f"{bucket}/raw/a/1.nii.gz", "a/1.nii.gz", 5)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (("file,subject_id", "x.nii,a"), "no column 'path' (columns: file, subject_id); add it"),
        (("path,who", "x.nii,a"), "no column 'subject_id'"),
        (
            ("path,subject_id", "x.nii,a", "y.nii,a"),
            "lines 2 and 3 both name a_T1w; tell them apart by session_id or run",
        ),
        (("path,subject_id,day", "x.nii,a,0", "y.nii,a,0"), "both name a_day-0_T1w"),
    ],
)
def test_a_table_that_cannot_be_followed_is_one_line(lines: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        table(tmp_path, *lines)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_table_and_no_text_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such table"):
        list_scans(str(tmp_path / "none.csv"), ("T1w",))
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not UTF-8"):
        list_scans(str(tmp_path / "x.csv"), ("T1w",))


def test_an_empty_line_is_noted_and_passed_over(tmp_path: Path) -> None:
    listing = table(tmp_path, "path,subject_id", ",a", "x.nii,", "x.nii,a")
    assert len(listing.scans) == 1
    assert listing.notes == [
        "scans.csv line 2: empty path or subject_id; the line is passed over",
        "scans.csv line 3: empty path or subject_id; the line is passed over",
    ]
