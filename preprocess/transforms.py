"""The deterministic way from an image to a volume, the same for the batch job and the service.

One resampling with trilinear weights from the scan's own voxels into an axis-aligned RAS+ box of fixed size in
millimetres. Axes finer than the grid are smoothed first (Gaussian, so that a structure thinner than a grid voxel is
averaged, not sampled). Intensities: a low percentile of the scan becomes 0 and a high percentile of the foreground in
the middle of the head becomes 1, or the tissues of a T1w head lie at fixed values (`tissue.py`); then the stored type.
"""

from dataclasses import replace

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import SpatialResample
from scipy.ndimage import gaussian_filter1d

from preprocess.errors import ScanError
from preprocess.foreground import Millimetres, foreground_box, hot_limit, otsu_threshold
from preprocess.head import doubts, find_head
from preprocess.recipe import VolumeRecipe
from preprocess.tissue import contrast_findings, fit_tissue, to_tissue_brightness
from preprocess.types import Affine, Finding, FloatArray, Image, TissueFit, Volume

_INNER_RADIUS = 0.6
"""Radius of the foreground's ball, in half edges of the box. A cube of half the edges would reach the scalp with its
corners."""
_FWHM_TO_SIGMA = 1.0 / 2.3548
_INTEGER_RANGE = {"uint8": 255, "uint16": 65535}


def to_volume(image: Image, recipe: VolumeRecipe, *, name: str) -> Volume:
    """Resample and normalise a checked 3D image.

    Args:
        image: 3D, finite, of any orientation and spacing.
        recipe: grid, spacing, intensities and stored type.
        name: what messages call the scan.

    Returns:
        The volume, shape (1, *grid), RAS+, in the recipe's dtype; with a finding where the head's position is in doubt,
        or where tissue was asked for and percentiles had to do.

    Raises:
        ScanError: too little of the field of view is foreground.
    """
    image = _closest_to_ras(image)
    # From here on black is 0, so that the padding outside the scan is black too, for signed data as well. One voxel of
    # 1e30 would take the whole volume with it as soon as anything is averaged.
    black = np.float32(np.percentile(image.voxels_XYZ[::2, ::2, ::2], recipe.intensity_percentiles[0]))
    limit = np.float32(hot_limit(image.voxels_XYZ))
    image = replace(image, voxels_XYZ=np.clip(image.voxels_XYZ, black, max(limit, black)) - black)
    threshold = otsu_threshold(image.voxels_XYZ[::2, ::2, ::2])
    low_mm, high_mm = foreground_box(image, threshold, min_fraction=recipe.quality.min_foreground, name=name)
    centre_mm, findings = (low_mm + high_mm) / 2, []
    if recipe.field_of_view == "stretched":
        if (high_mm - low_mm).min() <= 0:
            raise ScanError(Finding("empty", f"{name}: the foreground is flat, no box can be stretched; see the scan"))
        spacing = (high_mm - low_mm) / np.asarray(recipe.grid)
    else:
        spacing = np.full(3, recipe.spacing_mm)
        head = find_head(image)
        findings = doubts(head, name=name)
        centre_mm = centre_mm if head is None else head.centre_mm
    affine = grid_affine(centre_mm, recipe.grid, spacing)
    resampled_DHW = _resample(image, affine, recipe.grid, spacing)
    tissue = None
    if recipe.intensity == "tissue":
        unit_DHW, tissue, remarks = _to_tissue(resampled_DHW, recipe.intensity_percentiles[1], spacing, name)
        findings = [*findings, *remarks]
    else:
        unit_DHW = _to_unit_range(resampled_DHW, recipe.intensity_percentiles[1])
    return Volume(to_stored(unit_DHW[None], recipe.dtype), affine, tuple(findings), tissue)


def grid_affine(centre_mm: Millimetres, grid: tuple[int, int, int], spacing_mm: Millimetres) -> Affine:
    """The affine of an axis-aligned RAS+ box whose middle lies at `centre_mm`."""
    affine = np.diag([*np.asarray(spacing_mm, dtype=np.float64), 1.0])
    affine[:3, 3] = np.asarray(centre_mm) - np.asarray(spacing_mm) * (np.asarray(grid) - 1) / 2
    return affine


def to_stored(unit: FloatArray, dtype: str) -> np.ndarray:
    """Values in [0, 1] as the stored type; integers round to the nearest of their full range."""
    if dtype in _INTEGER_RANGE:
        return np.rint(unit * _INTEGER_RANGE[dtype]).astype(dtype)
    return unit.astype(dtype)


