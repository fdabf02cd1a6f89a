"""Pictures as Pillow writes them: pixels of every mode, upright, and every damage a finding."""

import io
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from preprocess.errors import ScanError
from preprocess.pictures import read_picture
from tests.support.clips import picture

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
COLOURED = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)


def code_of(data: bytes) -> str:
    with pytest.raises(ScanError, match=r"^anna_fundus: ") as caught:
        read_picture(data, name="anna_fundus")
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)
    return caught.value.finding.code


@pytest.mark.parametrize("pixels", [GREY, COLOURED, GREY.astype(np.uint16) * 200], ids=["grey", "colours", "16 bit"])
def test_a_png_comes_out_as_it_went_in(pixels: np.ndarray) -> None:
    found = read_picture(picture(pixels), name="x")
    np.testing.assert_array_equal(found, pixels)
    assert found.ndim == pixels.ndim


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "1"])
def test_other_modes_are_what_pillow_makes_of_them(mode: str) -> None:
    data = picture(COLOURED, mode=mode)
    mode_read = "L" if mode == "1" else "RGB"
    np.testing.assert_array_equal(
        read_picture(data, name="x"), np.asarray(Pillow.open(io.BytesIO(data)).convert(mode_read))
    )


def test_a_jpeg_is_close_and_cmyk_is_read() -> None:
    smooth = np.broadcast_to(np.linspace(20, 230, 64)[None, :, None], (48, 64, 3)).astype(np.uint8)
    assert np.abs(read_picture(picture(smooth, "JPEG", quality=95), name="x").astype(int) - smooth).max() < 6
    assert read_picture(picture(smooth, "JPEG", mode="CMYK"), name="x").shape == (48, 64, 3)


def test_a_picture_taken_sideways_is_turned_upright() -> None:
    tags = Pillow.Exif()
    tags[0x0112] = 6  # EXIF 2.3: row 0 is the right side, so turn clockwise to show it
    np.testing.assert_array_equal(read_picture(picture(GREY, exif=tags), name="x"), np.rot90(GREY, -1))


def test_damage_and_other_formats_are_findings() -> None:
    for file_format in ("PNG", "JPEG"):
        data = picture(COLOURED, file_format)
        assert code_of(data[: len(data) // 2]) == "unreadable"
        assert code_of(data[:30]) == "unreadable"
    assert code_of(picture(GREY, "TIFF")) == "unreadable"
    assert code_of(b"") == "unreadable"


def _png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds one grey line."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x00\x00\x00\x00"
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 10)), (b"IEND", b""))
    chunks = [
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big") for kind, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("edge", [8193, 10_000, 60_000])
def test_a_header_that_promises_a_giant_is_refused_before_it_is_unpacked(edge: int) -> None:
    assert code_of(_png_header(edge, edge)) == "too_large"


@given(st.integers(0, 2000), st.integers(0, 255), st.sampled_from(["PNG", "JPEG"]))
@settings(max_examples=300, deadline=None)
def test_no_changed_byte_raises_anything_but_a_finding(position: int, value: int, file_format: str) -> None:
    data = bytearray(picture(COLOURED, file_format))
    data[position % len(data)] = value
    try:
        read_picture(bytes(data), name="x")
    except ScanError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message
