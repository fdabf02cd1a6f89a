"""What a compressed frame says of its own size, read from its first markers and nothing decoded.

Decoders take memory by it, or write past what they took where it differs from the header's. GDCM ends the process over
whatever libjpeg warns of before the first scan: bytes between segments, versions of JFIF and Adobe that there are not.
Those are refused too. Sources: ISO/IEC 10918-1,
B.2.2 (JPEG), ISO/IEC 14495-1, C.2.2 (JPEG-LS), ISO/IEC 15444-1, A.5.1 (JPEG 2000).
"""

import struct
from dataclasses import dataclass

_JPEG_START = b"\xff\xd8"
_JPEG_2000_START = b"\xff\x4f\xff\x51"
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
"""Markers without a segment: TEM, restarts and the start."""
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7}) - {0xC4, 0xC8, 0xCC}
"""Starts of a frame, that of JPEG-LS too; DHT, JPG and DAC lie among them."""
_SCAN, _END, _APP0, _APP14 = 0xDA, 0xD9, 0xE0, 0xEE


@dataclass(frozen=True, slots=True)
class StreamSize:
    """The size of one frame.

    Attributes:
        rows: pixels from top to bottom.
        columns: pixels from left to right.
        colours: samples of a pixel.
        bits: width of a sample.
    """

    rows: int
    columns: int
    colours: int
    bits: int


def stream_size(frame: bytes) -> StreamSize | None:
    """The size that a JPEG, JPEG-LS or JPEG 2000 stream states; None for any other stream.

        stream_size(frame)  # StreamSize(rows=384, columns=384, colours=1, bits=16)

    Args:
        frame: the whole stream.

    Raises:
        ValueError: a JPEG or JPEG-LS stream that states none, or several, or that libjpeg would warn of.
        struct.error: the stream ends within it.
    """
    at = frame.find(_JPEG_2000_START)
    if at >= 0:
        right, low, left, top = struct.unpack_from(">4I", frame, at + 8)
        colours, depth = struct.unpack_from(">HB", frame, at + 40)
        return StreamSize(low - top, right - left, colours, (depth & 0x7F) + 1)
    return _jpeg_size(frame) if frame.startswith(_JPEG_START) else None


def _jpeg_size(frame: bytes) -> StreamSize:
    found = []
    at = 2
    while True:
        marker, at = _marker(frame, at)
        if marker in (_SCAN, _END):
            break
        if marker in _ALONE:
            continue
        (length,) = struct.unpack_from(">H", frame, at)
        segment = frame[at + 2 : at + length]
        if length < 2 or len(segment) < length - 2:
            raise ValueError("a segment that ends early")
        if marker in _FRAMES:
            bits, rows, columns, colours = struct.unpack_from(">BHHB", segment)
            found.append(StreamSize(rows, columns, colours, bits))
        is_odd_jfif = marker == _APP0 and segment[:5] == b"JFIF\0" and segment[5:6] != b"\x01"
        is_odd_adobe = marker == _APP14 and segment[:5] == b"Adobe" and segment[11:12] > b"\x02"
        if is_odd_jfif or is_odd_adobe:
            raise ValueError("a version that there is not")
        at += length
    if len(found) != 1:
        raise ValueError(f"{len(found)} sizes in a JPEG stream")
    return found[0]


def _marker(frame: bytes, at: int) -> tuple[int, int]:
    """The marker that stands there, and where it ends; any number of 0xFF may stand in front of it (B.1.1.2)."""
    if frame[at : at + 1] != b"\xff":
        raise ValueError("bytes between two segments")
    while frame[at : at + 1] == b"\xff":
        at += 1
    if at == len(frame) or frame[at] == 0:  # 0xFF00 is a byte of pixels
        raise ValueError("no marker")
    return frame[at], at + 1
