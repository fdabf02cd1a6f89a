"""DICOM as pydicom writes it: the pixels, the right way up in brightness, and nothing of the patient."""

import io
import sys
import warnings

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import RLELossless

from preprocess.dicom import read_dicom
from preprocess.errors import ScanError, UsageError
from tests.support.clips import dicom, moving_block

RNG = np.random.default_rng(0)
CLIP = RNG.integers(0, 256, (9, 20, 30), dtype=np.uint8)
COLOURED = RNG.integers(0, 256, (9, 20, 30, 3), dtype=np.uint8)


def code_of(data: bytes) -> str:
    with pytest.raises(ScanError, match=r"^anna_LUS: ") as caught:
        read_dicom(data, name="anna_LUS")
    assert "\n" not in str(caught.value)
    return caught.value.finding.code


@pytest.mark.parametrize(
    "pixels",
    [CLIP, COLOURED, CLIP[0], COLOURED[0], CLIP[:1], CLIP.astype(np.uint16) * 16, CLIP.astype(np.int16) - 99],
    ids=["clip", "coloured", "single", "coloured single", "one frame", "uint16", "int16"],
)
def test_pixels_come_out_as_they_went_in(pixels: np.ndarray) -> None:
    is_single = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] == 3)
    found = read_dicom(dicom(pixels), name="x")
    assert found.dtype == pixels.dtype
    np.testing.assert_array_equal(found, pixels[None] if is_single else pixels)


def test_a_compressed_file_gives_the_same_pixels() -> None:
    header = pydicom.dcmread(io.BytesIO(dicom(CLIP)))
    header.compress(RLELossless, generate_instance_uid=False)
    sink = io.BytesIO()
    pydicom.dcmwrite(sink, header, enforce_file_format=True)
    np.testing.assert_array_equal(read_dicom(sink.getvalue(), name="x"), CLIP)


def test_where_low_is_bright_the_pixels_are_turned() -> None:
    np.testing.assert_array_equal(read_dicom(dicom(CLIP, interpretation="MONOCHROME1"), name="x"), 255 - CLIP)
    wide = CLIP.astype(np.uint16)
    found = read_dicom(dicom(wide, interpretation="MONOCHROME1"), name="x")
    np.testing.assert_array_equal(
        np.argsort(found.ravel(), kind="stable"), np.argsort(-CLIP.ravel().astype(int), kind="stable")
    )


def test_ybr_is_given_as_rgb() -> None:
    from pydicom.pixels import convert_color_space

    ybr = convert_color_space(COLOURED, "RGB", "YBR_FULL")
    found = read_dicom(dicom(ybr, interpretation="YBR_FULL"), name="x")
    assert np.abs(found.astype(int) - COLOURED).max() <= 3  # two roundings


@pytest.mark.parametrize("bits", [8, 16])
def test_a_palette_is_painted(bits: int) -> None:
    tables = RNG.integers(0, 2**bits, (3, 256)).astype(f"uint{bits}")
    elements: dict[str, object] = {}
    for colour, table in zip(("Red", "Green", "Blue"), tables, strict=True):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        elements[f"{colour}PaletteColorLookupTableData"] = table.tobytes()
    for pixels in (CLIP[0], CLIP):
        found = read_dicom(dicom(pixels, interpretation="PALETTE COLOR", **elements), name="x")
        painted = np.stack([table[pixels] for table in tables], axis=-1) >> (bits - 8)
        np.testing.assert_array_equal(found, painted[None] if pixels.ndim == 2 else painted)


def test_damage_is_a_finding() -> None:
    data = dicom(CLIP)
    assert code_of(data[:-2000]) in {"unreadable", "truncated"}
    assert code_of(data[:140]) in {"unreadable", "truncated"}
    assert code_of(dicom(CLIP, Rows=0)) == "unreadable"
    assert code_of(dicom(CLIP, NumberOfFrames=2**30)) == "too_large"


@given(st.integers(132, 1200), st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_no_changed_byte_raises_anything_but_a_finding(position: int, value: int) -> None:
    data = bytearray(dicom(CLIP[:2]))
    data[position] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            read_dicom(bytes(data), name="x")
        except ScanError as error:
            message = str(error)
        else:
            message = ""
    assert "\n" not in message


def test_an_odd_name_is_neither_quoted_nor_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    with pydicom.config.disable_value_validation():
        data = dicom(moving_block(9), PatientBirthDate="yesterday", StudyDate="x" * 90)
    np.testing.assert_array_equal(read_dicom(data, name="x"), moving_block(9))
    with pytest.raises(ScanError) as caught:
        read_dicom(dicom(CLIP, name="Doe^Jane", Rows=0), name="x")
    assert "Doe" not in str(caught.value) + caplog.text


def test_elements_that_describe_no_pixels_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    decode = pydicom.pixels.pixel_array
    monkeypatch.setattr(pydicom.pixels, "pixel_array", lambda header: (seen.append(header), decode(header))[1])
    read_dicom(dicom(CLIP, PatientID="123", PatientBirthDate="19500101"), name="x")
    (header,) = seen
    assert {"Rows", "PixelData"} <= set(header.dir())
    assert not [word for word in header.dir() if word.startswith("Patient") or word.endswith("UID")]


def test_without_pydicom_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(UsageError, match=r"not installed; pip install 'interscan\[dicom\]'"):
        read_dicom(b"", name="x")
