"""What of a scan is foreground: the grey value that parts it from air, its extent, and what is too bright to be any."""

import numpy as np
import numpy.typing as npt

from preprocess.errors import ScanError
from preprocess.grey_levels import WHOLE_RANGE, GreyLevels, GreyRange
from preprocess.types import Finding, Image

Millimetres = npt.NDArray[np.float64]
"""Three numbers in mm: right, anterior, superior."""


_HOT = 10.0
"""Fat and vessels are a few times as bright as the brain; ten times the brightest thousandth is no tissue."""


def hot_limit(levels: GreyLevels) -> float:
    """The grey value beyond which a voxel is hot and not tissue: ten times the 99.9th percentile above the lowest.

    Counted from the median, which is air or tissue, so that an offset does not matter; infinite where all voxels but a
    thousandth are alike.
    """
    middle, high = levels.percentile(50.0), levels.percentile(99.9)
    return middle + _HOT * (high - middle) if high > middle else float("inf")


def otsu_threshold(levels: GreyLevels) -> float:
    """The grey value that best separates head from background.

    Otsu 1979: the cut with the largest variance between the two classes, on a 256-bin histogram up to the 99.5th
    percentile, so that a few hot voxels do not eat the bins.
    """
    low, high = float(levels.values_V[0]), levels.percentile(99.5)
    if high <= low:
        return low
    edges = np.linspace(low, high, 257, dtype=levels.values_V.dtype)
    counts = levels.histogram(edges)
    # Bin numbers, not grey values: the variances differ by a constant factor only, and the cut is then the same bin
    # whatever the scan's unit.
    middles = np.arange(256) + 0.5
    weight_below = np.cumsum(counts, dtype=np.float64)
    weight_above = weight_below[-1] - weight_below
    sum_below = np.cumsum(counts * middles)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = sum_below / weight_below - (sum_below[-1] - sum_below) / weight_above
        between = np.nan_to_num(weight_below * weight_above * gap**2)
    return float(edges[1 + int(np.argmax(between))])


def require_foreground(levels: GreyLevels, threshold: float, *, min_fraction: float, name: str) -> None:
    """Refuse a scan of which too little is bright.

    Args:
        levels: the scan's grey values.
        threshold: grey value above which a voxel is foreground.
        min_fraction: smallest share of the voxels that were looked at.
        name: what the message calls the scan.

    Raises:
        ScanError: less than `min_fraction` of the voxels lie above the threshold.
    """
    fraction = levels.num_above(threshold) / levels.num_voxels
    if fraction < min_fraction:
        message = (
            f"{name}: {fraction:.1%} of the voxels are foreground, less than {min_fraction:.1%}; "
            "leave the scan out or lower quality.min_foreground"
        )
        raise ScanError(Finding("empty", message))


def foreground_box(image: Image, threshold: float, kept: GreyRange = WHOLE_RANGE) -> tuple[Millimetres, Millimetres]:
    """The foreground's extent in RAS+ mm: corners (3,), robust against specks (0.5 % trimmed at each side).

    Args:
        image: 3D, with at least one voxel of every second above the threshold.
        threshold: grey value above which a voxel is foreground, after `kept`.
        kept: what of the grey values is kept.
    """
    inside = np.argwhere(kept.of(image.voxels_XYZ[::2, ::2, ::2]) > threshold) * 2
    points_mm = inside @ image.affine[:3, :3].T + image.affine[:3, 3]
    low_mm, high_mm = np.percentile(points_mm, (0.5, 99.5), axis=0)
    return low_mm, high_mm
