"""What a file is, whatever its name says, and what is reported where a modality's kind does not read it."""

import io

import numpy as np
import pydicom
import pytest

from preprocess.dicom_zip import pack
from preprocess.errors import ScanError
from preprocess.file_types import (
    READ_BY,
    endings_of,
    file_type,
    has_ending,
    impostor,
    is_own_object,
    require_type,
    unread_reason,
    without_ending,
)
from tests.support.clips import dicom, moving_block, npy, picture, video
from tests.support.images import REAL_DATA, gz, head_file, nifti

GREY = moving_block(9)
FILES = {
    "nifti": [head_file(), nifti(np.zeros((2, 2, 2), np.int16)), nifti(np.zeros((2, 2, 2), np.int16), big_endian=True)],
    "numpy": [npy(GREY)],
    "dicom": [dicom(GREY)],
    "zip": [pack([b"x"])],
    "video": [
        video(GREY),
        video(GREY, "mov"),
        video(GREY, "avi"),
        video(GREY, "mpeg", "mpeg1video"),
        video(GREY, "mpeg1video", "mpeg1video"),
    ],
    "picture": [picture(GREY[0]), picture(GREY[0], "JPEG")],
}
WHOLE = "save a volume, or its slices together, as one .nii.gz; only if each file is a whole visit"
SLICES = ["2", "2.1", "4", "4.1", "4.4", "7", "20", "128", "130"]
"""CT, MR, secondary capture, nuclear medicine and PET, plain and enhanced (DICOM PS3.6, table A-1)."""
WHOLES = ["1", "1.1", "3.1", "6.1", "12.1", "77.1.5.1", "77.1.4"]
"""Radiographs, ultrasound, angiograms, fundus and other photographs."""
ANNEX = b"/annex/objects/MD5E-s1234--0123456789abcdef.nii.gz\n"
ANNEX_LINK = b"../../../.git/annex/objects/xq/0J/MD5E-s12--9f.nii.gz/MD5E-s12--9f.nii.gz"


def dicom_of(sop_class: str) -> bytes:
    """One plane as an object of this class."""
    header = pydicom.dcmread(io.BytesIO(dicom(GREY[0])))
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = pydicom.uid.UID(sop_class)
    sink = io.BytesIO()
    pydicom.dcmwrite(sink, header, enforce_file_format=True)
    return sink.getvalue()


@pytest.mark.parametrize("expected", FILES)
def test_the_first_bytes_that_other_libraries_write_tell_the_type_under_any_name(expected: str) -> None:
    for data in FILES[expected]:
        assert {file_type(data, uri) for uri in ("x", "x.nii.gz", "x.csv")} == {expected}


def test_a_table_is_recognised_by_its_name_and_a_web_page_is_none() -> None:
    assert file_type(b"a,b\n1,2\n", "f/x.csv") == "table"
    assert {file_type(b"1 2\n", uri) for uri in ("f/x.txt", "f/x.TSV", "f/x.CSV")} == {"table"}
    assert file_type(b"1 2\n", "f/x.dat") is None
    assert file_type(b"<!DOCTYPE html>", "f/x.csv") is None
    assert file_type(b"", "x.mp4") is None


@pytest.mark.parametrize("kind", READ_BY)
def test_names_end_as_the_kind_reads_them_and_lose_the_ending(kind: str) -> None:
    for ending in endings_of(kind):
        assert without_ending(f"a/b.c/ses-01_T1w{ending}") == "ses-01_T1w"
    assert without_ending("a/notes.md") == "notes.md"


@pytest.mark.parametrize("name", ["x.nii.gz", "X.NII.GZ", "a.b/Scan.Nii.Gz", "x.NII"])
def test_letters_of_any_case_end_a_name(name: str) -> None:
    assert has_ending(name, "volume")
    assert not has_ending(name, "clip")
    assert without_ending(name).lower() in ("x", "scan")
    assert unread_reason(name) is None


