"""The deterministic way from an image to a volume, the same for the batch job and the service.

One resampling with trilinear weights from the scan's own voxels into an axis-aligned RAS+ box of fixed size in
millimetres. Axes finer than the grid are smoothed first (Gaussian, so that a structure thinner than a grid voxel is
averaged, not sampled); where the scan's axes are the grid's, both are one map an axis (`axis_maps.py`). Intensities: a
low percentile of the scan becomes 0 and a high percentile of the foreground in the middle of the head becomes 1, or the
tissues of a T1w head lie at fixed values (`tissue.py`); then the stored type.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from preprocess.axis_maps import AxisMap, apply_axis_maps, axis_map
from preprocess.foreground import Millimetres
from preprocess.grey_levels import WHOLE_RANGE, GreyRange
from preprocess.placing import Placing, closest_to_ras, place
from preprocess.preparation.rigid import inverse
from preprocess.preparation.steps import NO_STEPS, Pose, Steps
from preprocess.recipe import VolumeRecipe
from preprocess.tissue import contrast_findings, fit_tissue, to_tissue_brightness
from preprocess.types import Affine, Finding, FloatArray, Image, TissueFit, Volume

_INNER_RADIUS = 0.6
"""Radius of the foreground's ball, in half edges of the box. A cube of half the edges would reach the scalp with its
corners."""
_PARALLEL = 1e-3
"""Voxels by which a sample may lie beside its line along a scan axis, at most, for the axes to count as the grid's."""
_FWHM_TO_SIGMA = 1.0 / 2.3548
_INTEGER_RANGE = {"uint8": 255, "uint16": 65535}


def to_volume(image: Image, recipe: VolumeRecipe, *, name: str) -> Volume:
    """Resample and normalise a checked 3D image.

    Args:
        image: 3D, finite, of any orientation and spacing.
        recipe: grid, spacing, intensities and stored type.
        name: what messages call the scan.

    Returns:
        The volume, shape (1, *grid), RAS+, in the recipe's dtype; with a finding where hot voxels are cut, where the
        head's position is in doubt, or where tissue was asked for and percentiles had to do.

    Raises:
        ScanError: too little of the field of view is foreground.
    """
    return volume_of(place(image, recipe, name=name), recipe, name=name)


def volume_of(placing: Placing, recipe: VolumeRecipe, *, name: str, made: Steps = NO_STEPS) -> Volume:
    """As `to_volume`, of a scan that was placed already.

    Args:
        placing: from `place`, with the same recipe.
        recipe: grid, intensities and stored type.
        name: what messages call the scan.
        made: what was prepared for this scan: a rigid motion, a shading, a mask; all of it enters the one resampling.
    """
    findings = list(placing.findings)
    spacing = placing.spacing_mm
    source = placing.image
    if made.mask is not None:
        source = replace(source, voxels_XYZ=made.mask.outside_black(source, placing.kept.black))
    moved, affine = _to_box(source, placing, recipe.grid, made.pose)
    resampled_DHW = resample(moved, affine, recipe.grid, placing.kept)
    # The way back to the scan's own millimetres, where it was moved.
    affine = affine if made.pose is None else inverse(made.pose.to_common) @ affine
    if made.bias is not None:
        resampled_DHW /= made.bias.at(affine, recipe.grid)
    tissue = None
    if recipe.intensity == "tissue":
        unit_DHW, tissue, remarks = _to_tissue(resampled_DHW, recipe.intensity_percentiles[1], spacing, name)
        findings += remarks
    else:
        unit_DHW = _to_unit_range(resampled_DHW, recipe.intensity_percentiles[1])
    return Volume(to_stored(unit_DHW[None], recipe.dtype), affine, tuple(findings), tissue)


def _to_box(image: Image, placing: Placing, grid: tuple[int, int, int], pose: Pose | None) -> tuple[Image, Affine]:
    """The scan where it is resampled, and the grid's affine there: about its own head, or where all visits lie."""
    if pose is None:
        return image, grid_affine(placing.centre_mm, grid, placing.spacing_mm)
    moved = closest_to_ras(replace(image, affine=pose.to_common @ image.affine))
    return moved, grid_affine(pose.centre_mm, grid, placing.spacing_mm)


def grid_affine(centre_mm: Millimetres, grid: tuple[int, int, int], spacing_mm: Millimetres) -> Affine:
    """The affine of an axis-aligned RAS+ box whose middle lies at `centre_mm`."""
    affine = np.diag([*np.asarray(spacing_mm, dtype=np.float64), 1.0])
    affine[:3, 3] = np.asarray(centre_mm) - np.asarray(spacing_mm) * (np.asarray(grid) - 1) / 2
    return affine


def to_stored(unit: FloatArray, dtype: str) -> np.ndarray:
    """Values in [0, 1] as the stored type; integers round to the nearest of their full range."""
    if dtype in _INTEGER_RANGE:
        scaled = unit * unit.dtype.type(_INTEGER_RANGE[dtype])
        stored: np.ndarray = np.rint(scaled, out=scaled).astype(dtype)
        return stored
    return unit.astype(dtype)


def unit_scale(dtype: str) -> float:
    """What a stored value is multiplied by to lie in [0, 1]: 1/255 for uint8, 1/65535 for uint16, else 1."""
    return 1.0 / _INTEGER_RANGE.get(dtype, 1)


