"""Where the head lies in a scan: the vault of the skull, fitted to the outline of what is bright.

The position must not follow what a scan happens to cover, since the next visit covers something else. So only one part
of the outline counts, the band of the skull between the brows and the crown, whose position in the head is known: neck,
jaw, nose, ears and the very top may be in the picture or not. Where the field of view ends, there is no outline.

Model: an ellipsoid of free position, half axes and rotation, bulged by one polynomial of the direction that is the same
for all heads. Fitted by Gauss-Newton steps on distances along the surface normal, reweighted by the biweight-like
function of Geman and McClure (1987), whose scale falls from 20 to 4 mm; sizes and angles are held by a normal prior.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_fill_holes, binary_opening, gaussian_filter1d, label
from scipy.spatial.transform import Rotation

from preprocess.foreground import Millimetres, otsu_threshold
from preprocess.grey_levels import GreyLevels, GreyRange
from preprocess.types import Affine, Finding, FloatArray, Image

_Numbers = npt.NDArray[np.float64]

COARSE_MM = 4.0
"""Edge of the blocks that the outline is looked for in; it is placed between their centres by interpolation."""
_MEAN_HALF_AXES_MM = np.array([80.2, 105.2, 91.0])
"""Right, anterior, superior: the mean of five heads (IXI and MNI152); see benchmarks/head_box.py --learn."""
_SIZE_SD = 0.08
"""Standard deviation of the logarithm of a head's size, children included."""
_RATIO_SD = 0.03
"""Standard deviation of the logarithm of one half axis against the others."""
_ANGLES_SD = np.radians([25.0, 15.0, 15.0])
"""Nodding, tilting and turning; wider than people lie, since the next two settings keep the fit in place."""
_PRIOR_WEIGHT = 12.8
"""Weight of the prior against an outline of one line per cm2: neighbours err together, so each counts little."""
_POINT_SD_MM = 3.0
_SCALES_MM = (20.0, 4.0)
_FADING_STEPS, _MAX_STEPS, _CONVERGED_MM = 12, 60, 1e-3
"""While the scale falls the head may not turn yet; then until it stands still."""
_BULGES: tuple[tuple[int, int, int, float], ...] = (
    (2, 1, 0, -0.072),
    (0, 3, 0, 0.040),
    (0, 1, 2, -0.027),
    (2, 0, 1, -0.033),
    (0, 2, 1, -0.033),
    (0, 0, 3, -0.068),
    (4, 0, 0, -0.010),
    (2, 0, 2, 0.035),
    (2, 2, 0, 0.083),
    (0, 4, 0, -0.027),
    (0, 2, 2, 0.118),
    (0, 0, 4, 0.011),
)
"""Exponents of right, anterior and superior of a direction, and the share of the radius: wider behind than before the
ears, flat at the temples. From the same five heads, by fits and regressions in turn, as benchmarks/head_box.py --learn
repeats them; that ends within 0.03 of each share, and these are kept because the box moves less with them (ADR 12)."""
_LOWEST, _HIGHEST, _BROW = -0.3, 0.8, 0.25
"""The band, as superior part of a direction: from a little below the centre at the back of the head, rising to the
brows in front, up to 53 degrees above it. Above that a scan often ends."""
_SOFT_EDGE = 0.15
_LEAST_SEEN, _LEAST_AGREEMENT = 0.75, 0.5
"""Limits from benchmarks/head_box.py: where less was seen the box lay up to 6 mm off, where as much was seen up to
2 on real heads and 4 on synthetic ones; real outlines agree to 0.68 and more."""
_SHADING_MM, _FAR = 25.0, 0.02
"""Half of a head away a coil may see a third; with this a slope of one to seven over the head moves the box by 0.8 mm
at most, 11 mm without."""
_EMPTY_EDGE = 0.3
"""Share of the middle plane's foreground: an end plane with more of it is a cut, not the tip of something round."""


@dataclass(frozen=True, slots=True)
class Head:
    """A head as found.

    Attributes:
        centre_mm: middle of the skull's vault, in the scan's RAS+ mm.
        half_axes_mm: half axes of the ellipsoid in mm: right, anterior, superior.
        seen: share of the band that lies within the field of view.
        agreement: share of the outline in the band that lies on the model, 0 to 1.
    """

    centre_mm: Millimetres
    half_axes_mm: Millimetres
    seen: float
    agreement: float


@dataclass(frozen=True, slots=True)
class _Outline:
    """Points on the outline in mm (N, 3), from where each was seen (N, 3), and the blocks they were found on."""

    points_mm: _Numbers
    outward: _Numbers
    inside: npt.NDArray[np.bool_]
    affine: Affine


@dataclass(frozen=True, slots=True)
class _Pose:
    centre_mm: Millimetres
    log_axes: Millimetres
    rotation: _Numbers


