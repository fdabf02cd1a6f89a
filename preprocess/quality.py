"""What an image must fulfil to enter a store, checked before it is resampled; findings, never exceptions."""

import numpy as np

from preprocess.grey_levels import GreyLevels
from preprocess.recipe import Quality
from preprocess.types import Finding, Image

_FAR_MM, _LOST_MM = 2000.0, 1e6
"""From the middle of the scan to the origin: beyond the length of a scanner's table a remark, and beyond a kilometre no
place at all, since places within the scan are lost in rounding."""


def check_image(image: Image, limits: Quality, *, name: str) -> list[Finding]:
    """All findings of an image, most severe first.

    Args:
        image: as read.
        limits: the recipe's limits.
        name: what messages call the scan.

    Returns:
        Findings; those with `leaves_out` keep the scan out of the store.
    """
    voxels = image.voxels_XYZ
    if voxels.ndim != 3:
        message = f"{name}: {voxels.ndim}D, shape {voxels.shape}, expected 3D; split the series into single volumes"
        return [Finding("not_3d", message)]
    findings = [*_geometry(image, limits, name), *_values(image, name), *image.findings]
    return sorted(findings, key=lambda finding: not finding.leaves_out)


def _geometry(image: Image, limits: Quality, name: str) -> list[Finding]:
    findings = []
    coarsest = max(image.spacing_mm)
    if coarsest > limits.max_spacing_mm:
        findings.append(
            Finding(
                "too_coarse",
                f"{name}: voxel spacing {coarsest:.1f} mm is coarser than {limits.max_spacing_mm:.1f} mm; "
                "leave the scan out or raise quality.max_spacing_mm",
            )
        )
    extent = min(edge * count for edge, count in zip(image.spacing_mm, image.voxels_XYZ.shape, strict=True))
    if extent < limits.min_extent_mm:
        findings.append(
            Finding(
                "too_small",
                f"{name}: field of view {extent:.0f} mm is shorter than {limits.min_extent_mm:.0f} mm; "
                "leave the scan out or lower quality.min_extent_mm",
            )
        )
    return [*findings, *_distance(image, name)]


def _distance(image: Image, name: str) -> list[Finding]:
    middle = np.array([*((edge - 1) / 2 for edge in image.voxels_XYZ.shape), 1.0])
    away_mm = float(np.linalg.norm((image.affine @ middle)[:3]))
    message = f"{name}: its middle lies {away_mm:.3g} mm from the origin"
    if not away_mm <= _LOST_MM:
        return [Finding("bad_geometry", f"{message}, more than {_LOST_MM:g} mm; fix the header")]
    if away_mm > _FAR_MM:
        message += ", further than a scanner reaches; resampled where it lies, export it again"
        return [Finding("origin_far", message, leaves_out=False)]
    return []


def _values(image: Image, name: str) -> list[Finding]:
    voxels = image.voxels_XYZ
    lowest, highest = float(voxels.min()), float(voxels.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        num_bad = voxels.size - np.count_nonzero(np.isfinite(voxels))
        return [Finding("non_finite", f"{name}: {num_bad} voxels are NaN or infinite; export the scan again")]
    if lowest == highest:
        return [Finding("empty", f"{name}: every voxel is {lowest:g}; export the scan again")]
    if image.dtype == "uint16" and highest > 65_000:
        # Negative values stored as unsigned wrap to just below 65,536 while tissue stays far lower, and next to nothing
        # lies between. In air that rings about zero half the voxels may have wrapped: percentiles of all say little.
        levels = GreyLevels.of(voxels[::2, ::2, ::2])
        if levels.num_within(16_384, 49_152) < 0.001 * levels.num_voxels:
            tissue = float(np.max(levels.values_V, initial=0.0, where=levels.values_V < 16_384))
            return [
                Finding(
                    "wrapped",
                    f"{name}: maximum {highest:.0f} and nothing between {tissue:.0f} and there in uint16: "
                    "negative values wrapped round; export the scan as int16",
                )
            ]
    return []
