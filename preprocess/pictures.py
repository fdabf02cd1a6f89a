"""Bytes of a PNG or JPEG file in, pixels out, through Pillow; turned upright as its orientation tag says."""

import io
import struct
import warnings

import numpy as np
from PIL import Image as Pillow
from PIL import ImageOps

from preprocess.errors import ScanError
from preprocess.types import Finding

_MAX_PIXELS = 2**26
"""8,192 x 8,192, more than any fundus camera; a header that asks for more is a bad or hostile file."""


def read_picture(data: bytes, *, name: str) -> np.ndarray:
    """Decode a picture.

    Args:
        data: the whole file.
        name: what messages call the scan.

    Returns:
        Shape (H, W) for grey and (H, W, 3) for coloured pictures; uint8, or the wider type of a grey one. Transparency
        is dropped.

    Raises:
        ScanError: `unreadable` or `too_large`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            # Tags that Pillow finds odd are none of ours, and are quoted.
            warnings.simplefilter("ignore", UserWarning)
            with Pillow.open(io.BytesIO(data), formats=("PNG", "JPEG")) as picture:
                if picture.width * picture.height > _MAX_PIXELS:
                    raise _too_large(name)
                picture.load()
                upright = ImageOps.exif_transpose(picture)
                if upright.mode == "1":
                    upright = upright.convert("L")
                is_grey = upright.mode in ("L", "I", "F") or upright.mode.startswith("I;16")
                return np.asarray(upright if is_grey else upright.convert("RGB"))
    except (Pillow.DecompressionBombWarning, Pillow.DecompressionBombError) as error:
        raise _too_large(name) from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, OverflowError) as error:
        # What Pillow raises for damaged files of these two formats; its messages may name memory addresses.
        reason = f"{name}: no picture can be decoded ({type(error).__name__}); copy the file again"
        raise ScanError(Finding("unreadable", reason)) from error


def _too_large(name: str) -> ScanError:
    return ScanError(Finding("too_large", f"{name}: more than {_MAX_PIXELS} pixels; resize the picture"))