def find_head(image: Image, kept: GreyRange = GreyRange()) -> Head | None:
    """Fit the vault of a skull to a scan's outline.

    Args:
        image: 3D, its axes closest to R, A and S.
        kept: the grey value of air, and one that no tissue exceeds.

    Returns:
        The head; None where no outline is seen, or none that agrees with a skull.
    """
    outline = _find_outline(image, kept)
    if outline is None:
        return None
    edges_mm = np.linalg.norm(outline.affine[:3, :3], axis=0)
    lines_per_cm2 = 100 * float(edges_mm.sum() / edges_mm.prod()) / 3
    pose, agreement = _Pose(_first_centre(outline), np.log(_MEAN_HALF_AXES_MM), np.eye(3)), 0.0
    for number in range(_MAX_STEPS):
        fade = min(1.0, number / _FADING_STEPS)
        scale_mm = _SCALES_MM[0] ** (1 - fade) * _SCALES_MM[1] ** fade
        prior = _prior(may_turn=fade == 1.0) * lines_per_cm2
        moved = _step(pose, outline.points_mm, outline.outward, scale_mm, prior)
        if moved is None:
            return None
        after, agreement = moved
        step_mm = float(np.abs(after.centre_mm - pose.centre_mm).max())
        pose = after
        if number > _FADING_STEPS and step_mm < _CONVERGED_MM:
            break
    if agreement < _LEAST_AGREEMENT:
        return None
    # To 10 micrometres: what another processor rounds otherwise must not reach a stored voxel.
    return Head(np.round(pose.centre_mm, 2), np.exp(pose.log_axes), _seen(pose, outline), agreement)


def doubts(head: Head | None, *, name: str) -> list[Finding]:
    """What makes a head's position unsure, none of which leaves the scan out.

    Args:
        head: as found.
        name: what messages call the scan.
    """
    if head is None:
        message = "nothing in it has the outline of a head, so the box lies in the middle of what is bright"
        return [Finding("head_unclear", f"{name}: {message}; look at the scan, or leave it out", leaves_out=False)]
    if head.seen < _LEAST_SEEN:
        message = f"{head.seen:.0%} of the skull between brows and crown is in the picture, less than {_LEAST_SEEN:.0%}"
        remedy = "the box may lie several millimetres off; leave the scan out of comparisons, or scan the whole head"
        return [Finding("head_cut", f"{name}: {message}: {remedy}", leaves_out=False)]
    return []


