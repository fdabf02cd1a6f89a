"""Bytes of a DICOM file in, pixels out, through pydicom (the extra `dicom`).

Only the elements that describe pixels are read: who was scanned, when and by whom stays in the file.
"""

import io
import struct
import warnings
import zlib
from typing import Any

import numpy as np

from preprocess.errors import ScanError, UsageError
from preprocess.types import Finding

_MAX_VALUES = 2**28
"""As for volumes: a header that asks for more is a bad or hostile file."""
_PIXEL_ELEMENTS = [
    *("SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "FloatPixelData"),
    *("DoubleFloatPixelData", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableData"),
    *("BluePaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableData"),
]
_PYDICOM_ERRORS = (
    *(AttributeError, IndexError, KeyError, NotImplementedError, OSError, RuntimeError, TypeError, ValueError),
    *(OverflowError, struct.error, zlib.error),
)
"""What it raises, beside errors of its own, for files that are not what they say, or coded as no decoder here reads."""


def read_dicom(data: bytes, *, name: str) -> np.ndarray:
    """Decode the pixels of a DICOM file.

    Args:
        data: the whole file.
        name: what messages call the scan.

    Returns:
        Stored values, shape (T, H, W) or, with colours as RGB, (T, H, W, 3); MONOCHROME1 turned so that high is bright.

    Raises:
        ScanError: `unreadable`, `truncated` or `too_large`.
        UsageError: pydicom is not installed.
    """
    pydicom, pixels = _pydicom(name)
    try:
        # pydicom warns of odd values and quotes them, and a value may be a name.
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            header = pydicom.dcmread(io.BytesIO(data), specific_tags=_PIXEL_ELEMENTS)
            shape = [int(header.get(key) or 1) for key in ("NumberOfFrames", "Rows", "Columns", "SamplesPerPixel")]
            if np.prod(shape, dtype=np.float64) > _MAX_VALUES:
                raise _refusal("too_large", f"{name}: {shape} values are more than {_MAX_VALUES}; shorten or crop it")
            values = np.asarray(pixels.pixel_array(header))
            interpretation = str(header.PhotometricInterpretation)
            if interpretation == "PALETTE COLOR":
                values = _painted(pixels, values, header)
    except EOFError as error:
        raise _refusal("truncated", f"{name}: the DICOM file ends early; copy it again") from error
    except (*_PYDICOM_ERRORS, pydicom.errors.BytesLengthException, pydicom.errors.InvalidDicomError) as error:
        reason = f"{type(error).__name__}; copy the file again, or export it uncompressed"
        raise _refusal("unreadable", f"{name}: no pixels can be decoded ({reason})") from error
    if shape[0] == 1 and values.ndim == (2 if shape[3] == 1 and interpretation != "PALETTE COLOR" else 3):
        values = values[None]
    return _inverted(values) if interpretation == "MONOCHROME1" else values


def _painted(pixels: Any, values: np.ndarray, header: Any) -> np.ndarray:
    """Colours of a palette, 8 bit: a palette of 16 bit holds the same colours times 257."""
    colours = np.asarray(pixels.apply_color_lut(values, header))[..., :3]
    return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else colours


def _inverted(values: np.ndarray) -> np.ndarray:
    """Dark for bright within what the type, or for wide types the values, span."""
    if values.dtype == np.uint8:
        return np.asarray(255 - values, dtype=np.uint8)
    return np.asarray(values.max() - values.astype(np.float64))


def _pydicom(name: str) -> tuple[Any, Any]:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError as error:
        message = f"{name}: DICOM files are read by pydicom, which is not installed; pip install 'interscan[dicom]'"
        raise UsageError(message) from error
    return pydicom, pydicom.pixels


def _refusal(code: str, message: str) -> ScanError:
    return ScanError(Finding(code, message))
