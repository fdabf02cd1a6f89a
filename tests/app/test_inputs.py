"""Limits and lists at the edge, and the same voxels as the batch job."""

import hashlib
import os
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

import numpy as np
import pytest
from starlette.datastructures import UploadFile

from app.errors import ProblemError
from app.inputs import prepare, prepare_together, upload_file
from preprocess.dicom_zip import pack
from preprocess.errors import ScanError, UsageError
from preprocess.kinds import prepare_scan
from preprocess.preparation.rigid import farthest_mm
from preprocess.types import Scan
from tests.support.artefacts import RECIPE
from tests.support.heads import head_nifti, head_voxels, nifti
from tests.support.series import CANARIES, file_of, files_of, slices
from tests.support.turned_heads import pose, turned_nifti


def test_a_prepared_scan_holds_the_voxels_of_the_batch_job():
    data = head_nifti()

    scan = prepare(data, RECIPE, name="scan")

    stored = prepare_scan(data, Scan("sub-1", "ses-1", "T1w", "head.nii.gz"), RECIPE)
    np.testing.assert_array_equal(scan.voxels_CDHW, stored.values)
    assert scan.sha256 == hashlib.sha256(data).hexdigest()
    assert scan.findings == ()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (nifti(np.zeros((40, 40, 40), np.int16), np.diag([4.0, 4, 4, 1])), "empty"),
        (head_nifti(spacing_mm=6.0), "too_coarse"),
        (nifti(np.full((40, 40, 40), np.nan, np.float32), np.diag([4.0, 4, 4, 1])), "non_finite"),
    ],
)
def test_a_scan_that_the_batch_job_would_leave_out_is_refused_alike(data, code):
    with pytest.raises(ScanError) as caught:
        prepare(data, RECIPE, name="later")

    assert caught.value.finding.code == code
    assert str(caught.value).startswith("later:")


def test_a_header_that_promises_too_many_voxels_is_refused():
    with pytest.raises(ScanError) as caught:
        prepare(head_nifti(), RECIPE, name="scan", max_voxels=48**3 - 1)

    assert caught.value.finding.code == "too_large"


def test_an_upload_of_exactly_the_limit_becomes_a_real_file_and_one_byte_more_does_not():
    with SpooledTemporaryFile(max_size=2**20) as file:
        file.write(b"x" * 100)
        upload = UploadFile(file=cast(BinaryIO, file), size=100, filename="x.nii")
        assert os.pread(upload_file(upload, name="scan", max_bytes=100).fileno(), 101, 0) == b"x" * 100
        with pytest.raises(ProblemError, match="larger than 99 bytes") as caught:
            upload_file(upload, name="scan", max_bytes=99)
    assert caught.value.status == 413


def test_a_zip_of_a_series_becomes_what_its_nifti_file_does():
    affine = np.diag([-4.0, -4.0, 4.0, 1.0])
    affine[:3, 3] = [94, 94, -94]
    voxels = head_voxels()

    zipped = prepare(pack(files_of(slices(voxels.transpose(2, 1, 0)))), RECIPE, name="scan")

    np.testing.assert_array_equal(zipped.voxels_CDHW, prepare(nifti(voxels, affine), RECIPE, name="scan").voxels_CDHW)


@pytest.mark.parametrize(
    ("files", "code", "said"),
    [
        (slices()[:1], "too_few_slices", "one slice of a series; give the folder or a zip of the series"),
        ([*slices(), *slices(number=8)[:9]], "several_series", "series 5 (48 images), series 8 (9 images); give one"),
        (slices()[:20] + slices()[21:], "slice_gap", "about 1 missing"),
    ],
    ids=["slice", "several", "gap"],
)
def test_what_is_no_whole_series_is_one_line_without_names(files, code, said):
    data = file_of(files[0]) if len(files) == 1 else pack(files_of(files))

    with pytest.raises(ScanError) as caught:
        prepare(data, RECIPE, name="scan")

    assert caught.value.finding.code == code
    assert said in str(caught.value)
    assert "kinds" not in str(caught.value)
    assert not [canary for canary in CANARIES if canary in str(caught.value)]


def test_an_archive_that_unpacks_beyond_the_voxel_limit_is_refused():
    with pytest.raises(ScanError) as caught:
        prepare(pack([bytes(2**21)]), RECIPE, name="scan", max_voxels=1000)
    assert caught.value.finding.code == "too_large"


def test_scans_of_one_person_are_registered_with_each_other_where_the_recipe_asks() -> None:
    recipe = RECIPE.model_copy(update={"registration": "subject"})
    poses = [pose((3, -2, 5), (4, -3, 2)), pose((-4, 3, -6), (-6, 5, 1))]
    files = [(turned_nifti(one, seed=seed), f"scan {seed}") for seed, one in enumerate(poses)]
    together = prepare_together(files, recipe)
    affines = [np.array(one.affine).reshape(4, 4) for one in together]
    assert farthest_mm(affines[0] @ np.linalg.inv(affines[1]) @ poses[1] @ np.linalg.inv(poses[0])) < 0.2
    alone = prepare_together(files, RECIPE)
    assert [one.voxels_CDHW.tobytes() for one in alone] == [
        prepare(data, RECIPE, name=name).voxels_CDHW.tobytes() for data, name in files
    ]


def test_a_model_of_masked_scans_says_what_to_give_instead() -> None:
    recipe = RECIPE.model_copy(update={"brain_mask": "given"})
    with pytest.raises(UsageError, match="no masks can be given here; preprocess the scans with their masks"):
        prepare_together([(head_nifti(), "earlier")], recipe)
