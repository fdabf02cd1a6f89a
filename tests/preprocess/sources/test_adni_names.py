"""What an ADNI download's names say, and that no date leaves them."""

import pytest

from preprocess.sources.adni_names import contrast_of, read_adni_name, without_dates
from preprocess.sources.files import Files, Unlisted
from tests.support.studies import adni_scan


def test_a_path_says_person_acquisition_series_and_image() -> None:
    path = read_adni_name(adni_scan("002_S_0413", "MPRAGE", "2006-05-02", 14032, series=13893))
    assert (path.subject_id, path.rid, path.description) == ("002_S_0413", "RID 413", "MPRAGE")
    assert (path.series, path.image, path.machine) == ("S13893", "I14032", "")
    later = read_adni_name(adni_scan("002_S_0413", "MPRAGE", "2006-05-12", 14032))
    assert (later.ordinal or 0) - (path.ordinal or 0) == 10


def test_five_digit_people_and_eight_digit_images_are_read() -> None:
    path = read_adni_name("ADNI/100_S_10029/Accelerated_Sag_IR-SPGR/2023-03-01_09_00_00.0/I10198501/x.nii.gz")
    assert (path.subject_id, path.rid, path.image) == ("100_S_10029", "RID 10029", "I10198501")


def test_a_file_alone_says_all_but_its_date() -> None:
    path = read_adni_name("ADNI_002_S_0413_MR_MPR__GradWarp__N3_Br_20070215174801158_S13893_I45126.nii")
    assert (path.subject_id, path.description, path.image) == ("002_S_0413", "MPR__GradWarp__N3", "I45126")
    assert (path.ordinal, path.acquired, path.steps) == (None, "", 2)


def test_two_people_in_one_path_are_seen() -> None:
    path = read_adni_name(
        "ADNI/002_S_0413/MPRAGE/2006-05-02/I1/ADNI_003_S_0907_MR_MPRAGE_br_raw_20060503091122333_I1.nii"
    )
    assert (path.subject_id, path.other_subject) == ("002_S_0413", "003_S_0907")


@pytest.mark.parametrize(
    ("description", "steps"),
    [
        ("MPRAGE", 0),
        ("Accelerated_Sagittal_MPRAGE_ND", 0.5),
        ("MPR__GradWarp", 1),
        ("MPR; GradWarp; B1 Correction; N3; Scaled", 4),
        ("MPR-R__GradWarp__B1_Correction__N3__Scaled_2", 4),
        ("MT1__GradWarp__N3m", 2),
    ],
)
def test_steps_of_processing_are_counted(description: str, steps: float) -> None:
    assert read_adni_name(f"ADNI/002_S_0413/{description}/2006-05-02_01_01_01.0/I1/x.nii").steps == steps


@pytest.mark.parametrize(
    ("description", "contrast"),
    [
        ("MPRAGE", "T1w"),
        ("MP-RAGE_REPEAT", "T1w"),
        ("MPR-R__GradWarp__B1_Correction__N3", "T1w"),
        ("MT1__N3m", "T1w"),
        ("IR-FSPGR", "T1w"),
        ("Accelerated_Sag_IR-SPGR", "T1w"),
        ("Sagittal_3D_Accelerated_MPRAGE", "T1w"),
        ("Axial_PD-T2_FSE", "T2w"),
        ("Sagittal_3D_FLAIR", "FLAIR"),
        ("Axial_DTI", "dwi"),
        ("Axial_T2_Star", "T2w"),
        ("3_Plane_Localizer", "localizer"),
        ("MPRAGE_MPR_Tra", "localizer"),
        ("B1-Calibration_Body", "localizer"),
        ("Perfusion_Weighted", "other"),
        ("HighResHippocampus", "other"),
        ("Hippocampal_Mask", "derived"),
        ("Something_new", ""),
        ("", ""),
    ],
)
def test_a_description_says_the_contrast_or_nothing(description: str, contrast: str) -> None:
    assert contrast_of(description) == contrast


def test_names_without_dates_stay_different_and_lead_back() -> None:
    first = adni_scan("002_S_0413", "MPRAGE", "2006-05-02", 14032)
    later = first.replace("2006-05-02", "2006-06-02").replace("20060502", "20060602")
    converted = [
        f"ADNI/002_S_0413/x/{one}.nii.gz" for one in ("MPRAGE_20060502123152_3", "a_2006-05-02", "I20061101_S1")
    ]
    assert [name.rpartition("/")[2] for name in without_dates(Files(dict.fromkeys(converted, 7)))[1]] == [
        "MPRAGE_TIME_3.nii.gz", "a_TIME.nii.gz", "I20061101_S1.nii.gz",
    ]  # fmt: skip
    bare = ["x_20070215174801158_I1.nii", "x_20080215174801158_I1.nii"]
    files = Files(dict.fromkeys([first, later, *bare], 7), [Unlisted("link_dangling", later, "why")])
    undated, true_names = without_dates(files)
    assert sorted(true_names.values()) == sorted([first, later, *bare])
    assert len(undated.sizes) == 4
    shown = " ".join([*undated.sizes, *(one.name for one in undated.unlisted)])
    assert "2006" not in shown
    assert "2007" not in shown
