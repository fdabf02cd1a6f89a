"""Tables that name scans: one line a scan, one finding a bad line, and nothing of this machine in what is stored."""

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

    location = Location(f"{bucket}/raw")
    location.write("a/1.nii.gz", b"12345")
    location.write("scans.csv", b"path,subject_id,day\na/1.nii.gz,anna,0\n")
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


def codes(listing: Listing) -> list[tuple[str, str, bool]]:
    return [(one.code, one.name, one.leaves_out) for one in listing.account.remarks]


def test_surplus_cells_leave_their_line_out_and_not_the_table(tmp_path: Path) -> None:
    listing = table(tmp_path, "path,subject_id,mmse", "a.nii,a,27,5", "b.nii,b,28")
    assert [(scan.subject_id, scan.outcomes) for scan, _, _ in listing.scans] == [("b", {"mmse": 28.0})]
    assert codes(listing)[0] == ("surplus_cells", "scans.csv line 2", True)
    assert listing.account.num_lost == 1


def test_lines_that_contradict_each_other_leave_their_scan_out_and_equal_ones_do_not(tmp_path: Path) -> None:
    listing = table(
        tmp_path, "path,subject_id,mmse", "a.nii,a,27", "a2.nii,a,20", "b.nii,b,28", "b.nii,b,28", "c.nii,c,1"
    )
    assert [name for _, name, _ in listing.scans] == ["b.nii", "c.nii"]
    assert codes(listing) == [
        ("duplicate_visit", "scans.csv line 2", True),
        ("duplicate_visit", "scans.csv line 3", True),
        ("duplicate_row", "scans.csv line 5", False),
    ]


def test_all_of_many_twins_are_named(tmp_path: Path) -> None:
    lines = ["path,subject_id", "z.nii,z", *(f"{number}.nii,a" for number in range(30))]
    listing = table(tmp_path, *lines)
    assert [name for _, name, _ in listing.scans] == ["z.nii"]
    assert len(listing.account.left_out) == 30


@pytest.mark.parametrize(
    ("cell", "name", "size"),
    [
        ("a\\1.nii", "a/1.nii", 3),
        ("./a/1.nii", "a/1.nii", 3),
        ("{root}/a/1.nii", "a/1.nii", 3),
        ("a/1.nii", "a/1.nii", 3),
    ],
)
def test_paths_below_the_table_are_found_and_stored_relative_to_it(
    cell: str, name: str, size: int, tmp_path: Path
) -> None:
    put(tmp_path, {"a/1.nii": "123"})
    ((_, found, bytes_there),) = table(tmp_path, "path,subject_id", f"{cell.format(root=tmp_path)},anna").scans
    assert (found, bytes_there) == (name, size)


def test_what_is_stored_of_other_paths_holds_neither_folders_nor_signatures(tmp_path: Path) -> None:
    put(tmp_path, {"elsewhere/1.nii": "123"})
    listing = table(
        tmp_path / "t",
        "path,subject_id",
        f"{tmp_path}/elsewhere/1.nii,a",
        "../elsewhere/1.nii,b",
        "memory://me:secret@bucket/1.nii?signature=x,c",
    )
    assert [(name, size) for _, name, size in listing.scans] == [
        ("outside/a_T1w/1.nii", 3),
        ("outside/b_T1w/1.nii", 3),
        ("memory://bucket/1.nii", 0),
    ]


def test_bad_paths_are_listed_for_a_finding_each_and_do_not_end_the_listing(tmp_path: Path) -> None:
    put(tmp_path, {"good.nii": "123"})
    (tmp_path / "folder.nii").mkdir()
    (tmp_path / "loop.nii").symlink_to("loop.nii")
    bad = ["folder.nii", "loop.nii", "x" * 300, "a\0b.nii", "zip://a.nii::/nowhere/x.zip", "nonsense://x", "/nowhere/x"]
    lines = [f"{path},s{number}" for number, path in enumerate(["good.nii", *bad])]
    listing = table(tmp_path, "path,subject_id", *lines)
    assert [size for _, _, size in listing.scans] == [3, *[0] * len(bad)]


def test_a_bucket_that_refuses_every_line_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from preprocess.errors import StorageError
    from preprocess.storage import Location

    def refuse(*_: object, **__: object) -> dict[str, object]:
        raise PermissionError("no token")

    monkeypatch.setattr(Location("memory://refusing").fs.__class__, "info", refuse)
    with pytest.raises(StorageError, match="access refused"):
        table(tmp_path, "path,subject_id", "memory://refusing/1.nii,a", "memory://refusing/2.nii,b")
    put(tmp_path, {"good.nii": "1"})
    assert len(table(tmp_path, "path,subject_id", "memory://refusing/1.nii,a", "good.nii,b").scans) == 2


