"""What compressed frames say of themselves, against the encoders that wrote them; and what would end GDCM's process."""

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate_extended, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from preprocess.codestreams import StreamSize, stream_size
from preprocess.dicom import read_dicom
from preprocess.errors import ScanError
from tests.support.clips import dicom, moving_block
from tests.support.jpegs import as_dicom, baseline, lossless

PLANE = moving_block(1, (48, 64))[0]


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_the_size_is_what_was_encoded(syntax: pydicom.uid.UID, kind: type[np.generic]) -> None:
    read = pydicom.dcmread(io.BytesIO(dicom(moving_block(2, (48, 64)).astype(kind))))
    read.compress(syntax, generate_instance_uid=False)
    bits = np.dtype(kind).itemsize * 8

    sizes = [stream_size(frame) for frame in generate_frames(read.PixelData, number_of_frames=2)]

    assert sizes == [StreamSize(48, 64, 1, bits)] * 2


def test_a_jpeg_of_pillow_has_its_size_grey_and_in_colour() -> None:
    assert stream_size(baseline(PLANE)) == StreamSize(48, 64, 1, 8)
    assert stream_size(baseline(np.stack([PLANE] * 3, axis=-1))) == StreamSize(48, 64, 3, 8)


def test_other_streams_have_none() -> None:
    read = pydicom.dcmread(io.BytesIO(dicom(PLANE[None])))
    read.compress(RLELossless, generate_instance_uid=False)
    assert stream_size(next(generate_frames(read.PixelData, number_of_frames=1))) is None
    assert stream_size(b"") is None


ODD = {
    "another JFIF": {"jfif": b"JFIF\0\x02\x01\0\0\1\0\1\0\0"},
    "an older JFIF": {"jfif": b"JFIF\0\x00\x01\0\0\1\0\1\0\0"},
    "bytes between segments": {"before": b"\0\0"},
    "a stuffed byte between segments": {"before": b"\xff\0"},
    "more rows": {"sof": struct.pack(">BHHB", 8, 4800, 64, 1) + b"\x01\x11\x00"},
    "more bits": {"sof": struct.pack(">BHHB", 72, 48, 64, 1) + b"\x01\x11\x00"},
}


def test_a_sound_lossless_jpeg_is_decoded() -> None:
    values = read_dicom(as_dicom([lossless()]), name="x")

    assert values.shape == (1, 48, 64)
    assert set(np.unique(values)) == {128}  # the first prediction, half of the range (H.1.2.1)


FILES = {kind: as_dicom([lossless(**odd)]) for kind, odd in ODD.items()} | {
    "values of 64 bits": as_dicom([lossless()], BitsAllocated=64),
    "values of 2 bits in 8": as_dicom([lossless()], BitsStored=2),
}


@pytest.mark.parametrize("kind", sorted(FILES))
def test_what_would_end_the_process_is_refused(kind: str, tmp_path: Path) -> None:
    """In a process of its own, so that a fault is told by one test and not by the end of all."""
    file = tmp_path / "a.dcm"
    file.write_bytes(FILES[kind])
    code = (
        "import sys, pathlib\nfrom preprocess.dicom import read_dicom\nfrom preprocess.errors import ScanError\n"
        "try:\n    read_dicom(pathlib.Path(sys.argv[1]).read_bytes(), name='x')\n"
        "except ScanError as error:\n    print(error.finding.code)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, cwd=root, check=False
    )

    assert (done.returncode, done.stdout) == (0, "unreadable\n")


@pytest.mark.parametrize("cut", [2, 3, 4, 10, 21, 24, 28])
def test_a_stream_that_ends_in_its_first_segments_is_refused(cut: int) -> None:
    with pytest.raises((ValueError, struct.error)):
        stream_size(lossless()[:cut])
    with pytest.raises(ScanError):
        read_dicom(as_dicom([lossless()[:cut]]), name="x")


def test_two_sizes_are_refused() -> None:
    stream = lossless()
    at = stream.index(b"\xff\xc3")
    with pytest.raises(ValueError, match="2 sizes"):
        stream_size(stream[:at] + stream[at : at + 13] + stream[at:])


def with_extended_offsets(pixels: bytes, offsets: list[int], lengths: list[int]) -> bytes:
    read = pydicom.dcmread(io.BytesIO(as_dicom([b"\0" * 8] * len(offsets), JPEG2000Lossless)))
    read.PixelData = pixels
    read.ExtendedOffsetTable = struct.pack(f"<{len(offsets)}Q", *offsets)
    read.ExtendedOffsetTableLengths = struct.pack(f"<{len(lengths)}Q", *lengths)
    sink = io.BytesIO()
    pydicom.dcmwrite(sink, read, enforce_file_format=True)
    return sink.getvalue()


def test_the_frames_that_are_looked_at_are_those_that_are_decoded() -> None:
    clip = moving_block(2, (48, 64))
    read = pydicom.dcmread(io.BytesIO(dicom(clip)))
    read.compress(JPEG2000Lossless, generate_instance_uid=False)
    frames = list(generate_frames(read.PixelData, number_of_frames=2))
    pixels, offsets, lengths = encapsulate_extended(frames)
    offset_list = list(struct.unpack("<2Q", offsets))
    length_list = list(struct.unpack("<2Q", lengths))
    np.testing.assert_array_equal(read_dicom(with_extended_offsets(pixels, offset_list, length_list), name="x"), clip)
    huge = bytearray(frames[1])
    at = huge.find(b"\xff\x4f\xff\x51")
    huge[at + 12] = 245  # the height becomes four milliards
    pixels, offsets, lengths = encapsulate_extended([frames[0], bytes(huge)])
    second = with_extended_offsets(pixels, [struct.unpack("<2Q", offsets)[1]], [len(huge)])

    with pytest.raises(ScanError) as caught:
        read_dicom(second, name="x")
    assert caught.value.finding.code == "unreadable"
