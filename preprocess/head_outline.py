"""The outline of what is bright in a scan, as seen along its axes from outside, on blocks of about 4 mm.

Grey values are evened first, since a coil sees one side of a head better than the other; then Otsu's cut, holes filled
plane by plane, the largest part. Sums over voxels are elementwise or in float64: equal scans give equal outlines.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_opening, gaussian_filter1d, generate_binary_structure, label

from preprocess.foreground import otsu_threshold
from preprocess.grey_levels import GreyLevels, GreyRange
from preprocess.types import Affine, FloatArray, Image

_Numbers = npt.NDArray[np.float64]

COARSE_MM = 4.0
"""Edge of the blocks that the outline is looked for in; it is placed between their centres by interpolation."""
_SHADING_MM, _FAR = 25.0, 0.02
"""Half of a head away a coil may see a third; with this a slope of one to seven over the head moves the box by 0.8 mm
at most, 11 mm without."""
_EMPTY_EDGE = 0.3
"""Share of the middle plane's foreground: an end plane with more of it is a cut, not the tip of something round."""


@dataclass(frozen=True, slots=True)
class Outline:
    """Where lines along the scan's axes enter what is bright.

    Attributes:
        points_3N: in RAS+ mm.
        outward_3N: direction that each was seen from, length 1.
        inside: which blocks are inside.
        affine: block index to RAS+ mm.
    """

    points_3N: _Numbers
    outward_3N: _Numbers
    inside: npt.NDArray[np.bool_]
    affine: Affine


def find_outline(image: Image, kept: GreyRange) -> Outline | None:
    """Find the outline of the largest bright thing.

    Args:
        image: 3D, its axes closest to R, A and S.
        kept: the grey value of air, and one that no tissue exceeds.

    Returns:
        The outline; None where fewer than 100 lines of sight meet one.
    """
    blocks_XYZ, affine = _blocks(_without_empty_border(image, kept.black), kept)
    blocks_XYZ = _evened(blocks_XYZ, np.linalg.norm(affine[:3, :3], axis=0))
    # Of the root: next to very bright fat the rest is not air.
    threshold = otsu_threshold(GreyLevels.of(np.sqrt(blocks_XYZ))) ** 2
    if threshold <= 0:
        return None
    levels = blocks_XYZ / np.float32(threshold)
    is_bright = levels > 1
    # Scalp is thin and bone dark: without filling, the opening would take the scalp away.
    parts, num_parts = label(binary_opening(_filled(is_bright)))
    if num_parts == 0:
        return None
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    inside = parts == sizes.argmax()
    found = [
        _first_seen(inside, levels, axis, from_above=from_above)
        for axis in range(3)
        for from_above in (False, True)
        if (axis, from_above) != (2, False)  # neck, or where the scan ends
    ]
    outline_N3 = np.concatenate([positions for positions, _ in found])
    if len(outline_N3) < 100:
        return None
    edges = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    outward = np.concatenate(
        [np.broadcast_to(sign * edges[:, axis], positions.shape) for (positions, (axis, sign)) in found]
    )
    points_3N = affine[:3, :3] @ outline_N3.T + affine[:3, 3:]
    return Outline(points_3N, np.ascontiguousarray(outward.T), inside, affine)


