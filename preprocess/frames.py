"""Pictures of any size and type to pictures of one size in [0, 1]: pure arithmetic, the same for clips and images.

Which pictures: at equal steps over the whole recording. Brightness: uint8 as it is; other types have no known range,
so their lowest value becomes 0 and their highest 1. Size: the whole picture is fitted in with its aspect kept, resized
with antialiasing (bilinear weights as wide as what one pixel averages), and black is put around it, half on each side.
"""

from collections.abc import Sequence

import numpy as np
import torch

from preprocess.errors import ScanError
from preprocess.types import Finding, FloatArray

MIN_FRAMES = 8
"""Fewest frames that show enough of a breath; a recipe that keeps fewer accepts as many as it keeps."""
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Red, green and blue to grey: ITU-R BT.601, as Pillow and ffmpeg have it."""


def choose_frames(num_found: int, num_frames: int) -> list[int]:
    """Indices of the frames that stand for a recording: the middle of each of `num_frames` equal parts of it.

    Where the recording has fewer frames than that, the nearest frame is repeated.
    """
    return [(2 * part + 1) * num_found // (2 * num_frames) for part in range(num_frames)]


def pick_frames(num_found: int, num_frames: int, *, name: str) -> list[int]:
    """As `choose_frames`, for a recording that is long enough.

    Raises:
        ScanError: `too_few_frames`.
    """
    limit = min(MIN_FRAMES, num_frames)
    if num_found < limit:
        message = f"{name}: {num_found} frames, fewer than {limit}; record a longer clip, or leave this one out"
        raise ScanError(Finding("too_few_frames", message))
    return choose_frames(num_found, num_frames)


def to_unit(pixels: np.ndarray, *, name: str) -> FloatArray:
    """Grey values in [0, 1]: uint8 divided by 255, other types from their lowest value to their highest.

    Raises:
        ScanError: `empty` where all pixels are alike, `non_finite` where one is NaN or infinite.
    """
    lowest, highest = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        num_bad = int(pixels.size - np.count_nonzero(np.isfinite(pixels)))
        message = f"{name}: {num_bad} pixels are NaN or infinite; export the file again"
        raise ScanError(Finding("non_finite", message))
    if lowest == highest:
        raise ScanError(Finding("empty", f"{name}: every pixel is {lowest:g}; export the file again"))
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, dtype=np.float32) / np.float32(255)
    # float64: the difference of two float32 may not fit one, nor that of two uint64 be exact.
    unit = (pixels.astype(np.float64) - lowest) / (highest - lowest)
    return np.clip(unit, 0.0, 1.0).astype(np.float32)


def to_channels(picture: FloatArray, channels: int) -> FloatArray:
    """A grey (H, W) or coloured (H, W, 3) picture as (channels, H, W)."""
    if channels == 1:
        return (picture @ _LUMA if picture.ndim == 3 else picture)[None]
    coloured = picture if picture.ndim == 3 else np.repeat(picture[..., None], channels, axis=-1)
    return np.ascontiguousarray(np.moveaxis(coloured, -1, 0))


def fit(picture_CHW: FloatArray, size: Sequence[int], *, pixel_aspect: float = 1.0) -> FloatArray:
    """The whole picture in the middle of a black one, as large as fits, aspect kept.

    Args:
        picture_CHW: in [0, 1].
        size: height and width wanted.
        pixel_aspect: width of a pixel over its height; old video formats have pixels that are not square.

    Returns:
        Shape (C, *size), float32 in [0, 1].
    """
    channels, height, width = picture_CHW.shape
    scale = min(size[0] / height, size[1] / (width * pixel_aspect))
    inner = (
        min(size[0], max(1, round(height * scale))),
        min(size[1], max(1, round(width * pixel_aspect * scale))),
    )
    pixels = torch.from_numpy(np.ascontiguousarray(picture_CHW))[None]
    resized = torch.nn.functional.interpolate(pixels, size=inner, mode="bilinear", antialias=True, align_corners=False)
    framed = np.zeros((channels, *size), dtype=np.float32)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    # Weights add up to 1 but for rounding.
    framed[:, top : top + inner[0], left : left + inner[1]] = resized[0].clamp(0, 1).numpy()
    return framed