def test_modalities_in_other_letters_are_left_out_and_others_passed_over(tmp_path: Path) -> None:
    put(tmp_path, {"a.nii": "", "b.nii": "", "c.nii": ""})
    listing = table(tmp_path, "path,subject_id,modality", "a.nii,a,T1w", "b.nii,b,T1W", "c.nii,c,T2w", "/x.nii,d,T2w")
    assert codes(listing) == [
        ("row_modality", "scans.csv line 3", True),
        ("other_modality", "c.nii", False),
        ("row_modality", "scans.csv line 5", False),
        ("not_in_table", "b.nii", False),
    ]
    assert listing.other_modalities == {"T1W", "T2w"}


def test_files_beside_the_table_that_it_does_not_name_are_named(tmp_path: Path) -> None:
    put(tmp_path, {"a.nii": "", "b.nii.gz": "", "orig.mgz": "", "README": ""})
    listing = table(tmp_path, "path,subject_id", "a.nii,a")
    assert codes(listing) == [("not_in_table", "b.nii.gz", False), ("not_in_table", "orig.mgz", False)]
    assert listing.account.files == {"there": 5, "scans": 1, "read": 1, "other": 1, "passed_over": 2}


def test_visits_that_all_lie_on_one_day_have_none(tmp_path: Path) -> None:
    lines = [f"{number}.nii,anna,ses-{number},0" for number in (1, 2)]
    listing = table(tmp_path, "path,subject_id,session_id,day", *lines, "3.nii,ben,ses-1,0", "4.nii,ben,ses-2,90")
    assert [scan.day for scan, _, _ in listing.scans] == [None, None, 0, 90]
    runs = table(tmp_path, "path,subject_id,session_id,run,day", "1.nii,anna,ses-1,run-1,0", "2.nii,anna,ses-1,run-2,0")
    assert [scan.day for scan, _, _ in runs.scans] == [0, 0]


def test_headings_are_found_in_any_spelling_and_a_day_of_minus_four_is_a_day(tmp_path: Path) -> None:
    ((scan, _, _),) = table(tmp_path, "Path,Subject ID,DAY,MMSE", "a.nii,anna,-4,27").scans
    assert (scan.subject_id, scan.day, scan.outcomes) == ("anna", -4, {"MMSE": 27.0})


@pytest.mark.parametrize("subject", ["a/b", "a\x07b"])
def test_an_id_that_no_store_can_hold_leaves_its_line_out(subject: str, tmp_path: Path) -> None:
    listing = table(tmp_path, "path,subject_id", f"a.nii,{subject}", "b.nii,b")
    assert codes(listing) == [("bad_id", "scans.csv line 2", True)]


def test_a_table_that_is_a_link_to_nothing_or_has_other_separators_says_so(tmp_path: Path) -> None:
    (tmp_path / "scans.csv").symlink_to(".git/annex/objects/x")
    with pytest.raises(UsageError, match="a link to nothing; run git annex get on it"):
        list_scans(str(tmp_path / "scans.csv"), ("T1w",))
    with pytest.raises(UsageError, match="save the table with commas"):
        table(tmp_path, "path;subject_id", "a.nii;a", name="x.csv")


def test_equal_tables_in_other_places_are_listed_alike(tmp_path: Path) -> None:
    """What is stored must not tell on which machine, or in which folder, a cohort was preprocessed."""
    found = []
    for folder in ("one", "two/deeper"):
        put(tmp_path / folder, {"a.nii": "1"})
        listing = table(tmp_path / folder, "path,subject_id", f"{tmp_path / folder}/a.nii,a", f"{tmp_path}/x.nii,b")
        found.append([(name, size) for _, name, size in listing.scans])
    assert found[0] == found[1] == [("a.nii", 1), ("outside/b_T1w/x.nii", 0)]


def test_clips_beside_a_table_of_clips_are_seen(tmp_path: Path) -> None:
    put(tmp_path, {"a.mp4": "", "b.mp4": "", "truth.csv": "", "scans.csv": "path,subject_id\na.mp4,a\n"})
    listing = list_scans(str(tmp_path / "scans.csv"), ("LUS",), kinds={"LUS": "clip"})
    assert codes(listing) == [("not_in_table", "b.mp4", False)]
    assert listing.account.others == ["truth.csv"]