def unit_scale(dtype: str) -> float:
    """What a stored value is multiplied by to lie in [0, 1]: 1/255 for uint8, 1/65535 for uint16, else 1."""
    return 1.0 / _INTEGER_RANGE.get(dtype, 1)


def _closest_to_ras(image: Image) -> Image:
    """The same voxels with their axes flipped and swapped towards R, A, S: a view.

    What is estimated on every second voxel then does not depend on the order in which a scanner stored them.
    """
    orientation = nib.orientations.io_orientation(image.affine)
    voxels_XYZ = nib.orientations.apply_orientation(image.voxels_XYZ, orientation)
    affine = image.affine @ nib.orientations.inv_ornt_aff(orientation, image.voxels_XYZ.shape)
    return replace(image, voxels_XYZ=voxels_XYZ, affine=affine)


def _resample(image: Image, affine: Affine, grid: tuple[int, int, int], spacing_mm: Millimetres) -> FloatArray:
    smooth_XYZ = image.voxels_XYZ
    # The grid's edge as seen along each scan axis: how much is averaged into one grid voxel there.
    axes = image.affine[:3, :3] / np.asarray(image.spacing_mm)
    for axis, source_mm in enumerate(image.spacing_mm):
        target_mm = float(np.abs(axes[:, axis]) @ spacing_mm / np.abs(axes[:, axis]).sum())
        if target_mm > source_mm * 1.05:
            sigma_mm = _FWHM_TO_SIGMA * np.sqrt(target_mm**2 - source_mm**2)
            smooth_XYZ = gaussian_filter1d(smooth_XYZ, sigma_mm / source_mm, axis=axis, truncate=2.5, mode="nearest")
    source = MetaTensor(torch.as_tensor(np.ascontiguousarray(smooth_XYZ))[None], affine=torch.as_tensor(image.affine))
    resample = SpatialResample(mode="bilinear", padding_mode="zeros", align_corners=True, dtype=torch.float32)
    resampled = resample(source, dst_affine=torch.as_tensor(affine), spatial_size=grid)
    values: FloatArray = np.asarray(resampled.as_tensor()[0].numpy(), dtype=np.float32)
    return values


def _to_tissue(
    values_DHW: FloatArray, percentile: float, spacing_mm: Millimetres, name: str
) -> tuple[FloatArray, TissueFit | None, list[Finding]]:
    """Brightness by tissue, by percentiles where the fit is none of a T1w head; the fit, and what is wrong with it."""
    high = _bright_level(values_DHW, percentile)
    # In percentile brightness, so that the fitted means of two scans compare whatever their units are.
    fit = fit_tissue(values_DHW / np.float32(high), spacing_mm) if high > 0 else None
    findings = contrast_findings(fit, name=name)
    if fit is None or findings:
        return _to_unit_range(values_DHW, percentile), fit, findings
    return to_tissue_brightness(values_DHW / np.float32(high), fit, spacing_mm), fit, findings


def _to_unit_range(values_DHW: FloatArray, percentile: float) -> FloatArray:
    """Scale so that the bright tissue in the middle of the head becomes 1."""
    high = _bright_level(values_DHW, percentile)
    if high <= 0:
        return np.zeros_like(values_DHW)
    unit_DHW: FloatArray = np.clip(values_DHW / np.float32(high), 0.0, 1.0)
    return unit_DHW


def _bright_level(values_DHW: FloatArray, percentile: float) -> float:
    """The grey value of the bright tissue in the middle of the head.

    Only the inner ellipsoid counts (radius 58 mm in the default box): it is nearly all brain, whereas fat of the scalp,
    which some sequences show three times as bright as white matter, would otherwise take most of the range. Otsu's
    threshold is not used here: next to very bright fat it lies above the brain. Padding (exactly 0) does not count.
    """
    axes = [np.linspace(-1.0, 1.0, edge) ** 2 for edge in values_DHW.shape]
    radius_DHW = np.sqrt(axes[0][:, None, None] + axes[1][:, None] + axes[2])
    foreground = values_DHW[(radius_DHW <= _INNER_RADIUS) & (values_DHW > 0)]
    if foreground.size == 0:
        foreground = values_DHW.ravel()
    return float(np.percentile(foreground, percentile))
