"""Scans spoilt on purpose, to measure what an artefact's checks flag: pure functions of a volume, without chance.

Each takes brightness (D, H, W) in [0, 1] with axes RAS+ and the edge of a voxel in mm, and gives as much back.
"""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

from preprocess.types import FloatArray

Corruption = Callable[[FloatArray, float], FloatArray]

_FWHM_TO_SIGMA = 1.0 / 2.3548


def noise(volume_DHW: FloatArray, spacing_mm: float) -> FloatArray:  # noqa: ARG001
    """Uniform noise and no head."""
    return np.random.default_rng(0).random(volume_DHW.shape, dtype=np.float32)


def shuffled(volume_DHW: FloatArray, spacing_mm: float) -> FloatArray:  # noqa: ARG001
    """The same voxels in another order."""
    return np.random.default_rng(0).permutation(volume_DHW.ravel()).reshape(volume_DHW.shape)


def upside_down(volume_DHW: FloatArray, spacing_mm: float) -> FloatArray:  # noqa: ARG001
    """Superior and inferior exchanged."""
    return volume_DHW[:, :, ::-1]


def back_to_front(volume_DHW: FloatArray, spacing_mm: float) -> FloatArray:  # noqa: ARG001
    """Anterior and posterior exchanged."""
    return volume_DHW[:, ::-1]


def mirrored(volume_DHW: FloatArray, spacing_mm: float) -> FloatArray:  # noqa: ARG001
    """Left and right exchanged, which nobody can tell by looking: not to be flagged."""
    return volume_DHW[::-1]


def half_empty(volume_DHW: FloatArray, spacing_mm: float) -> FloatArray:  # noqa: ARG001
    """The left half only."""
    half_DHW = volume_DHW.copy()
    half_DHW[len(half_DHW) // 2 :] = 0
    return half_DHW


def inverted(volume_DHW: FloatArray, spacing_mm: float) -> FloatArray:  # noqa: ARG001
    """Black and white exchanged."""
    return 1 - volume_DHW


def blurred_3_mm(volume_DHW: FloatArray, spacing_mm: float) -> FloatArray:
    """Smoothed by a Gaussian of 3 mm full width at half maximum."""
    smooth_DHW: FloatArray = gaussian_filter(volume_DHW, 3.0 * _FWHM_TO_SIGMA / spacing_mm)
    return smooth_DHW


def salt_20_percent(volume_DHW: FloatArray, spacing_mm: float) -> FloatArray:  # noqa: ARG001
    """A fifth of the voxels white."""
    salted_DHW = volume_DHW.copy()
    salted_DHW[np.random.default_rng(0).random(volume_DHW.shape) < 0.2] = 1
    return salted_DHW


def shifted_20_mm(volume_DHW: FloatArray, spacing_mm: float) -> FloatArray:
    """Moved up by 20 mm; what leaves the box is lost."""
    num = max(1, round(20.0 / spacing_mm))
    moved_DHW = np.zeros_like(volume_DHW)
    moved_DHW[:, :, num:] = volume_DHW[:, :, :-num]
    return moved_DHW


def slices_3_9_mm(volume_DHW: FloatArray, spacing_mm: float) -> FloatArray:
    """Acquired in axial slices of 3.9 mm and interpolated back: each slice is the mean over its thickness."""
    thickness = 3.9 / spacing_mm
    count = volume_DHW.shape[2]
    if thickness <= 1:
        raise ValueError(f"voxels of {spacing_mm:g} mm are no finer than slices of 3.9 mm")
    num_slices = int(count / thickness)
    ends = (count - num_slices * thickness) / 2 + np.arange(num_slices + 1) * thickness
    # The integral from the first voxel on, linear within a voxel.
    total_DHN = np.concatenate([np.zeros_like(volume_DHW[:, :, :1]), np.cumsum(volume_DHW, axis=2)], axis=2)
    slices_DHS = np.diff(_along_last(total_DHN, ends), axis=2) / np.float32(thickness)
    # Differences of large sums may miss 0 and 1 by their last digits.
    return _along_last(slices_DHS, (np.arange(count) + 0.5 - ends[0]) / thickness - 0.5).clip(0, 1)


def flair_like(volume_DHW: FloatArray, spacing_mm: float) -> FloatArray:  # noqa: ARG001
    """CSF dark and grey matter brighter than white matter, as in FLAIR; the levels are those of a T1w head's middle."""
    axes = [np.linspace(-1.0, 1.0, edge) ** 2 for edge in volume_DHW.shape]
    middle = volume_DHW[axes[0][:, None, None] + axes[1][:, None] + axes[2] <= 0.36]
    csf, grey, white = np.maximum.accumulate(np.percentile(middle, (5, 40, 85)) + np.array([0.0, 1e-3, 2e-3]))
    changed_DHW: FloatArray = np.interp(volume_DHW, (0.0, csf, grey, white, 1.01), (0.0, 0.1, 0.9, 0.55, 0.45)).astype(
        np.float32
    )
    return changed_DHW


CORRUPTIONS: dict[str, Corruption] = {
    one.__name__: one
    for one in (
        noise,
        shuffled,
        upside_down,
        back_to_front,
        half_empty,
        inverted,
        blurred_3_mm,
        salt_20_percent,
        shifted_20_mm,
        slices_3_9_mm,
        flair_like,
        mirrored,
    )
}
"""By name; all but `mirrored` are to be flagged."""
_SHOWN_BELOW_MM = {"blurred_3_mm": 3.0, "slices_3_9_mm": 3.9}


def corruptions(spacing_mm: float) -> dict[str, Corruption]:
    """Those that show at this edge of a voxel: coarser voxels are blurred as much already."""
    return {
        kind: corrupt for kind, corrupt in CORRUPTIONS.items() if spacing_mm < _SHOWN_BELOW_MM.get(kind, float("inf"))
    }


def _along_last(values_DHN: FloatArray, positions: np.ndarray) -> FloatArray:
    """Linear interpolation along the last axis at positions counted in elements; beyond the ends the end's value."""
    inside = np.clip(positions, 0, values_DHN.shape[2] - 1)
    lower = np.minimum(inside.astype(np.int64), max(values_DHN.shape[2] - 2, 0))
    upper = np.minimum(lower + 1, values_DHN.shape[2] - 1)
    share = (inside - lower).astype(np.float32)
    mixed_DHN: FloatArray = values_DHN[:, :, lower] * (1 - share) + values_DHN[:, :, upper] * share
    return mixed_DHN
