"""Masks by name: what skull-stripping programs and BIDS derivatives write is found, and nothing is guessed."""

from pathlib import Path

import pytest

from preprocess.errors import UsageError
from preprocess.sources.listing import Listing
from preprocess.sources.masks import with_masks
from preprocess.storage import Location
from preprocess.types import Scan


def listed(*names: str) -> Listing:
    scans = []
    for name in names:
        subject, _, session = name.rpartition("/")[2].split(".")[0].partition("_")
        run = "run-2" if "run-2" in name else ""
        scans.append((Scan(subject, session.split("_")[0], "T1w", f"/raw/{name}", run=run), name, 1))
    return Listing(Location("/raw"), scans)


def put(root: Path, *names: str) -> Location:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return Location(str(root))


SCAN = "sub-1/ses-1/anat/sub-1_ses-1_T1w.nii.gz"


@pytest.mark.parametrize(
    "mask",
    [
        SCAN,
        "sub-1/ses-1/anat/sub-1_ses-1_desc-brain_mask.nii.gz",
        "sub-1/ses-1/anat/sub-1_ses-1_space-orig_desc-brain_mask.nii.gz",
        "sub-1/ses-1/anat/sub-1_ses-1_T1w_brainmask.nii",
        "sub-1_ses-1_T1w_mask.nii.gz",
        "sub-1_ses-1_T1w_bet_mask.nii.gz",
        "hdbet/sub-1_ses-1_T1w_bet_mask.NII.GZ",
        "sub-1_ses-1_brain_mask.nii.gz",
        "deep/er/sub-1_ses-1_T1w.nii.gz",
    ],
)
def test_the_names_that_programs_give_are_found(mask: str, tmp_path: Path) -> None:
    listing = listed(SCAN)
    assert with_masks(listing, put(tmp_path, mask)) == []
    assert listing.scans[0][0].mask_uri == str(tmp_path / mask)


@pytest.mark.parametrize(
    "mask",
    [
        "sub-1/ses-2/anat/sub-1_ses-2_desc-brain_mask.nii.gz",
        "sub-1/ses-1/anat/sub-1_ses-1_space-MNI152NLin2009cAsym_desc-brain_mask.nii.gz",
        "sub-10/ses-1/anat/sub-10_ses-1_desc-brain_mask.nii.gz",
        "sub-1/ses-1/anat/sub-1_ses-1_run-2_desc-brain_mask.nii.gz",
        "mask.nii.gz",
    ],
)
def test_the_mask_of_another_scan_or_space_is_not_taken(mask: str, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"none of 1 NIfTI files is called like a scan, for example sub-1_ses-1_T1w_mask"
    ):
        with_masks(listed(SCAN), put(tmp_path, mask))


def test_plain_folders_are_mirrored(tmp_path: Path) -> None:
    listing = listed("p1/v1.nii.gz", "p2/v1.nii.gz")
    with_masks(listing, put(tmp_path, "p1/v1_mask.nii.gz", "p2/v1.nii.gz"))
    assert [Path(scan.mask_uri).relative_to(tmp_path).as_posix() for scan, _, _ in listing.scans] == [
        "p1/v1_mask.nii.gz", "p2/v1.nii.gz",
    ]  # fmt: skip


def test_what_has_no_mask_and_what_belongs_to_no_scan_is_told(tmp_path: Path) -> None:
    listing = listed(SCAN, SCAN.replace("ses-1", "ses-2"))
    masks = put(tmp_path, "sub-1_ses-1_T1w_mask.nii.gz", "sub-9_ses-1_T1w_mask.nii.gz", "README.txt")
    assert with_masks(listing, masks) == [
        "1 of 2 scans have no brain mask",
        "1 of 2 files in --masks belong to no scan that is listed",
    ]
    assert listing.scans[1][0].mask_uri == ""


def test_two_masks_for_one_scan_are_refused(tmp_path: Path) -> None:
    masks = put(tmp_path, "a/sub-1_ses-1_T1w_mask.nii.gz", "b/sub-1_ses-1_T1w_mask.nii.gz")
    with pytest.raises(UsageError, match=r"2 masks fit sub-1_ses-1_T1w .*; leave one there"):
        with_masks(listed(SCAN), masks)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no NIfTI file there; give the folder of the brain masks"):
        with_masks(listed(SCAN), put(tmp_path, "notes.txt"))
