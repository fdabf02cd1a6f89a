"""Where the head lies in a scan: the vault of the skull, fitted to the outline of what is bright.

The position must not follow what a scan happens to cover, since the next visit covers something else. So only one part
of the outline counts, the band of the skull between the brows and the crown, whose position in the head is known: neck,
jaw, nose, ears and the very top may be in the picture or not. Where the field of view ends, there is no outline.

Model: an ellipsoid of free position, half axes and rotation, bulged by one polynomial of the direction that is the same
for all heads. Fitted by Gauss-Newton steps on distances along the surface normal, reweighted by the biweight-like
function of Geman and McClure (1987), whose scale falls from 20 to 4 mm; sizes and angles are held by a normal prior.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from preprocess.foreground import Millimetres
from preprocess.grey_levels import WHOLE_RANGE, GreyRange
from preprocess.head_outline import Outline, find_outline
from preprocess.types import Finding, Image

_Numbers = npt.NDArray[np.float64]

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


@dataclass(frozen=True, slots=True)
class Head:
    """A head as found.

    Attributes:
        centre_mm: middle of the skull's vault, in the scan's RAS+ mm.
        half_axes_mm: half axes of the ellipsoid in mm: right, anterior, superior.
        rotation_33: from the head's own axes to the scan's.
        seen: share of the band that lies within the field of view.
        agreement: share of the outline in the band that lies on the model, 0 to 1.
    """

    centre_mm: Millimetres
    half_axes_mm: Millimetres
    rotation_33: _Numbers
    seen: float
    agreement: float


@dataclass(frozen=True, slots=True)
class _Pose:
    centre_mm: Millimetres
    log_axes: Millimetres
    rotation: _Numbers


def find_head(image: Image, kept: GreyRange = WHOLE_RANGE) -> Head | None:
    """Fit the vault of a skull to a scan's outline.

    Args:
        image: 3D, its axes closest to R, A and S.
        kept: the grey value of air, and one that no tissue exceeds.

    Returns:
        The head; None where no outline is seen, or none that agrees with a skull.
    """
    outline = find_outline(image, kept)
    if outline is None:
        return None
    edges_mm = np.linalg.norm(outline.affine[:3, :3], axis=0)
    lines_per_cm2 = 100 * float(edges_mm.sum() / edges_mm.prod()) / 3
    pose, agreement = _Pose(_first_centre(outline), np.log(_MEAN_HALF_AXES_MM), np.eye(3)), 0.0
    for number in range(_MAX_STEPS):
        fade = min(1.0, number / _FADING_STEPS)
        scale_mm = _SCALES_MM[0] ** (1 - fade) * _SCALES_MM[1] ** fade
        prior = _prior(may_turn=fade == 1.0) * lines_per_cm2
        moved = _step(pose, outline.points_3N, outline.outward_3N, scale_mm, prior)
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
    return Head(np.round(pose.centre_mm, 2), np.exp(pose.log_axes), pose.rotation, _seen(pose, outline), agreement)


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


def _first_centre(outline: Outline) -> Millimetres:
    """The middle of what is inside, but no lower than 75 mm below its top."""
    inside_mm = np.argwhere(outline.inside) @ outline.affine[:3, :3].T + outline.affine[:3, 3]
    low_mm, high_mm = np.percentile(inside_mm, (0.5, 99.5), axis=0)
    centre_mm: Millimetres = (low_mm + high_mm) / 2
    centre_mm[2] = max(centre_mm[2], high_mm[2] - 75.0)
    return centre_mm


@dataclass(frozen=True, slots=True)
class _Bulges:
    """The polynomial as a matrix: row 0 is the radius over the ellipsoid's, rows 1 to 3 its gradient.

    Attributes:
        steps: how each monomial but the first, which is 1, follows from an earlier one: its number, and the axis by
            whose coordinate it is multiplied.
        shares_4M: shares of the monomials.
    """

    steps: tuple[tuple[int, int], ...]
    shares_4M: _Numbers


@cache
def _bulges(rows: tuple[tuple[int, int, int, float], ...]) -> _Bulges:
    powers = [(i, j, n - i - j) for n in range(5) for i in range(n, -1, -1) for j in range(n - i, -1, -1)]
    number_of = {exponents: number for number, exponents in enumerate(powers)}
    first_axis = [next(axis for axis in range(3) if exponents[axis]) for exponents in powers[1:]]
    steps = [(number_of[_lower(one, axis)], axis) for one, axis in zip(powers[1:], first_axis, strict=True)]
    shares_4M = np.zeros((4, len(powers)))
    shares_4M[0, 0] = 1.0
    for *exponents, share in rows:
        i, j, k = exponents
        shares_4M[0, number_of[i, j, k]] += share
        for axis, power in enumerate(exponents):
            if power:
                shares_4M[1 + axis, number_of[_lower((i, j, k), axis)]] += share * power
    return _Bulges(tuple(steps), shares_4M)


def _lower(exponents: tuple[int, int, int], axis: int) -> tuple[int, int, int]:
    i, j, k = (power - (place == axis) for place, power in enumerate(exponents))
    return i, j, k


def _bulge(directions_3N: _Numbers) -> tuple[_Numbers, _Numbers]:
    """Radius over the ellipsoid's radius (N,), and its gradient by the direction (3, N)."""
    bulges = _bulges(_BULGES)
    monomials_MN = np.ones((1 + len(bulges.steps), directions_3N.shape[1]))
    for number, (earlier, axis) in enumerate(bulges.steps, start=1):
        np.multiply(monomials_MN[earlier], directions_3N[axis], out=monomials_MN[number])
    values_4N = bulges.shares_4M @ monomials_MN
    return values_4N[0], values_4N[1:]