def _filled(is_bright: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The holes of each axial plane filled: what is dark and does not reach the plane's edge."""
    in_plane = generate_binary_structure(3, 1)
    in_plane[1, 1, [0, 2]] = False
    parts, num_parts = label(~is_bright, in_plane)
    reaches_edge = np.zeros(num_parts + 1, np.bool_)
    for edge in (parts[0], parts[-1], parts[:, 0], parts[:, -1]):
        reaches_edge[edge] = True
    reaches_edge[0] = False
    filled: npt.NDArray[np.bool_] = ~reaches_edge[parts]
    return filled


def _first_seen(
    inside: npt.NDArray[np.bool_], levels: FloatArray, axis: int, *, from_above: bool
) -> tuple[_Numbers, tuple[int, int]]:
    """Where lines along an axis enter the head: index positions (N, 3), and the side they come from.

    A line that starts inside sees no outline: there the field of view ends.
    """
    order = slice(None, None, -1 if from_above else 1)
    mask = np.moveaxis(inside, axis, 0)[order]
    level = np.moveaxis(levels, axis, 0)[order]
    first = mask.argmax(axis=0)
    j, k = np.nonzero(mask.any(axis=0) & (first > 0))
    i = first[j, k]
    here, before = level[i, j, k], level[i - 1, j, k]
    # Between the last dark and the first bright block, where the level crosses 1; both bright: the opening's edge.
    crossing = np.clip((1 - before) / np.maximum(here - before, 1e-6), 0, 1)
    along = i - 1 + np.where(before < 1, crossing, 0.0)
    along = mask.shape[0] - 1 - along if from_above else along
    positions = np.empty((len(i), 3))
    positions[:, axis] = along
    positions[:, [other for other in range(3) if other != axis]] = np.stack([j, k], axis=1)
    return positions, (axis, 1 if from_above else -1)


def _without_empty_border(image: Image, black: float) -> Image:
    """Planes of black cut off where the scan was cut before it was padded; a round end keeps its air."""
    voxels = image.voxels_XYZ
    window = []
    for axis in range(3):
        planes = np.moveaxis(voxels, axis, 0)
        low = next((number for number, plane in enumerate(planes) if (plane[::2, ::2] > black).any()), None)
        if low is None:
            return image
        high = next(number for number in range(len(planes) - 1, -1, -1) if (planes[number, ::2, ::2] > black).any())
        enough, at_low, at_high = (np.count_nonzero(planes[number] > black) for number in (len(planes) // 2, low, high))
        window.append(
            slice(
                low if at_low > _EMPTY_EDGE * enough else 0, high + 1 if at_high > _EMPTY_EDGE * enough else len(planes)
            )
        )
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [part.start for part in window]
    return replace(image, voxels_XYZ=voxels[tuple(window)], affine=affine)


def _blocks(image: Image, kept: GreyRange) -> tuple[FloatArray, Affine]:
    """Means of blocks of whole voxels, about `COARSE_MM` long, and their affine.

    Sums are elementwise in a fixed order: equal for any memory order of the voxels, and on any processor.
    """
    sizes = [max(1, round(COARSE_MM / edge)) for edge in image.spacing_mm]
    counts = [max(1, length // size) for length, size in zip(image.voxels_XYZ.shape, sizes, strict=True)]
    sizes = [min(size, length) for size, length in zip(sizes, image.voxels_XYZ.shape, strict=True)]
    voxels_XYZ = image.voxels_XYZ[tuple(slice(n * size) for n, size in zip(counts, sizes, strict=True))]
    # Numpy converts lines that run backwards in memory one voxel at a time; so they, and then their sums, are turned.
    steps = [-1 if stride < 0 else 1 for stride in voxels_XYZ.strides[:2]]
    voxels_XYZ = voxels_XYZ[:: steps[0], :: steps[1]]
    starts_x, starts_y = (range(size)[::step] for size, step in zip(sizes[:2], steps, strict=True))
    blocks_XYZ = np.empty(counts, np.float32)
    for number in range(counts[2]):
        first = number * sizes[2]
        sum_XY = kept.of(voxels_XYZ[:, :, first])
        plane_XY = np.empty_like(sum_XY)
        for place in range(first + 1, first + sizes[2]):
            sum_XY += kept.of(voxels_XYZ[:, :, place], plane_XY)
        sum_XB = _sum([sum_XY[:, start :: sizes[1]] for start in starts_y])
        blocks_XYZ[:: steps[0], :: steps[1], number] = _sum([sum_XB[start :: sizes[0]] for start in starts_x])
    blocks_XYZ /= np.float32(np.prod(sizes))
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ ((np.array(sizes) - 1) / 2)
    affine[:3, :3] *= sizes
    return blocks_XYZ, affine


def _sum(planes: list[FloatArray]) -> FloatArray:
    total = planes[0].copy()
    for plane in planes[1:]:
        total += plane
    return total


def _evened(blocks_XYZ: FloatArray, edges_mm: _Numbers) -> FloatArray:
    """Grey values over the mean of the foreground around them, twice: a coil that sees one side better bends them.

    Far from all foreground the mean of all of it takes over, so that air stays dark.
    """
    filters = [
        gaussian_filter1d(np.eye(count), _SHADING_MM / edge_mm, axis=0)
        for count, edge_mm in zip(blocks_XYZ.shape, edges_mm, strict=True)
    ]
    for _ in range(2):
        is_bright = blocks_XYZ > otsu_threshold(GreyLevels.of(np.sqrt(blocks_XYZ))) ** 2
        if not is_bright.any():
            break
        mean = blocks_XYZ[is_bright].mean()
        total, share = _smooth(np.stack([np.where(is_bright, blocks_XYZ, np.float32(0)), is_bright]), filters)
        blocks_XYZ = blocks_XYZ / ((total + _FAR * mean) / (share + _FAR))
    return blocks_XYZ


def _smooth(both_2XYZ: npt.NDArray[np.generic], filters: list[_Numbers]) -> FloatArray:
    """Filter two volumes by a matrix an axis; summed in float64, so that no processor's order shows in float32."""
    over_x, over_y, over_z = filters
    smooth = over_y @ (both_2XYZ.astype(np.float64) @ over_z.T)
    return (over_x @ smooth.reshape(2, len(over_x), -1)).reshape(both_2XYZ.shape).astype(np.float32)