def _find_outline(image: Image, kept: GreyRange) -> _Outline | None:
    blocks_XYZ, affine = _blocks(_without_empty_border(image, kept.black), kept)
    blocks_XYZ = _evened(blocks_XYZ, np.linalg.norm(affine[:3, :3], axis=0))
    threshold = otsu_threshold(GreyLevels.of(np.sqrt(blocks_XYZ))) ** 2  # of the root: next to very bright fat the rest is not air
    if threshold <= 0:
        return None
    levels = blocks_XYZ / np.float32(threshold)
    is_bright = levels > 1
    # Scalp is thin and bone dark: without filling, the opening would take the scalp away.
    filled = np.stack([binary_fill_holes(is_bright[..., z]) for z in range(is_bright.shape[2])], axis=2)
    parts, num_parts = label(binary_opening(filled))
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
    return _Outline(outline_N3 @ affine[:3, :3].T + affine[:3, 3], outward, inside, affine)


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
        enough, at_low, at_high = (
            np.count_nonzero(planes[number] > black) for number in (len(planes) // 2, low, high)
        )
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
    blocks_XYZ = np.empty(counts, np.float32)
    for number in range(counts[2]):
        first = number * sizes[2]
        sum_XY = kept.of(voxels_XYZ[:, :, first])
        plane_XY = np.empty_like(sum_XY)
        for place in range(first + 1, first + sizes[2]):
            sum_XY += kept.of(voxels_XYZ[:, :, place], plane_XY)
        sum_XY = sum(sum_XY[:, start :: sizes[1]] for start in range(sizes[1]))
        blocks_XYZ[:, :, number] = sum(sum_XY[start :: sizes[0]] for start in range(sizes[0]))
    blocks_XYZ /= np.float32(np.prod(sizes))
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ ((np.array(sizes) - 1) / 2)
    affine[:3, :3] *= sizes
    return blocks_XYZ, affine


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


def _first_centre(outline: _Outline) -> Millimetres:
    """The middle of what is inside, but no lower than 75 mm below its top."""
    inside_mm = np.argwhere(outline.inside) @ outline.affine[:3, :3].T + outline.affine[:3, 3]
    low_mm, high_mm = np.percentile(inside_mm, (0.5, 99.5), axis=0)
    centre_mm: Millimetres = (low_mm + high_mm) / 2
    centre_mm[2] = max(centre_mm[2], high_mm[2] - 75.0)
    return centre_mm


def _bulge(directions: _Numbers) -> tuple[_Numbers, _Numbers]:
    """Radius over the ellipsoid's radius (N,), and its gradient by the direction (N, 3)."""
    radius = np.ones(len(directions))
    gradient = np.zeros_like(directions)
    powers = []
    for axis in np.ascontiguousarray(directions.T):
        square = axis * axis
        powers.append([np.ones_like(axis), axis, square, square * axis, square * square])
    for *exponents, share in _BULGES:
        i, j, k = exponents
        radius += share * powers[0][i] * powers[1][j] * powers[2][k]
        gradient[:, 0] += share * i * powers[0][max(i - 1, 0)] * powers[1][j] * powers[2][k]
        gradient[:, 1] += share * j * powers[0][i] * powers[1][max(j - 1, 0)] * powers[2][k]
        gradient[:, 2] += share * k * powers[0][i] * powers[1][j] * powers[2][max(k - 1, 0)]
    return radius, gradient


def _in_band(directions: _Numbers) -> _Numbers:
    """How much a direction of the head belongs to the band that counts, 0 to 1, shape (N,)."""
    lowest = _LOWEST + _BROW * np.maximum(directions[:, 1], 0)
    above = np.clip((directions[:, 2] - lowest) / _SOFT_EDGE, 0, 1)
    below = np.clip((_HIGHEST - directions[:, 2]) / _SOFT_EDGE, 0, 1)
    weight: _Numbers = above * below
    return weight


def _step(
    pose: _Pose, points_mm: _Numbers, outward: _Numbers, scale_mm: float, prior: _Numbers
) -> tuple[_Pose, float] | None:
    """One Gauss-Newton step on nine unknowns (centre, log half axes, turn); the new pose, and how much agrees."""
    axes = np.exp(pose.log_axes)
    local = (points_mm - pose.centre_mm) @ pose.rotation
    scaled = local / axes
    radius = np.linalg.norm(scaled, axis=1)
    weight = _in_band(scaled / np.maximum(radius, 1e-9)[:, None]) * (radius > 1e-3)
    used = weight > 0
    local, scaled, radius, weight = local[used], scaled[used], radius[used, None], weight[used]
    directions = scaled / radius
    bulge, slope = _bulge(directions)
    slope -= (slope * directions).sum(axis=1, keepdims=True) * directions
    # The level is 1 on the surface; over its gradient's length it is a distance in mm.
    level = radius[:, 0] / bulge
    by_scaled = (directions - slope / bulge[:, None]) / bulge[:, None]
    normal = by_scaled / axes
    per_mm = np.linalg.norm(normal, axis=1)
    distance_mm = (level - 1) / per_mm
    # A line that grazes the surface finds it badly, and many such lines meet there.
    weight = weight * np.clip(((normal / per_mm[:, None]) @ pose.rotation.T * outward[used]).sum(axis=1), 0, 1) ** 2
    robust = weight / (1 + (distance_mm / scale_mm) ** 2) ** 2
    if robust.sum() < 10:
        return None
    jacobian = -np.hstack([normal @ pose.rotation.T, scaled * by_scaled, np.cross(local, normal)]) / per_mm[:, None]
    angles = Rotation.from_matrix(pose.rotation).as_rotvec()
    unknowns = np.concatenate([np.zeros(3), pose.log_axes - np.log(_MEAN_HALF_AXES_MM), angles])
    left = (jacobian * robust[:, None]).T @ jacobian + prior + 1e-6 * np.eye(9)
    right = (jacobian * robust[:, None]).T @ distance_mm + prior @ unknowns
    moved = -np.linalg.solve(left, right)
    moved[:3] = np.clip(moved[:3], -15.0, 15.0)
    moved[3:] = np.clip(moved[3:], -0.1, 0.1)
    turned = pose.rotation @ Rotation.from_rotvec(moved[6:]).as_matrix()
    after = _Pose(pose.centre_mm + moved[:3], pose.log_axes + moved[3:6], turned)
    return after, float(robust.sum() / weight.sum())


def _prior(*, may_turn: bool) -> _Numbers:
    """Inverse covariance of the nine unknowns, in the units of an outline of one line of sight per cm2."""
    common = np.full((3, 3), 1 / 3)
    precision = np.zeros((9, 9))
    precision[3:6, 3:6] = common / (3 * _SIZE_SD**2) + (np.eye(3) - common) / _RATIO_SD**2
    precision[6:, 6:] = np.diag(1 / _ANGLES_SD**2) if may_turn else np.eye(3) * 1e12
    return precision * _PRIOR_WEIGHT * _POINT_SD_MM**2


def _seen(pose: _Pose, outline: _Outline) -> float:
    """Share of the band's surface that lies within the field of view, by 500 directions spread evenly."""
    number = np.arange(500) + 0.5
    height = 1 - 2 * number / 500
    turn = np.pi * (1 + np.sqrt(5)) * number  # golden spiral
    flat = np.sqrt(1 - height**2)
    directions = np.stack([np.cos(turn) * flat, np.sin(turn) * flat, height], axis=1)
    weight = _in_band(directions)
    bulge, _ = _bulge(directions)
    surface_mm = (directions * bulge[:, None] * np.exp(pose.log_axes)) @ pose.rotation.T + pose.centre_mm
    to_index = np.linalg.inv(outline.affine)
    index = surface_mm @ to_index[:3, :3].T + to_index[:3, 3]
    is_seen = ((index > 0) & (index < np.array(outline.inside.shape) - 1)).all(axis=1)
    return float(weight[is_seen].sum() / weight.sum())
