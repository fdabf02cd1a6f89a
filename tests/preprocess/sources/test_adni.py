"""ADNI: folders of LONI with every irregularity, one image of each acquisition, days and never dates."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from preprocess.sources import Listing, list_scans
from tests.support.studies import (
    ADNI_SCANS,
    ADNIMERGE,
    ADNIMERGE_HEADINGS,
    QUALITY_HEADINGS,
    adni_scan,
    merged,
    put,
    table,
    write_adni,
)


def listed(root: Path, *names: str, **options: Any) -> Listing:
    for name in names:
        put(root, name)
    return list_scans(str(root), ("T1w",), source_kind="adni", **options)


def codes(listing: Listing) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in listing.account.remarks:
        found.setdefault(one.code, []).append(one.name)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Listing:
    scans, tables = write_adni(tmp_path_factory.mktemp("adni"))
    return list_scans(str(scans), ("T1w",), source_kind="adni", tables=str(tables))


def test_each_acquisition_is_one_scan_with_its_day_and_the_scores_of_the_nearest_visit(whole: Listing) -> None:
    found = {scan.run: (scan.subject_id, scan.session_id, scan.day, scan.site) for scan, _, _ in whole.scans}
    assert found == {
        "run-14032": ("002_S_0413", "ses-I14032", 0, "002"),
        "run-40683": ("002_S_0413", "ses-I40683", 197, "002"),
        "run-23456": ("003_S_0907", "ses-I23456", 0, "003"),
        "run-61234": ("003_S_0907", "ses-I61234", 203, "003"),
        "run-30001": ("005_S_0553", "ses-I30001", 0, "005"),
        "run-30500": ("006_S_0681", "ses-I30500", 0, "006"),
        "run-10198501": ("100_S_10029", "ses-I10198501", 0, "100"),
    }
    scores = {scan.run: scan.outcomes for scan, _, _ in whole.scans}
    assert scores["run-14032"] == {"mmse": 29.0, "cdr_sb": 0.0, "age": 76.25}
    assert scores["run-40683"] == {"mmse": 29.0, "abeta": 812.3, "age": 76.79}
    assert scores["run-30001"] == {"age": 76.89}
    assert scores["run-10198501"] == {"mmse": 24.0}


def test_found_is_kept_and_left_out(whole: Listing) -> None:
    account = whole.account
    # Six volumes and a series of 96 slices.
    assert account.files == {"there": 114, "scans": 102, "read": 4, "other": 1, "passed_over": 7}
    assert account.num_lost == 1  # the repeat that failed quality control


def test_no_date_is_stored_or_said(whole: Listing) -> None:
    said = json.dumps(whole.account.to_dict()) + " ".join(name for _, name, _ in whole.scans) + " ".join(whole.names)
    said += " ".join(f"{scan.name} {scan.session_id} {scan.outcomes}" for scan, _, _ in whole.scans)
    dates = [str(row["EXAMDATE"]) for row in ADNIMERGE] + re.findall(r"\d{4}-\d\d-\d\d", " ".join(ADNI_SCANS))
    for one in dates:
        assert one not in said
        assert one.replace("-", "") not in said


def test_of_a_raw_and_a_processed_form_the_raw_is_kept_and_its_table_row_is_found(whole: Listing) -> None:
    passed = codes(whole)["raw_and_processed"]
    assert [re.findall(r"I\d+\.nii", name)[-1] for name in passed] == ["I10198502.nii", "I45126.nii"]
    # IMAGEUID 45126 is the processed form's, and stands for the acquisition.
    assert not [name for name in codes(whole)["image_not_in_table"] if "I14032" in name]


def test_of_processed_forms_alone_the_least_processed_is_kept(tmp_path: Path) -> None:
    forms = ["MPR__GradWarp__B1_Correction__N3", "MPR__GradWarp", "MPR__GradWarp__B1_Correction"]
    names = [adni_scan("002_S_0413", form, "2006-05-02", 9 - n, raw=False) for n, form in enumerate(forms)]
    listing = listed(tmp_path, *names)
    assert [scan.run for scan, _, _ in listing.scans] == ["run-8"]


def test_repeats_at_one_time_stay_two_scans_each_with_its_own_processed_form(tmp_path: Path) -> None:
    names = [
        adni_scan("002_S_0413", "MPRAGE", "2006-05-02", 1, series=11),
        adni_scan("002_S_0413", "MPRAGE", "2006-05-02", 2, series=12),
        adni_scan("002_S_0413", "MPR__GradWarp", "2006-05-02", 3, series=12, raw=False),
    ]
    listing = listed(tmp_path, *names)
    assert [scan.run for scan, _, _ in listing.scans] == ["run-1", "run-2"]
    (one,) = [one.message for one in listing.account.remarks if one.code == "raw_and_processed"]
    assert "_S12_I3.nii: MPR__GradWarp, another form of" in one
    assert "_S12_I2.nii (MPRAGE)" in one


def test_repeats_of_one_day_are_runs_of_one_session(tmp_path: Path) -> None:
    names = [
        adni_scan("002_S_0413", "MPRAGE", "2006-05-02", 12),
        adni_scan("002_S_0413", "MPRAGE_REPEAT", "2006-05-02", 11, time="13_00_00.0"),
    ]
    listing = listed(tmp_path, *names)
    assert sorted((scan.session_id, scan.run, scan.day) for scan, _, _ in listing.scans) == [
        ("ses-I11", "run-11", 0), ("ses-I11", "run-12", 0),
    ]  # fmt: skip
    assert codes(listing)["several_runs"] == ["002_S_0413_ses-I11_T1w"]


def test_a_scan_keeps_its_identity_when_an_earlier_one_is_downloaded(tmp_path: Path) -> None:
    before = listed(tmp_path, adni_scan("002_S_0413", "MPRAGE", "2007-05-02", 12)).scans[0][0]
    (_, _, _), (after, _, _) = sorted(
        listed(tmp_path, adni_scan("002_S_0413", "MPRAGE", "2006-05-02", 99)).scans, key=lambda one: one[0].day or 0
    )
    assert before.visit == after.visit
    assert (before.day, after.day) == (0, 365)


@pytest.mark.parametrize(
    ("name", "code", "is_lost"),
    [
        (adni_scan("002_S_0413", "Axial_T2-Star", "2006-05-02", 2), "other_modality", False),
        (adni_scan("002_S_0413", "Something_new", "2006-05-02", 2), "modality_unclear", True),
        (adni_scan("002_S_0413", "Hippocampal_Mask", "2006-05-02", 2), "derived", False),
        (adni_scan("002_S_0413", "FDG_Brain", "2006-05-02", 2, machine="PT"), "not_mr", False),
        ("ADNI/somebody/MPRAGE/2006-05-02_01_01_01.0/I2/x.nii", "id_grammar", True),
        ("ADNI/02_S_0413/MPRAGE/2006-05-02_01_01_01.0/I2/x.nii", "id_grammar", True),
        ("ADNI/002_S_0413/MPRAGE/2006-05-02_01_01_01.0/I2/ADNI_003_S_0413_MR_x_I2.nii", "two_subjects", True),
        ("derivatives/002_S_0413/MPRAGE/2006-05-02/I2/x.nii", "derivatives", False),
        (adni_scan("002_S_0413", "MPRAGE", "2006-06-02", 2, ending=".dcm"), "dicom_unreadable", True),
    ],
)
def test_every_image_that_is_no_scan_is_named_with_the_reason(
    name: str, code: str, is_lost: bool, tmp_path: Path
) -> None:
    listing = listed(tmp_path, adni_scan("002_S_0413", "MPRAGE", "2006-05-02", 1), name)
    assert len(codes(listing)[code]) == 1
    assert [scan.run for scan, _, _ in listing.scans] == ["run-1"]
    assert listing.account.num_lost == is_lost


def test_an_image_of_many_files_that_are_not_read_is_one_scan_lost_and_none_beside_its_volume(tmp_path: Path) -> None:
    pieces = [adni_scan("002_S_0413", "MPRAGE", "2006-06-02", 2, ending=f"_{n}.mgz") for n in range(3)]
    volume = adni_scan("002_S_0413", "MPRAGE", "2006-05-02", 1)
    listing = listed(tmp_path, volume, *pieces)
    assert (listing.account.num_lost, len(codes(listing)["unread_format"])) == (1, 3)
    again = listed(tmp_path, f"{pieces[0].rpartition('/')[0]}/converted_I2.nii.gz")
    assert (again.account.num_lost, len(again.scans)) == (0, 2)


def test_the_scanner_is_what_a_sidecar_beside_the_image_says(tmp_path: Path) -> None:
    name = adni_scan("002_S_0413", "MPRAGE", "2006-05-02", 1)
    put(tmp_path, name.replace(".nii", ".json"), '{"Manufacturer": "GE", "ManufacturersModelName": "Signa"}')
    listing = listed(tmp_path, name)
    assert listing.scans[0][0].scanner == "GE Signa"
    assert listing.account.files == {"there": 2, "scans": 1, "read": 1, "other": 0, "passed_over": 0}


def test_a_file_without_its_folders_is_kept_without_a_day(tmp_path: Path) -> None:
    listing = listed(tmp_path, "ADNI_002_S_0413_MR_MPRAGE_br_raw_20060503091122333_1_S1_I14032.nii")
    assert [(scan.run, scan.day) for scan, _, _ in listing.scans] == [("run-14032", None)]
    assert len(codes(listing)["days_missing"]) == 1


def test_a_wider_window_takes_the_visit_that_is_further_away(tmp_path: Path) -> None:
    scans, tables = write_adni(tmp_path)
    listing = list_scans(str(scans), ("T1w",), source_kind="adni", tables=str(tables), window_days=261)
    assert {scan.run: scan.outcomes.get("mmse") for scan, _, _ in listing.scans}["run-30001"] == 28


def test_rows_about_an_image_of_another_person_are_named_and_not_used(tmp_path: Path) -> None:
    scans, tables = write_adni(tmp_path)
    rating = {"RID": 907, "LONI_IMAGE": "I14032", "SERIES_QUALITY": 4}
    put(tables, "MAYOADIRL_MRI_IMAGEQC_18Oct2024.csv", table(QUALITY_HEADINGS, [rating]))
    row = merged("002_S_0413", "bl", "2006-05-19", 29, 0, IMAGEUID=23456)
    put(tables, "ADNIMERGE_18Oct2024.csv", table(ADNIMERGE_HEADINGS, [row]))
    listing = list_scans(str(scans), ("T1w",), source_kind="adni", tables=str(tables))
    assert "run-14032" in {scan.run for scan, _, _ in listing.scans}
    messages = [one.message for one in listing.account.remarks if one.code == "bad_id"]
    assert messages[0] == (
        "MAYOADIRL_MRI_IMAGEQC_18Oct2024.csv line 2: I14032 is of RID 413, and not of RID 907; correct the row"
    )
    assert messages[1].endswith("IMAGEUID stands in a row of RID 413, and the image is of RID 907; correct the row")


def test_a_link_to_nothing_that_would_be_a_scan_is_lost_by_name(tmp_path: Path) -> None:
    for description in ("MPRAGE", "Axial_DTI"):
        path = tmp_path / adni_scan("002_S_0413", description, "2006-06-02", 2)
        path.parent.mkdir(parents=True)
        path.symlink_to("/nowhere")
    listing = listed(tmp_path, adni_scan("002_S_0413", "MPRAGE", "2006-05-02", 1))
    assert (listing.account.num_lost, len(codes(listing)["link_dangling"])) == (1, 2)
    assert "2006" not in json.dumps(listing.account.to_dict())
