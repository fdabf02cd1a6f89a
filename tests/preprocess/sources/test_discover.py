"""Which way a source is listed, and what no source may hold: two files for one row."""

from pathlib import Path

import pytest

from preprocess.errors import UsageError
from preprocess.sources.discover import list_scans
from preprocess.types import Kind, SourceKind
from tests.support.clips import dicom, moving_block
from tests.support.series import fine_slices, slices, write_series


def put(root: Path, *names: str) -> str:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("path,subject_id\n" if name.endswith("csv") else "{}")
    return str(root)


def subjects(uri: str, modality: str = "T1w", **kinds: Kind) -> list[str]:
    return [scan.subject_id for scan, _, _ in list_scans(uri, (modality,), kinds=kinds).scans]


def test_the_kind_of_source_is_seen_from_what_is_there(tmp_path: Path) -> None:
    assert subjects(put(tmp_path / "bids", "dataset_description.json", "sub-1/anat/sub-1_T1w.nii")) == ["sub-1"]
    assert subjects(put(tmp_path / "bids2", "sub-1/anat/sub-1_T1w.nii", "sub-1/anat/sub-1_T2w.nii")) == ["sub-1"]
    assert subjects(put(tmp_path / "plain", "anna/x.nii", "ben.nii.gz")) == ["anna", "ben"]
    put(tmp_path / "table", "scans.csv", "anna/x.nii")
    assert subjects(str(tmp_path / "table" / "scans.csv")) == []


def test_folders_of_other_kinds_are_listed_by_the_endings_of_the_kind(tmp_path: Path) -> None:
    plain = put(
        tmp_path / "plain", "anna/1.mp4", "anna/2.MPEG", "ben.npy", "ben.nii.gz", "cleo.png", "dora.dcm", "x.txt"
    )
    assert subjects(plain, "LUS", LUS="clip") == ["anna", "anna", "ben", "dora"]
    assert subjects(plain, "fundus", fundus="image") == ["cleo", "dora"]
    assert subjects(plain, "SC", SC="array") == ["ben"]
    assert subjects(plain) == ["ben"]
    (scan, name, _), *_ = list_scans(plain, ("LUS",), kinds={"LUS": "clip"}).scans
    assert (scan.visit, scan.modality, name) == (("anna", "1", ""), "LUS", "anna/1.mp4")


def test_subject_folders_are_bids_where_a_file_carries_the_suffix_and_plain_else(tmp_path: Path) -> None:
    plain = put(tmp_path / "plain", "sub-1/ses-01.mp4", "sub-1/ses-02.mp4")
    scans = [scan for scan, _, _ in list_scans(plain, ("LUS",), kinds={"LUS": "clip"}).scans]
    assert [scan.visit for scan in scans] == [("sub-1", "ses-01", ""), ("sub-1", "ses-02", "")]
    bids = put(
        tmp_path / "bids", "sub-1/ses-01/us/sub-1_ses-01_LUS.mp4", "sub-1/ses-01/us/sub-1_ses-01_LUS.json",
        "sub-1/ses-01/anat/sub-1_ses-01_T2w.nii.gz", "sub-1/ses-01/func/sub-1_ses-01_SC.npy",
    )  # fmt: skip
    kinds: dict[str, Kind] = {"LUS": "clip", "SC": "array"}
    listing = list_scans(bids, ("LUS", "SC"), kinds=kinds)
    assert [(scan.session_id, scan.modality) for scan, _, _ in listing.scans] == [("ses-01", "SC"), ("ses-01", "LUS")]
    assert listing.other_modalities == {"T2w"}


def test_a_folder_of_another_kind_says_how_to_take_it(tmp_path: Path) -> None:
    listing = list_scans(put(tmp_path, "anna/1.npy", "anna/2.npy", "notes.txt"), ("LUS",))
    assert listing.scans == []
    assert listing.notes == [
        '2 files there could be clips; if they are, set kinds.LUS = "clip"',
        '2 files there could be arrays; if they are, set kinds.LUS = "array"',
    ]


def test_slices_of_a_series_are_never_advised_to_become_images(tmp_path: Path) -> None:
    put(tmp_path, "anna/notes.txt", "eyes/1.png")
    write_series(tmp_path / "anna", slices()[:3], name="{}.dcm")
    with pytest.raises(UsageError, match=r"series 5: no T1w: slice spacing 4 mm, expected 0.4 to 2 mm") as caught:
        list_scans(str(tmp_path), ("T1w",))
    assert "kinds" not in str(caught.value)


def test_a_folder_of_recordings_is_no_folder_of_series(tmp_path: Path) -> None:
    put(tmp_path, "eyes/1.png", "x.dcm")
    (tmp_path / "lung.dcm").write_bytes(dicom(moving_block(9)))
    assert list_scans(str(tmp_path), ("T1w",)).notes == [
        "1 files there are DICOM, which is not listed with other files; list its folder with --source-kind dicom",
        '1 files there could be clips; if they are, set kinds.T1w = "clip"',
        '2 files there could be images; if each is a whole visit and no slice of a volume, set kinds.T1w = "image"',
    ]