def _in_band(directions_3N: _Numbers) -> _Numbers:
    """How much a direction of the head belongs to the band that counts, 0 to 1, shape (N,)."""
    lowest = _LOWEST + _BROW * np.maximum(directions_3N[1], 0)
    above = np.clip((directions_3N[2] - lowest) / _SOFT_EDGE, 0, 1)
    below = np.clip((_HIGHEST - directions_3N[2]) / _SOFT_EDGE, 0, 1)
    weight: _Numbers = above * below
    return weight


def _dot(first_3N: _Numbers, second_3N: _Numbers) -> _Numbers:
    return np.asarray(first_3N[0] * second_3N[0] + first_3N[1] * second_3N[1] + first_3N[2] * second_3N[2])


def _cross(first_3N: _Numbers, second_3N: _Numbers) -> _Numbers:
    (a, b, c), (x, y, z) = first_3N, second_3N
    return np.stack([b * z - c * y, c * x - a * z, a * y - b * x])


def _step(
    pose: _Pose, points_3N: _Numbers, outward_3N: _Numbers, scale_mm: float, prior: _Numbers
) -> tuple[_Pose, float] | None:
    """One Gauss-Newton step on nine unknowns (centre, log half axes, turn); the new pose, and how much agrees."""
    axes = np.exp(pose.log_axes)[:, None]
    local = pose.rotation.T @ (points_3N - pose.centre_mm[:, None])
    scaled = local / axes
    radius = np.sqrt(_dot(scaled, scaled))
    weight = _in_band(scaled / np.maximum(radius, 1e-9)) * (radius > 1e-3)
    used = np.flatnonzero(weight)
    local, scaled, outward = local[:, used], scaled[:, used], outward_3N[:, used]
    radius, weight = radius[used], weight[used]
    directions = scaled / radius
    bulge, slope = _bulge(directions)
    slope = slope - _dot(slope, directions) * directions
    # The level is 1 on the surface; over its gradient's length it is a distance in mm.
    level = radius / bulge
    by_scaled = (directions - slope / bulge) / bulge
    normal = by_scaled / axes
    per_mm = np.sqrt(_dot(normal, normal))
    distance_mm = (level - 1) / per_mm
    turned_normal = pose.rotation @ normal
    # A line that grazes the surface finds it badly, and many such lines meet there.
    weight = weight * np.clip(_dot(turned_normal, outward) / per_mm, 0, 1) ** 2
    robust = weight / (1 + (distance_mm / scale_mm) ** 2) ** 2
    if robust.sum() < 10:
        return None
    jacobian_9N = -np.concatenate([turned_normal, scaled * by_scaled, _cross(local, normal)]) / per_mm
    angles = Rotation.from_matrix(pose.rotation).as_rotvec()
    unknowns = np.concatenate([np.zeros(3), pose.log_axes - np.log(_MEAN_HALF_AXES_MM), angles])
    left = (jacobian_9N * robust) @ jacobian_9N.T + prior + 1e-6 * np.eye(9)
    right = (jacobian_9N * robust) @ distance_mm + prior @ unknowns
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


def _seen(pose: _Pose, outline: Outline) -> float:
    """Share of the band's surface that lies within the field of view, by 500 directions spread evenly."""
    number = np.arange(500) + 0.5
    height = 1 - 2 * number / 500
    turn = np.pi * (1 + np.sqrt(5)) * number  # golden spiral
    flat = np.sqrt(1 - height**2)
    directions = np.stack([np.cos(turn) * flat, np.sin(turn) * flat, height])
    weight = _in_band(directions)
    bulge, _ = _bulge(directions)
    half_axes = np.exp(pose.log_axes)[:, None]
    surface_mm = pose.rotation @ (directions * bulge * half_axes) + pose.centre_mm[:, None]
    to_index = np.linalg.inv(outline.affine)
    index = to_index[:3, :3] @ surface_mm + to_index[:3, 3:]
    is_seen = ((index > 0) & (index < np.array(outline.inside.shape)[:, None] - 1)).all(axis=0)
    return float(weight[is_seen].sum() / weight.sum())
