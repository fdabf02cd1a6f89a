"""What a file is, whatever its name says, and what is told where a modality's kind does not read it."""

import io

import numpy as np
import pytest

from preprocess.errors import ScanError
from preprocess.file_types import READ_BY, endings_of, file_type, require_type, without_ending
from tests.support.clips import dicom, moving_block, npy, picture, video
from tests.support.images import gz, head_file, nifti

GREY = moving_block(9)
FILES = {
    "nifti": [head_file(), nifti(np.zeros((2, 2, 2), np.int16)), nifti(np.zeros((2, 2, 2), np.int16), big_endian=True)],
    "numpy": [npy(GREY)],
    "dicom": [dicom(GREY)],
    "video": [
        video(GREY),
        video(GREY, "mov"),
        video(GREY, "avi"),
        video(GREY, "mpeg", "mpeg1video"),
        video(GREY, "mpeg1video", "mpeg1video"),
    ],
    "picture": [picture(GREY[0]), picture(GREY[0], "JPEG")],
}


@pytest.mark.parametrize("expected", FILES)
def test_the_first_bytes_that_other_libraries_write_tell_the_type_under_any_name(expected: str) -> None:
    for data in FILES[expected]:
        assert {file_type(data, uri) for uri in ("x", "x.nii.gz", "x.csv")} == {expected}


def test_a_table_is_told_by_its_name_and_a_web_page_is_none() -> None:
    assert file_type(b"a,b\n1,2\n", "f/x.csv") == "table"
    assert file_type(b"a,b\n1,2\n", "f/x.txt") is None
    assert file_type(b"<!DOCTYPE html>", "f/x.csv") is None
    assert file_type(b"", "x.mp4") is None


@pytest.mark.parametrize("kind", READ_BY)
def test_names_end_as_the_kind_reads_them_and_lose_the_ending(kind: str) -> None:
    for ending in endings_of(kind):
        assert without_ending(f"a/b.c/ses-01_T1w{ending}") == "ses-01_T1w"
    assert without_ending("a/notes.txt") == "notes.txt"


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (npy(GREY), "volume", 'a NumPy file, which is no volume; set kinds.LUS = "clip" or kinds.LUS = "array" in the'),
        (video(GREY), "volume", 'a video, which is no volume; set kinds.LUS = "clip" in the recipe, for a new store'),
        (picture(GREY[0]), "clip", 'a PNG or JPEG picture, which is no clip; set kinds.LUS = "image" in the recipe'),
        (gz(b"x"), "image", "a NIfTI or gzip file, which is no image; take LUS out of kinds, into a new store"),
        (b"<html>moved", "clip", "a web page or a Git LFS pointer under a scan's name; download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1", "array", "a web page or a Git LFS pointer"),
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
    for data in (b"", b"<html>", b"nonsense" * 99):
        assert require_type(data, "x", "volume", modality="T1w", name="x") == "nifti"


def test_an_npz_is_no_npy() -> None:
    sink = io.BytesIO()
    np.savez(sink, a=GREY)
    with pytest.raises(ScanError, match="is not a NumPy file"):
        require_type(sink.getvalue(), "x.npy", "array", modality="SC", name="x")
