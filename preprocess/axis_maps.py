"""Smoothing and linear interpolation along the axes of a grid: one banded linear map an axis.

A sample at position p of an axis is the linear interpolation of the axis smoothed by a Gaussian. Both are linear, so
together they are a few weights on the voxels around p, and no voxel is smoothed that no sample needs. The sums are
elementwise products and additions in float32 in a fixed order: the same bits for any memory order of the voxels, on
any processor and with any number of threads.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocess.grey_levels import GreyRange
from preprocess.types import FloatArray

TRUNCATE = 2.5
"""Reach of the Gaussian, in standard deviations."""


@dataclass(frozen=True, slots=True)
class AxisMap:
    """What each of K samples takes from the N voxels of an axis.

    Attributes:
        voxels_KT: indices of the voxels, T for each sample, from 0 to N - 1; one may occur more than once.
        weights_KT: their weights, float32; they sum to 1 where the sample lies within the axis, to 0 far from it.
    """

    voxels_KT: npt.NDArray[np.intp]
    weights_KT: FloatArray

    @property
    def reach(self) -> slice:
        """The voxels that some sample takes from; empty where none does."""
        used = self.voxels_KT[self.weights_KT != 0]
        return slice(int(used.min()), int(used.max()) + 1) if used.size else slice(0, 0)

    def after(self, start: int) -> "AxisMap":
        """The same map for an axis whose first `start` voxels were cut off."""
        return AxisMap(np.maximum(self.voxels_KT - start, 0), self.weights_KT)

    def reversed(self, num_voxels: int) -> "AxisMap":
        """The same map for the voxels in reverse order; each sample adds them up in the order it did."""
        return AxisMap(num_voxels - 1 - self.voxels_KT, self.weights_KT)


def axis_map(num_voxels: int, positions_K: npt.NDArray[np.float64], sigma: float) -> AxisMap:
    """Smoothing, then linear interpolation.

    Args:
        num_voxels: length N of the axis.
        positions_K: where the samples lie, in voxels, ascending; what lies outside 0..N - 1 is 0, and between the last
            voxel and one beyond it the value falls to 0 in a straight line.
        sigma: standard deviation of the Gaussian in voxels, 0 for none; it goes on with the nearest voxel outside.
    """
    radius = int(TRUNCATE * sigma + 0.5)
    kernel = np.ones(1)
    if sigma > 0:
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        kernel /= kernel.sum()
    lower_K = np.floor(positions_K)
    share_K = positions_K - lower_K
    # Two neighbours share a sample, and each of them is a weighted sum around itself.
    weights_KT = np.zeros((len(positions_K), 2 * radius + 2))
    for neighbour, part_K in ((0, 1 - share_K), (1, share_K)):
        is_there_K = (lower_K + neighbour >= 0) & (lower_K + neighbour <= num_voxels - 1)
        weights_KT[:, neighbour : neighbour + 2 * radius + 1] += np.where(is_there_K, part_K, 0.0)[:, None] * kernel
    voxels_KT = lower_K[:, None] + np.arange(-radius, radius + 2)
    return AxisMap(np.clip(voxels_KT, 0, num_voxels - 1).astype(np.intp), weights_KT.astype(np.float32))


def apply_axis_maps(
    voxels_XYZ: npt.NDArray[np.generic], maps: tuple[AxisMap, AxisMap, AxisMap], kept: GreyRange
) -> FloatArray:
    """Apply one map to each axis of a scan.

    The last axis goes first, as its planes lie together in most files: one plane at a time is made float32, so that a
    scan of 16-bit integers is never copied as a whole.

    Args:
        voxels_XYZ: any integers or float32, in any memory order.
        maps: one for each axis.
        kept: grey values that are mapped.

    Returns:
        float32, shape (K of the first map, of the second, of the third).
    """
    over_x, over_y, over_z = maps
    num_x, num_y, num_z = (len(one.voxels_KT) for one in maps)
    reach = tuple(one.reach for one in maps)
    needed_XYZ = voxels_XYZ[reach]
    if needed_XYZ.size == 0:
        return np.zeros((num_x, num_y, num_z), np.float32)
    over_x, over_y, over_z = (one.after(part.start) for one, part in zip(maps, reach, strict=True))
    # Numpy converts lines that run backwards in memory one voxel at a time.
    if needed_XYZ.strides[0] < 0:
        needed_XYZ, over_x = needed_XYZ[::-1], over_x.reversed(needed_XYZ.shape[0])
    if needed_XYZ.strides[1] < 0:
        needed_XYZ, over_y = needed_XYZ[:, ::-1], over_y.reversed(needed_XYZ.shape[1])
    # Each step turns the axis that is next to the front, so that its planes are contiguous. Of an oblique scan each is
    # as large as the scan, so no more than two are there at once.
    second_XYZ = _over_y(over_y, _over_z(over_z, needed_XYZ, kept))
    third_XYZ = np.empty((num_x, num_y, num_z), np.float32)
    _apply(over_x, second_XYZ.__getitem__, third_XYZ.__getitem__)
    return third_XYZ


def _over_z(over_z: AxisMap, voxels_XYZ: npt.NDArray[np.generic], kept: GreyRange) -> FloatArray:
    num_x, num_y, _ = voxels_XYZ.shape
    first_YZX = np.empty((num_y, len(over_z.voxels_KT), num_x), np.float32)
    _apply(over_z, _Planes(voxels_XYZ, kept, over_z.voxels_KT.shape[1]).at, lambda k: first_YZX[:, k].T)
    return first_YZX


def _over_y(over_y: AxisMap, first_YZX: FloatArray) -> FloatArray:
    _, num_z, num_x = first_YZX.shape
    second_XYZ = np.empty((num_x, len(over_y.voxels_KT), num_z), np.float32)
    _apply(over_y, first_YZX.__getitem__, lambda k: second_XYZ[:, k].T)
    return second_XYZ


class _Planes:
    """Planes of a scan along its last axis as float32; as many are held as one sample takes, since neighbours share."""

    def __init__(self, voxels_XYZ: npt.NDArray[np.generic], kept: GreyRange, num_held: int) -> None:
        self._voxels_XYZ = voxels_XYZ
        self._kept = kept
        self._num_held = num_held
        self._held: dict[int, FloatArray] = {}

    def at(self, number: int) -> FloatArray:
        if number not in self._held:
            # Samples ascend, so the lowest of a full set lies below all that this sample takes: its memory is free.
            spare = self._held.pop(min(self._held)) if len(self._held) >= self._num_held else None
            self._held[number] = self._kept.of(self._voxels_XYZ[:, :, number], spare)
        return self._held[number]


def _apply(axis: AxisMap, plane_of: Callable[[int], FloatArray], place_of: Callable[[int], FloatArray]) -> None:
    """Write the weighted sum of planes of each sample to its place."""
    total, product = None, None
    for k, (voxels_T, weights_T) in enumerate(zip(axis.voxels_KT.tolist(), axis.weights_KT, strict=True)):
        taken = [(voxel, weight) for voxel, weight in zip(voxels_T, weights_T, strict=True) if weight != 0]
        place = place_of(k)
        if not taken:
            place[...] = 0
            continue
        planes = [plane_of(voxel) for voxel, _ in taken]
        if total is None or product is None:
            total, product = np.empty_like(planes[0]), np.empty_like(planes[0])
        np.multiply(planes[0], taken[0][1], out=total)
        for plane, (_, weight) in zip(planes[1:], taken[1:], strict=True):
            np.multiply(plane, weight, out=product)
            np.add(total, product, out=total)
        place[...] = total
