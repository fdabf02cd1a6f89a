"""DICOM of ADNI: the slices of a folder are one scan, and headers that contradict their path lose it by name."""

from collections.abc import Callable
from datetime import date
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom.dataset import Dataset

from preprocess.images import read_image
from preprocess.sources import Listing, list_scans
from preprocess.sources.adni_series import group_slices
from preprocess.sources.reach import read_scan
from tests.support.series import FIRST_DAY, files_of, fine_slices, slices, uid
from tests.support.studies import adni_scan, made_up_head, put

DAY = "2006-05-02"
PERSON = "002_S_0413"


def put_series(root: Path, sets: list[Dataset], *, image: int = 2, day: str = DAY, description: str = "MPRAGE") -> str:
    """Write slices as LONI names them; returns their folder."""
    name = adni_scan(PERSON, description, day, image, ending=".dcm")
    for index, content in enumerate(files_of(sets), start=1):
        put(root, name.replace("_1_S", f"_{index}_S"), content)
    return name.rpartition("/")[0]


def series(*, day: str = DAY, patient: str = PERSON, **elements: object) -> list[Dataset]:
    days = (date.fromisoformat(day) - FIRST_DAY).days
    return fine_slices(patient=patient, days=days, visit=days, **elements)


def listed(root: Path) -> Listing:
    put(root, adni_scan(PERSON, "MPRAGE", "2005-05-02", 1), made_up_head(1))
    listing = list_scans(str(root), ("T1w",), source_kind="adni")
    listing.account.remarks = [one for one in listing.account.remarks if one.code != "tables_missing"]
    return listing


def test_a_series_is_one_scan_with_the_day_of_its_folder_and_the_scanner_of_its_headers(tmp_path: Path) -> None:
    folder = put_series(tmp_path, series())
    listing = listed(tmp_path)
    scan, name, num_bytes = next(entry for entry in listing.scans if entry[0].run == "run-2")
    assert (scan.subject_id, scan.session_id, scan.day, scan.scanner) == (PERSON, "ses-I2", 365.0, "Made Up")
    assert name == folder.replace(f"{DAY}_12_31_52.0", "DATE")
    archive = read_scan(listing.root, scan)
    assert len(archive) == num_bytes
    image = read_image(archive, name="scan")
    assert image.voxels_XYZ.shape == (48, 48, 96)
    np.testing.assert_allclose(image.spacing_mm, (4.0, 4.0, 2.0))
    assert listing.account.files == {"there": 97, "scans": 97, "read": 0, "other": 0, "passed_over": 0}
    assert listing.account.remarks == []


def test_how_the_files_of_a_series_are_called_does_not_matter(tmp_path: Path) -> None:
    folder = tmp_path / put_series(tmp_path, series())
    before = [(scan.run, name, size) for scan, name, size in listed(tmp_path).scans]
    for number, file in enumerate(sorted(folder.iterdir())[:5]):
        file.rename(folder / f"IM{number}.dcm")
    assert [(scan.run, name, size) for scan, name, size in listed(tmp_path).scans] == before


def of_another_person(sets: list[Dataset]) -> list[Dataset]:
    for one in sets:
        one.PatientID = "003_S_0907"
    return sets


def of_two_series(sets: list[Dataset]) -> list[Dataset]:
    for one in sets[:40]:
        one.SeriesInstanceUID = uid("another")
    return sets


def with_a_gap(sets: list[Dataset]) -> list[Dataset]:
    return sets[:40] + sets[41:]


def as_mosaic(sets: list[Dataset]) -> list[Dataset]:
    for one in sets:
        one.ImageType = ["ORIGINAL", "PRIMARY", "M", "MOSAIC"]
    return sets


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (of_another_person, "two_subjects", "the path names 002_S_0413 and the headers 003_S_0907"),
        (of_two_series, "uids_untrusted", "2 series in one folder"),
        (with_a_gap, "slice_gap", "slice"),
        (as_mosaic, "mosaic", "mosaic"),
        (lambda sets: sets[:1], "too_few_slices", "one slice"),
    ],
)
def test_a_series_that_is_no_scan_is_one_scan_lost_with_all_its_files(
    change: Callable[[list[Dataset]], list[Dataset]], code: str, said: str, tmp_path: Path
) -> None:
    sets = change(series())
    put_series(tmp_path, sets)
    listing = listed(tmp_path)
    (remark,) = listing.account.remarks
    assert (remark.code, remark.count, listing.account.num_lost) == (code, len(sets), 1)
    assert said in remark.message
    assert [scan.run for scan, _, _ in listing.scans] == ["run-1"]
    assert DAY not in remark.message


