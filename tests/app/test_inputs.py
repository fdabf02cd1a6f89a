"""Limits and lists at the edge, and the same voxels as the batch job."""

import hashlib
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from starlette.datastructures import UploadFile

from app.allowlist import normal_prefix
from app.errors import ProblemError
from app.inputs import prepare, read_upload, read_uri
from preprocess.dicom_zip import pack
from preprocess.errors import ScanError
from preprocess.kinds import prepare_scan
from preprocess.types import Scan
from tests.support.artefacts import RECIPE
from tests.support.heads import head_nifti, head_voxels, nifti
from tests.support.series import CANARIES, file_of, files_of, slices


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


def test_an_upload_of_exactly_the_limit_passes_and_one_byte_more_does_not():
    assert len(read_upload(upload(b"x" * 100), name="scan", max_bytes=100)) == 100
    with pytest.raises(ProblemError, match="larger than 100 bytes") as caught:
        read_upload(upload(b"x" * 101), name="scan", max_bytes=100)
    assert caught.value.status == 413


@pytest.fixture(params=["folder", "bucket"])
def prefix(request, tmp_path) -> str:
    """An allowed location that holds a.nii of 100 bytes."""
    if request.param == "folder":
        (tmp_path / "a.nii").write_bytes(b"x" * 100)
        return normal_prefix(str(tmp_path))
    fsspec.filesystem("memory").pipe_file("/inputs-test/a.nii", b"x" * 100)
    return normal_prefix("memory://inputs-test")


def test_a_uri_of_exactly_the_limit_is_read_and_one_byte_more_is_not_fetched(prefix, monkeypatch):
    assert read_uri(f"{prefix}/a.nii", (prefix,), name="scan", max_bytes=100) == b"x" * 100
    file_system: Any = type(fsspec.core.url_to_fs(prefix)[0])
    monkeypatch.setattr(file_system, "cat_file", None)

    with pytest.raises(ProblemError) as caught:
        read_uri(f"{prefix}/a.nii", (prefix,), name="scan", max_bytes=99)
    assert caught.value.status == 413


def test_what_is_not_there_or_a_folder_is_said_without_the_uri(prefix):
    for uri, code in ((f"{prefix}/b.nii", "not_found"), (f"{prefix}/a.nii/b", "not_found")):
        with pytest.raises(ProblemError) as caught:
            read_uri(uri, (prefix,), name="earlier", max_bytes=100)
        assert (caught.value.status, caught.value.code) == (422, code)
        assert prefix not in caught.value.detail


def test_a_folder_is_not_a_scan(tmp_path):
    (tmp_path / "scans" / "sub").mkdir(parents=True)

    with pytest.raises(ProblemError, match="names a folder"):
        read_uri(f"{tmp_path}/scans/sub", (normal_prefix(str(tmp_path / "scans")),), name="scan", max_bytes=9)


def test_an_empty_object_reads_as_no_bytes(tmp_path):
    (tmp_path / "empty.nii").touch()

    assert read_uri(f"{tmp_path}/empty.nii", (normal_prefix(str(tmp_path)),), name="scan", max_bytes=9) == b""


def test_a_uri_outside_the_list_is_403_and_nothing_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("app.inputs.Location", None)

    with pytest.raises(ProblemError) as caught:
        read_uri("/etc/passwd", (normal_prefix(str(tmp_path)),), name="scan", max_bytes=10**6)
    assert (caught.value.status, caught.value.code) == (403, "uri_not_allowed")


def test_a_storage_that_refuses_is_502_and_the_uri_stays_out_of_answer_and_log(tmp_path, monkeypatch, caplog):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "denied", f"{tmp_path}/a.nii")

    monkeypatch.setattr("fsspec.implementations.local.LocalFileSystem.info", refuse)

    with pytest.raises(ProblemError) as caught, caplog.at_level("WARNING"):
        read_uri(f"{tmp_path}/a.nii", (normal_prefix(str(tmp_path)),), name="later", max_bytes=9)

    assert (caught.value.status, caught.value.code) == (502, "storage_failed")
    assert "later: access refused" in caplog.text
    assert str(tmp_path) not in caplog.text + caught.value.detail


def upload(data: bytes) -> UploadFile:
    """As the multipart parser hands it on."""
    import io

    return UploadFile(file=io.BytesIO(data), filename=str(Path("x.nii")))


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
