"""Plain folders: what a file's own name says is believed, and contradictions and masks are not taken."""

from pathlib import Path

import pytest

from preprocess.errors import UsageError
from preprocess.sources import Listing, list_scans


def listed(root: Path, *names: str, modalities: tuple[str, ...] = ("T1w",)) -> Listing:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    return list_scans(str(root), modalities)


def visits(listing: Listing) -> list[tuple[str, str, str, str]]:
    return [(*scan.visit, scan.modality) for scan, _, _ in listing.scans]


def codes(listing: Listing) -> dict[str, str]:
    return {one.name: one.code for one in listing.account.remarks}


def test_a_folder_holds_one_folder_a_subject_or_one_file_a_subject(tmp_path: Path) -> None:
    (tmp_path / "anna").mkdir()
    (tmp_path / "anna/2019.nii.gz").write_text("12")
    listing = listed(tmp_path, "anna/late/2021.nii", "ben.nii.gz", "anna/notes.txt", modalities=("FLAIR", "T1w"))
    assert [(scan.visit, scan.modality, scan.day, size) for scan, _, size in listing.scans] == [
        (("anna", "2019", ""), "FLAIR", None, 2),
        (("anna", "late_2021", ""), "FLAIR", None, 1),
        (("ben", "", ""), "FLAIR", None, 1),
    ]


def test_sequences_are_told_by_the_words_of_a_name(tmp_path: Path) -> None:
    listing = listed(
        tmp_path, "anna/bl_T1.nii", "anna/bl_T2.nii", "anna/bl_flair.nii.gz", "ben/mprage.nii", "cleo/x.nii"
    )
    assert visits(listing) == [("anna", "bl", "", "T1w"), ("ben", "", "", "T1w"), ("cleo", "x", "", "T1w")]
    assert codes(listing) == {"anna/bl_T2.nii": "other_modality", "anna/bl_flair.nii.gz": "other_modality"}
    assert listing.other_modalities == {"T2w", "FLAIR"}


def test_wanted_sequences_of_one_visit_lie_side_by_side(tmp_path: Path) -> None:
    listing = listed(tmp_path, "001_T1.nii", "001_FLAIR.nii", "002_T1.nii", modalities=("T1w", "FLAIR"))
    assert visits(listing) == [("001", "", "", "FLAIR"), ("001", "", "", "T1w"), ("002", "", "", "T1w")]


@pytest.mark.parametrize(
    "name", ["anna/bl_mask.nii", "anna/aseg.nii.gz", "anna/bl_T1w_brainmask.nii", "anna/lesion.nii", "anna/bl_seg.nii"]
)
def test_masks_and_label_maps_are_no_scans(name: str, tmp_path: Path) -> None:
    listing = listed(tmp_path, "anna/bl.nii", name)
    assert visits(listing) == [("anna", "bl", "", "T1w")]
    assert codes(listing) == {name: "derived"}


def test_a_name_of_two_sequences_is_left_out(tmp_path: Path) -> None:
    listing = listed(tmp_path, "anna/t1_to_t2.nii", "ben/1.nii")
    (remark,) = listing.account.left_out
    assert remark.message == "anna/t1_to_t2.nii: the name says T1w and T2w; rename it after the one that it is"


def test_a_file_of_another_person_is_left_out(tmp_path: Path) -> None:
    listing = listed(tmp_path, "patient1/patient1_bl.nii", "patient1/bl2.nii", "patient2/patient1.nii")
    assert visits(listing) == [("patient1", "bl2", "", "T1w"), ("patient1", "bl", "", "T1w")]
    (remark,) = listing.account.left_out
    assert (
        remark.message
        == "patient2/patient1.nii: the folder says patient2, the file patient1: two people; rename one of them"
    )


def test_folders_called_by_dates_are_visits_with_days(tmp_path: Path) -> None:
    listing = listed(tmp_path, "p1/2019-03-01/t1.nii", "p1/2020-02-29/t1.nii", "p2/2019-01-01_T1.nii", "p2/2.nii")
    found = {(scan.subject_id, scan.session_id): scan.day for scan, _, _ in listing.scans}
    assert found == {
        ("p1", "2019-03-01"): 0,
        ("p1", "2020-02-29"): 365,
        ("p2", "2019-01-01"): None,  # the other visit has no date to count from
        ("p2", "2"): None,
    }


def test_bids_names_without_bids_folders_are_believed(tmp_path: Path) -> None:
    listing = listed(
        tmp_path, "sub-01_ses-1_T1w.nii.gz", "sub-01_ses-2_run-1_T1w.nii.gz", "sub-02_T1w.nii.gz",
        "sub-02_T2w.nii.gz", "sub-02_space-MNI_T1w.nii.gz",
    )  # fmt: skip
    assert visits(listing) == [
        ("sub-01", "ses-1", "", "T1w"),
        ("sub-01", "ses-2", "run-1", "T1w"),
        ("sub-02", "", "", "T1w"),
    ]
    assert codes(listing) == {"sub-02_T2w.nii.gz": "other_modality", "sub-02_space-MNI_T1w.nii.gz": "derived"}


def test_bids_names_without_a_suffix_or_below_groups_are_believed(tmp_path: Path) -> None:
    assert visits(listed(tmp_path, "controls/sub-01_ses-2.nii", "patients/sub-02.nii", "sub-03_ses-1_run-2.nii")) == [
        ("sub-01", "ses-2", "", "T1w"),
        ("sub-02", "", "", "T1w"),
        ("sub-03", "ses-1", "run-2", "T1w"),
    ]


def test_files_that_nothing_reads_are_named(tmp_path: Path) -> None:
    names = ("anna/x.hdr", "anna/x.img", "anna/orig.mgz", "anna/1.dcm", "anna/preview.png", "anna/notes.txt", "README")
    listing = listed(tmp_path, "anna/1.nii", *names)
    assert codes(listing) == {**dict.fromkeys(names[:4], "unread_format"), "anna/preview.png": "other_kind"}
    assert listing.account.others == ["README", "anna/notes.txt"]


def test_nothing_but_unread_files_says_which_kinds_are_there(tmp_path: Path) -> None:
    listing = listed(tmp_path, "anna/orig.mgz")
    assert listing.scans == []
    assert listing.other_modalities == {"FreeSurfer volume"}


def test_a_layout_that_is_not_understood_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="looks like OASIS-3"):
        listed(tmp_path, "OAS30001_MR_d0129/anat1/x.nii.gz", "OAS30001_MR_d0757/anat1/x.nii.gz")