def test_a_damaged_slice_loses_the_scan_and_is_counted(tmp_path: Path) -> None:
    folder = put_series(tmp_path, series())
    files = sorted((tmp_path / folder).iterdir())
    files[3].write_bytes(files[3].read_bytes()[:300])
    files[4].write_bytes(b"nothing of the kind")
    (remark,) = listed(tmp_path).account.remarks
    assert (remark.code, remark.count) == ("dicom_unreadable", 96)
    assert "2 of its 96 files" in remark.message


def test_images_of_another_machine_are_no_loss(tmp_path: Path) -> None:
    put_series(tmp_path, slices(patient=PERSON, Modality="PT"))
    listing = listed(tmp_path)
    assert [one.code for one in listing.account.remarks] == ["not_mr"]
    assert listing.account.num_lost == 0


def test_slices_beside_the_volume_that_was_made_of_them_are_another_form_of_it(tmp_path: Path) -> None:
    folder = put_series(tmp_path, series())
    put(tmp_path, f"{folder}/converted_I2.nii.gz", made_up_head(2))
    listing = listed(tmp_path)
    (remark,) = listing.account.remarks
    assert (remark.code, remark.count, listing.account.num_lost) == ("raw_and_processed", 96, 0)
    assert sorted(scan.run for scan, _, _ in listing.scans) == ["run-1", "run-2"]


def test_a_date_in_the_headers_that_contradicts_the_folder_is_said_without_either(tmp_path: Path) -> None:
    put_series(tmp_path, series(day="2006-05-05"))
    listing = listed(tmp_path)
    (remark,) = listing.account.remarks
    assert remark.code == "days_contradict"
    assert "3 days apart" in remark.message
    assert {scan.run: scan.day for scan, _, _ in listing.scans} == {"run-1": 0.0, "run-2": 365.0}


def test_the_least_processed_form_is_kept_whatever_its_format(tmp_path: Path) -> None:
    put_series(tmp_path, series())
    put(tmp_path, adni_scan(PERSON, "MPR__GradWarp__N3", DAY, 9, raw=False), made_up_head(3))
    listing = listed(tmp_path)
    assert sorted(scan.run for scan, _, _ in listing.scans) == ["run-1", "run-2"]
    assert [one.code for one in listing.account.remarks] == ["raw_and_processed"]


def test_two_images_in_one_folder_are_two_scans_under_two_names() -> None:
    names = [f"002_S_0413/MPRAGE/{DAY}_01_01_01.0/S1/x_I{image}_{n}.dcm" for image in (7, 8) for n in (1, 2)]
    labels = {name.replace(f"{DAY}_01_01_01.0", "DATE"): name for name in names}
    found = group_slices(labels, labels, dict.fromkeys(labels, 10))
    assert [one.path.image for one in found] == ["I7", "I8"]
    assert len({one.label for one in found}) == 2
    assert sum((one.names for one in found), ()) == tuple(names)


def test_voxels_are_those_of_the_same_image_as_nifti(tmp_path: Path) -> None:
    sets = series()
    put_series(tmp_path, sets)
    scan = next(scan for scan, _, _ in listed(tmp_path).scans if scan.run == "run-2")
    image = read_image(read_scan(list_scans(str(tmp_path), ("T1w",), source_kind="adni").root, scan), name="scan")
    nifti = nibabel.Nifti1Image(image.voxels_XYZ, image.affine)
    again = read_image(nifti.to_bytes(), name="scan")
    np.testing.assert_array_equal(again.voxels_XYZ, image.voxels_XYZ)
    by_hand = np.stack([one.pixel_array for one in sets]).transpose(2, 1, 0)
    np.testing.assert_array_equal(image.voxels_XYZ, by_hand)