def test_text_is_a_matrix_only_where_more_than_its_ending_says_so() -> None:
    assert not has_ending("anna/notes.txt", "array")
    assert has_ending("sub-1/sub-1_SC.txt", "array", is_named=True)
    assert has_ending("sub-1/sub-1_SC.TSV", "array", is_named=True)
    assert not has_ending("sub-1/sub-1_LUS.txt", "clip", is_named=True)


@pytest.mark.parametrize(
    ("names", "remedy"),
    [
        (("a/orig.mgz", "T1.MGH", "x.mgh.gz"), "convert it with mri_convert"),
        (("sub-1_T1w.hdr", "sub-1_T1w.img", "x.IMG.gz"), "nib-convert"),
        (("x.nrrd", "x.nhdr", "x.mha", "x.MHD", "x.gipl.gz"), "save it as .nii.gz"),
        (("x.PAR", "x.rec"), "parrec2nii"),
        (("x.mnc", "x.minc"), "mnc2nii"),
        (("anat+orig.BRIK", "anat+orig.HEAD", "anat+orig.BRIK.gz"), "3dAFNItoNIFTI"),
        (("x.mif", "x.mif.gz"), "mrconvert"),
        (("pet.v",), "nib-convert"),
        (("x.dcm", "x.IMA", "IM_0027", "IM-0001-0023", "I0000012", "MR.1.2.840.113619.2"), "--source-kind dicom"),
        (("1.3.12.2.1107.5.2",), "--source-kind dicom"),
        (("x.nii.bz2", "x.nii.xz", "x.nii.zst", "x.nii.Z"), "unpack it"),
        (("scans.zip", "x.nii.zip", "ds.tar.gz", "ds.tgz", "ds.7z"), "unpack it"),
        (("x.nii.gz.part", "x.nii.gz.crdownload"), "download the file again"),
        (("x.nii.gz.bak", "x.nii.gz~", "x.nii_old", "x.nii.gz (1)", "x.nii.gz.gz"), "rename it"),
        (("SC.mat", "SC.npz"), "save"),
        (("eye.tif", "eye.bmp", "lung.mkv"), ", which is not read; "),
    ],
)  # fmt: skip
def test_what_looks_like_a_scan_and_is_not_read_has_a_reason_with_a_remedy(names: tuple[str, ...], remedy: str) -> None:
    for name in names:
        reason = unread_reason(name)
        assert reason is not None, name
        assert remedy in reason
        assert "; " in reason
        assert "\n" not in reason


@pytest.mark.parametrize(
    "name",
    [
        *("sub-1_dwi.bval", "sub-1_dwi.bvec", "sub-1_T1w.json", "participants.tsv", "README", "CHANGES", "DICOMDIR"),
        *("x.nii.gz.json", "x.nii.gz.md5", "figure.svg", "run.log", "HEAD", "x.mp4", "x.npy", "ses-01", "2024.01.02"),
    ],
)
def test_what_is_no_scan_or_is_read_has_none(name: str) -> None:
    assert unread_reason(name) is None


def test_a_slice_and_an_archive_are_left_to_the_reader_of_series() -> None:
    for end in SLICES:
        data = dicom_of("1.2.840.10008.5.1.4.1.1." + end)
        assert require_type(data, "x", "volume", modality="T1w", name="x") == "dicom"
    assert require_type(b"PK\x03\x04.....", "x", "volume", modality="T1w", name="x") == "zip"


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (
            npy(GREY),
            "volume",
            f'a NumPy file, which is no volume; {WHOLE}, set kinds.LUS = "clip" or kinds.LUS = "array"',
        ),
        (video(GREY), "volume", f'a video, which is no volume; {WHOLE}, set kinds.LUS = "clip" in the recipe, for a'),
        (picture(GREY[0]), "volume", f'a PNG or JPEG picture, which is no volume; {WHOLE}, set kinds.LUS = "image" in'),
        (
            dicom(GREY),
            "volume",
            f'a DICOM file, which is no volume; {WHOLE}, set kinds.LUS = "clip" or kinds.LUS = "im',
        ),
        (picture(GREY[0]), "clip", 'a PNG or JPEG picture, which is no clip; set kinds.LUS = "image" in the recipe'),
        (gz(b"x"), "image", "a NIfTI or gzip file, which is no image; take LUS out of kinds, into a new store"),
        (b"<html>moved", "clip", "a web page saved under a scan's name; download the scan itself"),
        (b"version https://git-lfs.github.com/spec/v1", "array", "a Git LFS pointer, not the scan; run git lfs pull"),
        (b"PK\x03\x04.....", "array", "begins with 504b03042e2e2e2e, which is not a NumPy file or a CSV table"),
        (b"", "image", "begins with nothing, which is not a PNG or JPEG picture or a DICOM file; export it as one"),
    ],
)
def test_a_file_of_another_type_is_one_finding_with_the_kind_that_reads_it(
    data: bytes, kind: str, message: str
) -> None:
    with pytest.raises(ScanError) as caught:
        require_type(data, "x", kind, modality="LUS", name="anna_LUS")
    assert caught.value.finding.code == "wrong_file"
    assert str(caught.value).startswith(f"anna_LUS: {message}")


