"""Turns layers of level functions into voxels: coarse nodes, cubic interpolation, soft edges.

A layer's functions are smooth, so they are evaluated on nodes a few millimetres apart that lie along the scanner's
axes and interpolated to voxels (Keys 1981, a = -1/2, third order) by three small matrix products. Everything with a
kink (edges, sulci, minima) is done after that, at voxel resolution. Slabs of a few slices keep the working set in the
processor's cache.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from interscan.synthetic.pose import Pose
from preprocess.types import FloatArray

Fields = Callable[[FloatArray, float], FloatArray]

Shade = Callable[[FloatArray, float], Iterable[tuple[int, FloatArray]]]

_SLAB_VOXELS = 40_000
"""Voxels of a slab times fields of a layer stay near 1 MB of float32: the second-level cache of a common core."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A scanner's voxel lattice, axes along R, A and S.

    Attributes:
        shape_XYZ: number of voxels.
        spacing_mm: edge lengths.
        origin_mm: centre of voxel (0, 0, 0).
    """

    shape_XYZ: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    origin_mm: tuple[float, float, float]

    @property
    def affine(self) -> npt.NDArray[np.float64]:
        """Voxel index to RAS+ millimetres."""
        affine = np.diag([*self.spacing_mm, 1.0])
        affine[:3, 3] = self.origin_mm
        return affine


@dataclass(frozen=True, slots=True)
class Layer:
    """One set of structures, painted over what lies below.

    Attributes:
        low_mm: lower corner of a box in head coordinates that holds all of it.
        high_mm: upper corner.
        node_mm: distance between nodes; a sixth of the finest wavelength or less.
        fields: head coordinates (3, X, Y, Z) and node_mm to smooth level functions (K, X, Y, Z).
        shade: level functions (K, x, Y, Z) at voxels and the voxel edge in mm to (tissue, coverage) in painting order.
    """

    low_mm: tuple[float, float, float]
    high_mm: tuple[float, float, float]
    node_mm: float
    fields: Fields
    shade: Shade


def paint(layers: Sequence[Layer], grid: Grid, pose: Pose, colours: npt.NDArray[np.float32]) -> FloatArray:
    """Paint layers over each other, each structure covering what is below it by its share of the voxel.

    Painting is linear in the colours: with 1 for one tissue and 0 for the others the result is that tissue's fraction.

    Args:
        layers: from the lowest to the topmost.
        grid: voxels to fill.
        pose: where the head lies.
        colours: value of each tissue, indexed by tissue number; number 0 (air) fills the background.

    Returns:
        float32 (X, Y, Z).
    """
    picture_XYZ = np.full(grid.shape_XYZ, colours[0], np.float32)
    edge_mm = float(np.prod(grid.spacing_mm)) ** (1 / 3)
    for layer in layers:
        for window, values_KXYZ in _slabs(layer, grid, pose):
            view_XYZ = picture_XYZ[window]
            for tissue, share_XYZ in layer.shade(values_KXYZ, edge_mm):
                view_XYZ += share_XYZ * (colours[tissue] - view_XYZ)
    return picture_XYZ


def upsample(nodes_XYZ: FloatArray, node_mm: float, first_node_mm: Sequence[float], grid: Grid) -> FloatArray:
    """Interpolate one smooth field from nodes to all voxels of a grid.

    Args:
        nodes_XYZ: values at nodes that cover the grid and two more nodes on each side.
        node_mm: distance between nodes.
        first_node_mm: position of node (0, 0, 0) in scanner coordinates.
        grid: where to.

    Returns:
        float32 (X, Y, Z).
    """
    x, y, z = (
        _interpolation(_centres(grid, axis), first_node_mm[axis], node_mm, nodes_XYZ.shape[axis]) for axis in range(3)
    )
    rows = np.tensordot(x, nodes_XYZ, axes=(1, 0))
    full: FloatArray = ((y @ rows) @ z.T).astype(np.float32, copy=False)
    return full


def _slabs(layer: Layer, grid: Grid, pose: Pose) -> Iterator[tuple[tuple[slice, slice, slice], FloatArray]]:
    """Windows of the grid that a layer may touch, with its fields (K, x, Y, Z) at their voxels."""
    corners = np.array(
        [[layer.low_mm[0], layer.high_mm[0]], [layer.low_mm[1], layer.high_mm[1]], [layer.low_mm[2], layer.high_mm[2]]]
    )
    corners_38 = np.stack(np.meshgrid(*corners, indexing="ij")).reshape(3, 8)
    placed_38 = pose.rotation @ corners_38 + pose.shift_mm[:, None]
    spans: list[slice] = []
    centres: list[npt.NDArray[np.float64]] = []
    for axis in range(3):
        along = _centres(grid, axis)
        inside = np.flatnonzero((along >= placed_38[axis].min()) & (along <= placed_38[axis].max()))
        if inside.size == 0:
            return
        spans.append(slice(int(inside[0]), int(inside[-1]) + 1))
        centres.append(along[spans[-1]])
    node_mm = layer.node_mm
    first = [float(along[0]) - 2 * node_mm for along in centres]
    counts = [int(np.ceil((along[-1] - along[0]) / node_mm)) + 5 for along in centres]
    axes = [first[axis] + node_mm * np.arange(counts[axis]) - pose.shift_mm[axis] for axis in range(3)]
    to_head = pose.rotation.T
    head_3XYZ = np.empty((3, *counts), np.float32)
    for i in range(3):
        head_3XYZ[i] = (
            (to_head[i, 0] * axes[0])[:, None, None] + (to_head[i, 1] * axes[1])[:, None] + to_head[i, 2] * axes[2]
        )
    fields_KXYZ = layer.fields(head_3XYZ, node_mm)
    x, y, z = (_interpolation(centres[axis], first[axis], node_mm, counts[axis]) for axis in range(3))
    step = max(1, _SLAB_VOXELS // (y.shape[0] * z.shape[0]))
    for start in range(0, x.shape[0], step):
        weights = x[start : start + step]
        used = np.flatnonzero(weights.any(axis=0))
        band = slice(int(used[0]), int(used[-1]) + 1)
        rows_KxYZ = np.moveaxis(np.tensordot(weights[:, band], fields_KXYZ[:, band], axes=(1, 1)), 0, 1)
        values_KxYZ: FloatArray = ((y @ rows_KxYZ) @ z.T).astype(np.float32, copy=False)
        at = spans[0].start + start
        yield (slice(at, at + weights.shape[0]), spans[1], spans[2]), values_KxYZ


def _centres(grid: Grid, axis: int) -> npt.NDArray[np.float64]:
    return np.arange(grid.shape_XYZ[axis], dtype=np.float64) * grid.spacing_mm[axis] + grid.origin_mm[axis]


def _interpolation(at_mm: npt.NDArray[np.float64], first_mm: float, node_mm: float, num_nodes: int) -> FloatArray:
    """Matrix (voxels, nodes) of Keys' cubic convolution along one axis."""
    position = (at_mm - first_mm) / node_mm
    distance = np.abs(position[:, None] - np.arange(num_nodes))
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0)).astype(np.float32)