def test_a_folder_of_series_is_known_by_itself_and_beside_nifti_on_request(tmp_path: Path) -> None:
    write_series(tmp_path, fine_slices())
    assert [scan.name for scan, _, _ in list_scans(str(tmp_path), ("T1w",)).scans] == ["P001_ses-01_T1w"]
    put(tmp_path, "anna.nii.gz")
    assert [scan.name for scan, _, _ in list_scans(str(tmp_path), ("T1w",)).scans] == ["anna_T1w"]
    listing = list_scans(str(tmp_path), ("T1w",), source_kind="dicom")
    assert [scan.name for scan, _, _ in listing.scans] == ["P001_ses-01_T1w"]
    assert listing.account.files["other"] == 1
    with pytest.raises(UsageError, match="no DICOM image among"):
        list_scans(str(put(tmp_path / "sub", "x.txt")), ("T1w",), source_kind="dicom")
    with pytest.raises(UsageError, match="--series-rules choose DICOM series, and none is here"):
        list_scans(str(tmp_path), ("T1w",), series_rules=tmp_path / "rules.toml")


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
        ("anna/late/c.nii", "anna/late_c.nii"),
        ("anna/x.mov", "anna/x.mp4"),
        ("sub-1/us/sub-1_LUS.avi", "sub-1/us/sub-1_LUS.npy"),
    ],
)
def test_two_files_for_the_same_row_are_refused(names: tuple[str, str], tmp_path: Path) -> None:
    is_clip = not names[0].endswith(".nii")
    kinds: dict[str, Kind] = {"LUS": "clip"} if is_clip else {}
    with pytest.raises(UsageError) as caught:
        list_scans(put(tmp_path, *names), ("LUS" if is_clip else "T1w",), kinds=kinds)
    assert f"{names[0]} and {names[1]} are both" in str(caught.value)


def test_of_twins_none_is_taken_but_the_others_are(tmp_path: Path) -> None:
    listing = list_scans(put(tmp_path, "anna/x.nii", "anna/x.nii.gz", "ben/x.nii"), ("T1w",))
    assert [scan.subject_id for scan, _, _ in listing.scans] == ["ben"]
    assert [one.name for one in listing.account.left_out] == ["anna/x.nii", "anna/x.nii.gz"]


def test_a_source_of_which_every_scan_is_left_out_says_how_many(tmp_path: Path) -> None:
    names = [f"sub-0{n}/anat/sub-0{n + 1}_T1w.nii" for n in (1, 2, 3)]
    with pytest.raises(UsageError, match=r"no scan is left: sub-01/anat/sub-02_T1w.nii: .*\(and 2 more left out\)"):
        list_scans(put(tmp_path, *names), ("T1w",))


@pytest.mark.parametrize("above", ["site-a", "rawdata", "a/b"])
def test_the_folder_above_a_data_set_is_refused_with_the_one_to_give(above: str, tmp_path: Path) -> None:
    uri = put(tmp_path, f"{above}/sub-01/anat/sub-01_T1w.nii", f"{above}/dataset_description.json")
    with pytest.raises(UsageError) as caught:
        list_scans(uri, ("T1w",))
    assert f"deeper ({above}/sub-01); give {uri}/{above}, or a table" in str(caught.value)
    assert subjects(f"{uri}/{above}") == ["sub-01"]


def test_derivatives_beside_subjects_are_no_reason_to_refuse(tmp_path: Path) -> None:
    uri = put(tmp_path, "sub-01/anat/sub-01_T1w.nii", "derivatives/x/sub-01/anat/sub-01_T1w.nii", "site/sub-02/x.nii")
    assert subjects(uri) == ["sub-01"]


def test_what_is_there_instead_of_scans_is_known_when_there_are_none(tmp_path: Path) -> None:
    uri = put(tmp_path, "sourcedata/sub-01/anat/sub-01_T1w.nii", "sub-01/anat/sub-01_T2w.nii", "sub-01/x.mgz")
    assert list_scans(uri, ("T1w",)).other_modalities == {"1 in sourcedata", "T2w", "FreeSurfer volume"}


@pytest.mark.parametrize(("name", "kind"), [("scans.csv", "auto"), ("scans", "oasis3")])
def test_rules_of_series_are_refused_where_no_series_can_be(tmp_path: Path, name: str, kind: SourceKind) -> None:
    with pytest.raises(UsageError, match="--series-rules choose DICOM series, and none is here; leave them out"):
        list_scans(str(tmp_path / name), ("T1w",), source_kind=kind, series_rules=tmp_path / "rules.toml")