def test_what_no_kind_reads_is_left_to_the_reader_of_volumes() -> None:
    for data in (b"", b"nonsense" * 99):
        assert require_type(data, "x", "volume", modality="T1w", name="x") == "nifti"


@pytest.mark.parametrize("kind", READ_BY)
@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (ANNEX, "run git annex get (or datalad get) on it"),
        (ANNEX.rstrip(), "git annex get"),
        (ANNEX_LINK, "git annex get"),
        (ANNEX_LINK.replace(b"/", b"\\"), "git annex get"),
        (b".git/annex/objects/a/b/MD5-s1--1/MD5-s1--1", "git annex get"),
        (b"../../sourcedata/sub-01_T1w.nii.gz", "copy the file that it names"),
        (b"XSym\n0021\n" + b"0" * 32 + b"\n../../sub-01_T1w.nii.gz\n" + b" " * 900, "copy the file that it names"),
        (b"!<symlink>../x.nii.gz\0", "copy the file that it names"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n", "git lfs pull"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "download the scan itself"),
        (b'{"message": "Not Found"}', "download the scan itself"),
    ],
)
def test_what_stands_for_a_file_that_was_not_fetched_says_how_to_fetch_it(data: bytes, remedy: str, kind: str) -> None:
    for uri in ("x.nii.gz", "x.csv", "x.txt"):
        with pytest.raises(ScanError) as caught:
            require_type(data, uri, kind, modality="T1w", name="sub-01_T1w")
        assert remedy in str(caught.value)
        assert "copy the file again" not in str(caught.value)


def test_a_file_of_numbers_or_of_any_known_type_is_no_impostor() -> None:
    tables = [b"a,b\n1,2\n", b"1 2\n", b"../x 1\n2 3\n", b"", ANNEX * 200]
    for data in [*tables, *(data for files in FILES.values() for data in files)]:
        assert impostor(data) is None


def test_a_file_that_may_be_a_slice_is_distinguished_from_an_examination_of_its_own() -> None:
    prefix = "1.2.840.10008.5.1.4.1.1."
    assert [is_own_object(dicom_of(prefix + end)) for end in SLICES] == [False] * len(SLICES)
    assert [is_own_object(dicom_of(prefix + end)) for end in WHOLES] == [True] * len(WHOLES)
    assert not is_own_object(b"")


@pytest.mark.real_data
@pytest.mark.skipif(not REAL_DATA.exists(), reason="the shared scans are not beside the checkout")
@pytest.mark.parametrize("folder", ["t1w_block", "enhanced", "transfer_syntaxes"])
def test_no_file_of_a_real_series_is_ever_advised_to_become_an_image(folder: str) -> None:
    files = sorted((REAL_DATA / "dicom" / folder).rglob("*.dcm"))
    assert len(files) >= 5
    for file in files:
        assert require_type(file.read_bytes(), file.name, "volume", modality="T1w", name="x") == "dicom"


def test_an_npz_is_no_npy() -> None:
    sink = io.BytesIO()
    np.savez(sink, a=GREY)
    with pytest.raises(ScanError, match="is not a NumPy file"):
        require_type(sink.getvalue(), "x.npy", "array", modality="SC", name="x")
