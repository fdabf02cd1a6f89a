"""Bytes of a DICOM file in, pixels out, through pydicom (the extra `dicom`).

Only the elements that describe pixels are read: who was scanned, when and by whom stays in the file.
"""

import io
import struct
import warnings
import zlib
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from preprocess.codestreams import stream_size
from preprocess.dicom_zip import limit_bytes
from preprocess.errors import ScanError, UsageError
from preprocess.types import MAX_VOXELS, Finding

_MAX_VALUES = 2**28
"""As for volumes: a header that asks for more is a bad or hostile file."""
_DEFLATED = "1.2.840.10008.1.2.1.99"
"""Deflated Explicit VR: the whole file is packed, and its pixels are plain."""
_INFLATED_BYTES = 2**20
"""Unpacked at once where only the size of the whole is of interest."""
_PIXEL_ELEMENTS = [
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "FloatPixelData"),
    *("DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableData"),
    *("BluePaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableData"),
]
_DECODERS = {
    "1.2.840.10008.1.2.4.50": ("pillow", "gdcm"),
    "1.2.840.10008.1.2.4.51": ("pillow", "gdcm"),
    "1.2.840.10008.1.2.4.57": ("gdcm",),
    "1.2.840.10008.1.2.4.70": ("gdcm",),
    "1.2.840.10008.1.2.4.80": ("pyjpegls",),
    "1.2.840.10008.1.2.4.81": ("pyjpegls",),
    **{f"1.2.840.10008.1.2.4.{end}": ("pylibjpeg",) for end in (90, 91, 201, 202, 203)},
    "1.2.840.10008.1.2.5": ("pydicom",),
}
"""By transfer syntax, in the order they are tried: pydicom's own order may take GDCM for JPEG 2000, which ends the
process on a damaged stream (ADR 18)."""
PYDICOM_ERRORS = (
    *(ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, StopIteration, TypeError, ValueError),
    *(struct.error, zlib.error),
)
"""What it raises, beside errors of its own, for files that are not what they say, or coded as no decoder here reads;
StopIteration is a frame that a false table of offsets leaves empty."""


def read_dicom(data: bytes, *, name: str, max_voxels: int = MAX_VOXELS) -> np.ndarray:
    """Decode the pixels of a DICOM file.

    Args:
        data: the whole file.
        name: what messages call the scan.
        max_voxels: a deflated file may unpack to 2 bytes for each, and 256 KiB for its header.

    Returns:
        Stored values, shape (T, H, W) or, with colours as RGB, (T, H, W, 3); MONOCHROME1 turned so that high is bright.

    Raises:
        ScanError: `unreadable`, `truncated` or `too_large`.
        UsageError: pydicom, or the decoder of the file's transfer syntax, is not installed.
    """
    pydicom, pixels = require_pydicom(name)
    try:
        # pydicom warns of odd values and quotes them, and a value may be a name.
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            header = read_elements(io.BytesIO(data), _PIXEL_ELEMENTS, name=name, max_voxels=max_voxels)
            shape = [int(header.get(key) or 1) for key in ("NumberOfFrames", "Rows", "Columns", "SamplesPerPixel")]
            if np.prod(shape, dtype=np.float64) > _MAX_VALUES:
                raise _refusal("too_large", f"{name}: {shape} values are more than {_MAX_VALUES}; shorten or crop it")
            values = _decoded(pixels, header, shape, name)
            interpretation = str(header.PhotometricInterpretation)
            if interpretation == "PALETTE COLOR":
                values = _painted(pixels, values, header)
    except EOFError as error:
        raise _refusal("truncated", f"{name}: the DICOM file ends early; copy it again") from error
    except (*PYDICOM_ERRORS, pydicom.errors.BytesLengthException, pydicom.errors.InvalidDicomError) as error:
        reason = f"{type(error).__name__}; copy the file again, or export it uncompressed"
        raise _refusal("unreadable", f"{name}: no pixels can be decoded ({reason})") from error
    if shape[0] == 1 and values.ndim == (2 if shape[3] == 1 and interpretation != "PALETTE COLOR" else 3):
        values = values[None]
    return _inverted(values) if interpretation == "MONOCHROME1" else values


def read_elements(
    stream: BinaryIO, elements: Sequence[str], *, name: str, max_voxels: int, stop_before_pixels: bool = False
) -> Any:
    """Some elements of a DICOM file, as pydicom reads them; a deflated file is unpacked within bounds.

    Args:
        stream: the file, at its start.
        elements: keywords of those that are read.
        name: what messages call the file.
        max_voxels: as for `read_dicom`.
        stop_before_pixels: read the header alone.

    Raises:
        ScanError: `too_large`: a deflated file unpacks to more. What else pydicom raises is in `PYDICOM_ERRORS`, or
            derives from `EOFError`, `BytesLengthException` or `InvalidDicomError`.
    """
    import pydicom

    bounded = _BoundedStream(stream, name, limit_bytes(max_voxels, 1))
    return pydicom.dcmread(bounded, specific_tags=list(elements), stop_before_pixels=stop_before_pixels)


