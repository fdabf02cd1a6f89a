"""OASIS-3: every layout and both releases, each irregularity raised by its name."""

from pathlib import Path
from typing import Any

import pytest

from preprocess.errors import UsageError
from preprocess.sources import Listing, list_scans
from tests.support.studies import OASIS3_SCANS, Release, put, write_oasis3


def listed(root: Path, *names: str, **options: Any) -> Listing:
    """A tree of these files beside one scan, without tables."""
    for name in ("OAS30001_MR_d0129/anat2/NIFTI/sub-OAS30001_ses-d0129_T1w.nii.gz", *names):
        put(root, name)
    return list_scans(str(root), ("T1w",), source_kind="oasis3", **options)


def codes(listing: Listing) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in listing.account.remarks:
        found.setdefault(one.code, []).append(one.name)
    return found


VISITS = [
    ("sub-OAS30001", "ses-d0129", "run-01", 129),
    ("sub-OAS30001", "ses-d0129", "run-02", 129),
    ("sub-OAS30001", "ses-d0757", "", 757),
    ("sub-OAS30002", "ses-d1184", "", 1184),
    ("sub-OAS30003", "ses-d0300", "", 300),
    ("sub-OAS30004", "ses-d2000", "", 2000),
]
MMSE: dict[Release, list[float | None]] = {
    "new": [29, 29, 24, None, 29, None],
    "old": [29, 29, 24, 30, None, None],
}


@pytest.mark.parametrize("is_bids", [False, True])
@pytest.mark.parametrize("release", ["new", "old"])
def test_each_layout_and_release_gives_the_same_visits_with_their_nearest_scores(
    is_bids: bool, release: Release, tmp_path: Path
) -> None:
    scans, tables = write_oasis3(tmp_path, is_bids=is_bids, release=release)
    listing = list_scans(str(scans), ("T1w",), source_kind="oasis3", tables=str(tables))
    assert [(*scan.visit, scan.day) for scan, _, _ in listing.scans] == VISITS
    assert [scan.outcomes.get("mmse") for scan, _, _ in listing.scans] == MMSE[release]
    assert listing.cohort == "OASIS-3"
    assert listing.account.num_lost == 0


def test_the_age_is_that_of_the_day_of_the_scan(tmp_path: Path) -> None:
    scans, tables = write_oasis3(tmp_path)
    listing = list_scans(str(scans), ("T1w",), source_kind="oasis3", tables=str(tables))
    ages = {scan.name: scan.outcomes.get("age") for scan, _, _ in listing.scans}
    assert ages["sub-OAS30001_ses-d0757_T1w"] == pytest.approx(65.2 + 757 / 365.25, abs=0.005)
    assert ages["sub-OAS30004_ses-d2000_T1w"] is None


def test_tables_may_lie_among_the_scans(tmp_path: Path) -> None:
    scans, tables = write_oasis3(tmp_path)
    for path in tables.iterdir():
        put(scans, f"OASIS3_data_files/scans/{path.stem}/resources/csv/files/{path.name}", path.read_bytes())
    listing = list_scans(str(scans), ("T1w",), source_kind="oasis3")
    assert [scan.outcomes.get("mmse") for scan, _, _ in listing.scans] == MMSE["new"]
    assert codes(listing)["not_a_participant"] == ["OASIS3_data_files"]


def test_a_narrower_window_loses_the_first_person_and_says_so(tmp_path: Path) -> None:
    scans, tables = write_oasis3(tmp_path)
    listing = list_scans(str(scans), ("T1w",), source_kind="oasis3", tables=str(tables), window_days=90)
    assert "mmse" not in listing.scans[0][0].outcomes
    assert "sub-OAS30001_ses-d0129" in codes(listing)["no_visit_in_window"]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("OAS30001_PIB_d0423/pet1/NIFTI/sub-OAS30001_ses-d0423_pet.nii.gz", "not_mr"),
        ("OAS30001_MR_d0129/anat4/NIFTI/sub-OAS30001_ses-d0129_T2w.nii.gz", "other_modality"),
        ("OAS30001_MR_d0129/func1/NIFTI/sub-OAS30001_ses-d0129_task-rest_bold.nii.gz", "other_modality"),
        ("OAS30001_MR_d0129/anat2/NIFTI/sub-OAS30001_ses-d0129_desc-brain_mask.nii.gz", "derived"),
        ("OAS30001_MR_d0129/anat2/NIFTI/sub-OAS30001_ses-d0129_space-MNI_T1w.nii.gz", "derived"),
        ("derivatives/x/sub-OAS30001_ses-d0129_T1w.nii.gz", "derivatives"),
        ("sourcedata/x.nii.gz", "sourcedata"),
        ("OAS30001_MR_d0129/anat7/image.nii.gz", "modality_unclear"),
        ("OAS30001_MR_d0129/anat2/NIFTI/sub-OAS30001_ses-d0129_run-2_T1W.nii.gz", "suffix_case"),
        ("OAS30001_MR_d0129/anat2/NIFTI/sub-OAS30002_ses-d0129_T1w.nii.gz", "two_subjects"),
        ("OAS30001_MR_d0129/anat2/sub-OAS30001_ses-d0129_run-9_T1w.mgz", "unread_format"),
        ("somebody/anat2/T1w.nii.gz", "id_grammar"),
        ("OAS4001_MR_d0129/anat2/x_T1w.nii.gz", "id_grammar"),
        ("OAS30001_MR_d0129.zip", "unread_format"),
    ],
)
def test_every_image_that_is_no_scan_is_named_with_the_reason(name: str, code: str, tmp_path: Path) -> None:
    listing = listed(tmp_path, name)
    assert codes(listing)[code] == [name]
    assert [scan.name for scan, _, _ in listing.scans] == ["sub-OAS30001_ses-d0129_T1w"]
    assert listing.account.files["there"] == 2


