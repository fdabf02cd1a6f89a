"""Level functions in millimetres: negative inside, zero on the surface, about the distance elsewhere.

Points are arrays (3, P) or (3, X, Y, Z), float32; every function answers an array without the first axis. Distances to
ellipsoids are first-order (exact at the surface), which is enough for edges one voxel wide.
"""

from collections.abc import Sequence

import numpy as np

from preprocess.types import FloatArray

Point = tuple[float, float, float]


def ellipsoid(points_3P: FloatArray, centre_mm: Point, radii_mm: Point) -> FloatArray:
    """First-order signed distance to an axis-aligned ellipsoid.

    Args:
        points_3P: where, in mm.
        centre_mm: its centre.
        radii_mm: its three half-axes.

    Returns:
        f (f - 1) / |grad| with f the radius relative to the surface; minus the smallest half-axis at the very centre.
    """
    scaled = [(points_3P[i] - np.float32(centre_mm[i])) / np.float32(radii_mm[i]) for i in range(3)]
    relative = np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2)
    slope = np.sqrt(sum((scaled[i] / np.float32(radii_mm[i])) ** 2 for i in range(3)))
    floor = np.float32(1e-6)
    distance: FloatArray = relative * (relative - 1) / np.maximum(slope, floor)
    return np.where(relative < 1e-4, np.float32(-min(radii_mm)), distance)


def tube(points_3P: FloatArray, knots_mm: Sequence[Point], radii_mm: Sequence[float]) -> FloatArray:
    """Distance to a chain of cones: a tube through knots whose radius changes linearly between them.

    Args:
        points_3P: where, in mm.
        knots_mm: at least two points along the axis.
        radii_mm: radius at each knot.

    Returns:
        The smallest distance over the pieces, minus the local radius.
    """
    best: FloatArray | None = None
    for start, end, radius, next_radius in zip(knots_mm, knots_mm[1:], radii_mm, radii_mm[1:], strict=False):
        axis = np.subtract(end, start).astype(np.float32)
        from_start = [points_3P[i] - np.float32(start[i]) for i in range(3)]
        along = sum(from_start[i] * axis[i] for i in range(3)) / np.float32(axis @ axis)
        along = np.clip(along, 0, 1)
        squared = sum((from_start[i] - along * axis[i]) ** 2 for i in range(3))
        piece: FloatArray = np.sqrt(squared) - (np.float32(radius) + along * np.float32(next_radius - radius))
        best = piece if best is None else np.minimum(best, piece)
    if best is None:
        raise ValueError(f"a tube needs two knots or more, not {len(knots_mm)}")
    return best


def union(*levels: FloatArray, blend_mm: float = 0.0) -> FloatArray:
    """Union of shapes, with creases rounded over `blend_mm`.

    Args:
        levels: level functions of one shape.
        blend_mm: width of the polynomial blend (0: the plain minimum). A blend of b adds at most b / 4 at a crease.

    Returns:
        Level function of the union.
    """
    joined = levels[0]
    for level in levels[1:]:
        if blend_mm > 0:
            weight = np.maximum(np.float32(blend_mm) - np.abs(joined - level), 0) / np.float32(blend_mm)
            joined = np.minimum(joined, level) - weight * weight * np.float32(blend_mm / 4)
        else:
            joined = np.minimum(joined, level)
    return joined


def mirrored(points_3P: FloatArray) -> FloatArray:
    """The points folded onto the right half (x >= 0), so that one shape stands for a pair."""
    folded = points_3P.copy()
    np.abs(folded[0], out=folded[0])
    return folded


def coverage(level: FloatArray, edge_mm: float) -> FloatArray:
    """Share of a voxel inside a shape: a linear ramp one voxel wide, exact for a flat surface along the grid.

    Args:
        level: level function at voxel centres, any shape.
        edge_mm: voxel edge length.

    Returns:
        0..1, of the same shape.
    """
    share = level * np.float32(-1 / edge_mm)
    share += np.float32(0.5)
    np.clip(share, 0, 1, out=share)
    return share