def resample(image: Image, affine: Affine, grid: tuple[int, int, int], kept: GreyRange = WHOLE_RANGE) -> FloatArray:
    """Smooth a scan for a grid and interpolate it there, once.

    Args:
        image: 3D, its axes closest to R, A and S.
        affine: from the grid to RAS+ mm, diagonal.
        grid: number of samples along each axis.
        kept: grey values that are kept; the lowest becomes 0, as is all outside the scan.

    Returns:
        float32 of the grid's shape.
    """
    counts = image.voxels_XYZ.shape
    to_index = np.linalg.inv(image.affine) @ affine
    sigmas = _sigmas(image, np.diag(affine)[:3])
    offsets = np.abs(to_index[:3, :3] - np.diag(np.diag(to_index)[:3])) @ (np.array(grid) - 1)
    if (offsets < _PARALLEL).all():
        positions = [to_index[axis, axis] * np.arange(grid[axis]) + to_index[axis, 3] for axis in range(3)]
        return apply_axis_maps(image.voxels_XYZ, _maps(counts, positions, sigmas), kept)
    # Smooth what the grid's corners enclose and what its samples reach beyond them, in the scan's own voxels.
    corners = np.stack(np.meshgrid(*([0, edge - 1] for edge in grid), indexing="ij"), axis=-1).reshape(8, 3)
    index_83 = corners @ to_index[:3, :3].T + to_index[:3, 3]
    first = np.clip(np.floor(index_83.min(axis=0)).astype(int) - 1, 0, np.array(counts) - 1)
    stop = np.clip(np.ceil(index_83.max(axis=0)).astype(int) + 2, first + 1, counts)
    positions = [np.arange(low, high, dtype=np.float64) for low, high in zip(first, stop, strict=True)]
    smooth_XYZ = apply_axis_maps(image.voxels_XYZ, _maps(counts, positions, sigmas), kept)
    from_first = image.affine.copy()
    from_first[:3, 3] += image.affine[:3, :3] @ first
    return _trilinear(smooth_XYZ, np.asarray(np.linalg.solve(from_first, affine), dtype=np.float64), grid)


def _trilinear(voxels_XYZ: FloatArray, to_index: Affine, grid: tuple[int, int, int]) -> FloatArray:
    """Voxels at the places of a grid, 0 outside; `to_index` leads from the grid's index to that of the voxels.

    The arithmetic is that of MONAI's SpatialResample, to the last bit, without its seconds of imports.
    """
    to_index_44 = torch.as_tensor(to_index, dtype=torch.float32)
    from_normal_44 = torch.from_numpy(np.linalg.inv(_normalising(grid).numpy()))
    normal_44 = _normalising(voxels_XYZ.shape) @ to_index_44 @ from_normal_44
    # PyTorch counts axes from the last one.
    order = [2, 1, 0, 3]
    theta_34 = normal_44[order][:, order][:3]
    places = torch.nn.functional.affine_grid(theta_34[None], [1, 1, *grid], align_corners=True)
    source = torch.as_tensor(voxels_XYZ)[None, None].contiguous()
    sampled = torch.nn.functional.grid_sample(source, places, "bilinear", "zeros", align_corners=True)
    values: FloatArray = sampled[0, 0].numpy()
    return values


def _normalising(shape: Sequence[int]) -> torch.Tensor:
    """From an index to -1 at the first and 1 at the last voxel of each axis (4 x 4)."""
    edges = torch.as_tensor(shape, dtype=torch.float64)
    scales = 2.0 / (torch.where(edges <= 1, 2.0, edges) - 1)
    matrix = torch.diag(torch.cat([scales, torch.ones(1, dtype=torch.float64)]))
    matrix[:3, 3] = -1.0
    return matrix.to(torch.float32)


def _sigmas(image: Image, spacing_mm: Millimetres) -> list[float]:
    """Standard deviation of the smoothing along each scan axis, in its voxels; 0 where the grid is no coarser."""
    # The grid's edge as seen along each scan axis: how much is averaged into one grid voxel there.
    axes = np.abs(image.affine[:3, :3] / np.asarray(image.spacing_mm))
    sigmas = []
    for axis, source_mm in enumerate(image.spacing_mm):
        target_mm = float(axes[:, axis] @ spacing_mm / axes[:, axis].sum())
        is_finer = target_mm > source_mm * 1.05
        sigmas.append(_FWHM_TO_SIGMA * np.sqrt(target_mm**2 - source_mm**2) / source_mm if is_finer else 0.0)
    return sigmas


def _maps(
    counts: tuple[int, ...], positions: Sequence[npt.NDArray[np.float64]], sigmas: Sequence[float]
) -> tuple[AxisMap, AxisMap, AxisMap]:
    over_x, over_y, over_z = (axis_map(*one) for one in zip(counts, positions, sigmas, strict=True))
    return over_x, over_y, over_z


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
    unit_DHW: FloatArray = values_DHW / np.float32(high)
    return np.clip(unit_DHW, 0.0, 1.0, out=unit_DHW)


def _bright_level(values_DHW: FloatArray, percentile: float) -> float:
    """The grey value of the bright tissue in the middle of the head.

    Only the inner ellipsoid counts (radius 58 mm in the default box): it is nearly all brain, whereas fat of the scalp,
    which some sequences show three times as bright as white matter, would otherwise take most of the range. Otsu's
    threshold is not used here: next to very bright fat it lies above the brain. Padding (exactly 0) does not count.
    """
    axes = [np.linspace(-1.0, 1.0, edge) for edge in values_DHW.shape]
    near = [np.flatnonzero(np.abs(axis) <= _INNER_RADIUS) for axis in axes]
    squares = [axis[inner] ** 2 for axis, inner in zip(axes, near, strict=True)]
    is_inner_DHW = squares[0][:, None, None] + squares[1][:, None] + squares[2] <= _INNER_RADIUS**2
    inner_DHW = values_DHW[np.ix_(*near)]
    foreground = inner_DHW[is_inner_DHW & (inner_DHW > 0)]
    if foreground.size == 0:
        foreground = values_DHW.ravel()
    return float(np.percentile(foreground, percentile))
