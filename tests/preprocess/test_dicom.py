"""DICOM as pydicom writes it: the pixels, the right way up in brightness, and nothing of the patient."""

import hashlib
import io
import json
import struct
import sys
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from preprocess.dicom import read_dicom
from preprocess.dicom_headers import read_header
from preprocess.errors import ScanError, UsageError
from tests.support.clips import dicom, moving_block

RNG = np.random.default_rng(0)
CLIP = RNG.integers(0, 256, (9, 20, 30), dtype=np.uint8)
SMOOTH = moving_block(9, (48, 64))
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


@pytest.mark.real_data
@pytest.mark.parametrize("number", range(1, 10))
def test_every_transfer_syntax_gives_the_pixels_of_the_oracle(real_data: Path, number: int) -> None:
    oracle = json.loads((real_data / "dicom/oracle.json").read_text())["cases"]["transfer_syntaxes"]["files"]
    data = (real_data / f"dicom/transfer_syntaxes/{number}.dcm").read_bytes()
    values = read_dicom(data, name="x")
    assert values.shape == (1, 384, 384)
    found = hashlib.md5(values.astype("<u2").tobytes()).hexdigest()
    assert found == oracle[f"{number}.dcm"]["pixel_plane"]["md5_little_endian"]


def compressed(pixels: np.ndarray, syntax: pydicom.uid.UID) -> bytes:
    header = pydicom.dcmread(io.BytesIO(dicom(pixels)))
    header.compress(syntax, generate_instance_uid=False)
    sink = io.BytesIO()
    pydicom.dcmwrite(sink, header, enforce_file_format=True)
    return sink.getvalue()


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("pixels", [SMOOTH, SMOOTH[0], SMOOTH.astype(np.uint16) * 200, SMOOTH.astype(np.int16) - 99])
def test_lossless_compression_gives_the_same_pixels(pixels: np.ndarray, syntax: pydicom.uid.UID) -> None:
    found = read_dicom(compressed(pixels, syntax), name="x")
    np.testing.assert_array_equal(found, pixels[None] if pixels.ndim == 2 else pixels)


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_a_missing_decoder_is_named_by_the_transfer_syntax_and_the_extra(
    syntax: pydicom.uid.UID, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = compressed(SMOOTH, syntax)
    decoder = pydicom.pixels.get_decoder(syntax)
    monkeypatch.setattr(decoder, "_available", {})
    with pytest.raises(UsageError) as caught:
        read_dicom(data, name="x")
    assert str(caught.value) == (
        f"x: its pixels are coded as {syntax.name} ({syntax}), whose decoder is not installed; "
        "pip install 'interscan[dicom]'"
    )


def test_a_video_inside_dicom_is_named_by_its_transfer_syntax() -> None:
    header = pydicom.dcmread(io.BytesIO(compressed(SMOOTH, RLELossless)))
    header.file_meta.TransferSyntaxUID = pydicom.uid.MPEG4HP41
    sink = io.BytesIO()
    pydicom.dcmwrite(sink, header, enforce_file_format=True)
    with pytest.raises(ScanError, match=r"1\.2\.840\.10008\.1\.2\.4\.102\), which is not read; export") as caught:
        read_dicom(sink.getvalue(), name="x")
    assert "copy" not in str(caught.value)


def test_a_stream_that_promises_another_size_is_refused_before_it_is_decoded() -> None:
    data = bytearray(compressed(SMOOTH, JPEG2000Lossless))
    at = data.find(b"\xff\x4f\xff\x51")
    data[at + 12] = 245  # the height becomes four milliards
    assert code_of(bytes(data)) == "unreadable"


@pytest.mark.parametrize("syntax", [JPEGLSLossless, JPEG2000Lossless])
def test_a_damaged_stream_keeps_the_advice_to_copy_it_again(syntax: pydicom.uid.UID) -> None:
    data = compressed(SMOOTH[0], syntax)
    at = data.find(b"\xff\x4f\xff\x51" if syntax == JPEG2000Lossless else b"\xff\xd8\xff")
    with pytest.raises(ScanError, match="copy the file again") as caught:
        read_dicom(data[:at] + b"\0" * 8 + data[at + 8 :], name="x")
    assert caught.value.finding.code == "unreadable"


def deflated(body: bytes) -> bytes:
    """A file of the deflated syntax with anything behind its meta group."""
    plain = dicom(CLIP)
    sink = io.BytesIO()
    meta = pydicom.dcmread(io.BytesIO(plain)).file_meta
    meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    pydicom.filewriter.write_file_meta_info(sink, meta)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return plain[:132] + sink.getvalue() + packer.compress(body) + packer.flush()


def test_a_deflated_bomb_is_refused_before_it_fills_the_memory() -> None:
    bomb = deflated(bytes(2**26))
    assert len(bomb) < 2**17
    tracemalloc.start()
    try:
        with pytest.raises(ScanError, match="x: unpacks to more than 264144 bytes; export it uncompressed") as caught:
            read_dicom(bomb, name="x", max_voxels=1000)
        with pytest.raises(ScanError, match="unpacks to more than 264144 bytes"):
            read_header(io.BytesIO(bomb), name="x", max_voxels=1000)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.finding.code == "too_large"
    assert peak_bytes < 2**23


def test_a_deflated_file_within_its_bounds_is_read() -> None:
    plain = dicom(CLIP)
    start = pydicom.dcmread(io.BytesIO(plain)).file_meta.FileMetaInformationGroupLength + 144
    np.testing.assert_array_equal(read_dicom(deflated(plain[start:]), name="x"), CLIP)


@pytest.mark.parametrize("offsets", [(2**31,), (2**32 - 1, 0), (7, 7, 7)], ids=["far", "farthest", "odd"])
def test_a_false_table_of_offsets_is_a_finding(offsets: tuple[int, ...]) -> None:
    data = compressed(SMOOTH, RLELossless)
    at = data.index(b"\xfe\xff\x00\xe0", data.rindex(b"\xe0\x7f\x10\x00"))
    length = int.from_bytes(data[at + 4 : at + 8], "little")
    table = struct.pack(f"<{len(offsets)}I", *offsets)
    false = data[: at + 4] + struct.pack("<I", len(table)) + table + data[at + 8 + length :]
    assert code_of(false) == "unreadable"