class _BoundedStream:
    """A file for pydicom, which asks for the rest of one at once only to unpack it, however much that gives.

    A deflated file of 200 MB may unpack to 200 GB. Looking here rather than at the transfer syntax holds whatever way
    pydicom came to believe that the file is deflated.
    """

    def __init__(self, stream: BinaryIO, name: str, most_bytes: int) -> None:
        self._stream = stream
        self._name = name
        self._most_bytes = most_bytes
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1) -> bytes:
        """As of any file.

        Raises:
            ScanError: `too_large`: what is left unpacks to more than it may.
            zlib.error: it is damaged.
        """
        found = self._stream.read(size)
        if size < 0:
            self._check_rest(found)
        return found

    def _check_rest(self, packed: bytes) -> None:
        inflating = zlib.decompressobj(-zlib.MAX_WBITS)
        num_bytes, rest = 0, packed
        while rest and not inflating.eof:
            num_bytes += len(inflating.decompress(rest, _INFLATED_BYTES))
            if num_bytes > self._most_bytes:
                message = f"{self._name}: unpacks to more than {self._most_bytes} bytes; export it uncompressed"
                raise _refusal("too_large", message)
            rest = inflating.unconsumed_tail


def _decoded(pixels: Any, header: Any, shape: list[int], name: str) -> np.ndarray:
    """The pixels by the first installed decoder of the file's transfer syntax."""
    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_compressed or str(syntax) == _DEFLATED:
        return np.asarray(pixels.pixel_array(header))
    said = f"{name}: its pixels are coded as {syntax.name} ({syntax})"
    decoders = _DECODERS.get(str(syntax))
    if decoders is None:
        # A video inside DICOM, or a syntax that no library here knows.
        raise _refusal("unreadable", f"{said}, which is not read; export it uncompressed, or a video as .mp4")
    there = [one for one in decoders if one in pixels.get_decoder(syntax).available_plugins]
    if not there:
        raise UsageError(f"{said}, whose decoder is not installed; pip install 'interscan[dicom]'")
    _check_sizes(header, shape)
    for plugin in there:
        if plugin == "gdcm":
            _check_bits(header, said)
        try:
            return np.asarray(pixels.pixel_array(header, decoding_plugin=plugin))
        except PYDICOM_ERRORS:  # Pillow reads no 12 bit
            if plugin == there[-1]:
                raise
    raise AssertionError("at least one decoder is there")


def _check_bits(header: Any, said: str) -> None:
    """GDCM ends the process over values of other widths than 8 bits in 8, or any number in 16."""
    allocated, stored = int(header.BitsAllocated), int(header.BitsStored)
    if allocated == 16 or (allocated, stored) == (8, 8):
        return
    message = f"{said} with {stored} of {allocated} bits a value, expected 8 of 8, or 16; copy the file again"
    raise _refusal("unreadable", message)


def _check_sizes(header: Any, shape: list[int]) -> None:
    """Compare each compressed frame's own size with the header's.

    The decoder of JPEG 2000 asks for memory by it before it sees an end, and GDCM writes past its own memory where a
    JPEG has other pixels or more bits than the header, which ends the process.

    Raises:
        ValueError: they differ, so one of them is damaged.
    """
    from pydicom.encaps import generate_frames

    tables = [header.get(name) for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
    # The frames that are decoded, not those that the other table would give.
    offsets = None if None in tables else tuple(tables)
    for frame in generate_frames(header.PixelData, number_of_frames=shape[0], extended_offsets=offsets):
        size = stream_size(frame)
        if size is None:
            continue
        if [size.rows, size.columns, size.colours] != shape[1:] or not 1 <= size.bits <= header.BitsAllocated:
            raise ValueError("the stream's size is not the header's")


def _painted(pixels: Any, values: np.ndarray, header: Any) -> np.ndarray:
    """Colours of a palette, 8 bit: a palette of 16 bit holds the same colours times 257."""
    colours = np.asarray(pixels.apply_color_lut(values, header))[..., :3]
    return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours


def _inverted(values: np.ndarray) -> np.ndarray:
    """Dark for bright within what the type, or for wide types the values, span."""
    if values.dtype == np.uint8:
        return np.asarray(255 - values, dtype=np.uint8)
    return np.asarray(values.max() - values.astype(np.float64))


def require_pydicom(name: str) -> tuple[Any, Any]:
    """The modules pydicom and pydicom.pixels.

    Args:
        name: what messages call the file.

    Raises:
        UsageError: it is not installed; the line names the extra.
    """
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        message = f"{name}: DICOM files are read by pydicom, which is not installed; pip install 'interscan[dicom]'"
        raise UsageError(message) from error
    return pydicom, pydicom.pixels


def _refusal(code: str, message: str) -> ScanError:
    return ScanError(Finding(code, message))