@pytest.mark.parametrize(
    ("name", "session", "code"),
    [
        ("OAS30002_MR_d0089/anat/sub-OAS30002_sess-d0089_T1w.nii.gz", "ses-d0089", "name_misspelt"),
        ("sub-OAS30002/ses-d0000/anat/sub-OAS30002_ses-d0089_T1w.nii.gz", "ses-d0089", "folder_day_disagrees"),
        ("sub-OAS30002/anat/sub-OAS30002_T1w.nii.gz", "", "days_missing"),
    ],
)
def test_odd_names_are_read_and_said(name: str, session: str, code: str, tmp_path: Path) -> None:
    listing = listed(tmp_path, name)
    assert codes(listing)[code] == [name]
    assert [scan.session_id for scan, _, _ in listing.scans if scan.subject_id == "sub-OAS30002"] == [session]


def test_scans_of_one_session_without_a_run_take_the_number_of_their_folder(tmp_path: Path) -> None:
    listing = listed(tmp_path, "OAS30001_MR_d0129/anat3/NIFTI/sub-OAS30001_ses-d0129_T1w.nii.gz")
    assert [scan.run for scan, _, _ in listing.scans] == ["run-2", "run-3"]
    assert codes(listing)["several_runs"] == ["sub-OAS30001_ses-d0129_T1w"]


def test_sessions_that_collided_in_one_folder_are_two_again(tmp_path: Path) -> None:
    names = [f"sub-OAS30002/ses-d0000/anat/sub-OAS30002_ses-d{day}_T1w.nii.gz" for day in ("0080", "0089")]
    listing = listed(tmp_path, *names)
    assert [scan.day for scan, _, _ in listing.scans] == [129, 80, 89]


def test_sidecars_name_the_scanner_from_both_folders_that_they_come_in(tmp_path: Path) -> None:
    scans, _ = write_oasis3(tmp_path, scans=[name for name in OASIS3_SCANS if "OAS30002" in name or "d0129" in name])
    listing = list_scans(str(scans), ("T1w",), source_kind="oasis3")
    assert [scan.scanner for scan, _, _ in listing.scans] == ["Siemens"] * 3
    assert "sidecar_missing" not in codes(listing)


def test_tables_without_a_study_and_a_window_below_0_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "anna.nii.gz")
    with pytest.raises(UsageError, match="--tables: only a study has them; give --source-kind oasis3"):
        list_scans(str(tmp_path), ("T1w",), tables="tables")
    with pytest.raises(UsageError, match="--window-days -1: below 0"):
        listed(tmp_path / "x", window_days=-1)


def test_sidecars_of_one_name_in_several_sessions_and_folders_are_all_accounted_for(tmp_path: Path) -> None:
    names = [f"OAS30002_MR_d{day}/anat1/{folder}T1w.json" for day in ("0001", "0002") for folder in ("BIDS/", "x/")]
    scans = [f"OAS30002_MR_d{day}/anat1/T1w.nii.gz" for day in ("0001", "0002")]
    for number, name in enumerate(names):
        put(tmp_path, name, f'{{"Manufacturer": "Maker {number}"}}')
    listing = listed(tmp_path, *scans)
    assert [scan.scanner for scan, _, _ in listing.scans] == ["", "Maker 0", "Maker 2"]
    assert listing.account.files == {"there": 7, "scans": 3, "read": 2, "other": 2, "passed_over": 0}
