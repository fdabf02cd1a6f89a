"""The grey values of a scan in ascending order: every order statistic from one pass.

8- and 16-bit integers are counted in one histogram, anything else is sorted; percentiles are those of
`numpy.percentile` (linear interpolation) either way. A monotonic change of the grey values, such as putting black at 0,
is applied to the distinct values and not to the voxels.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from preprocess.types import FloatArray

_COUNTED_BYTES = 2
"""Integers up to this size have so few values that counting is cheaper than sorting."""


@dataclass(frozen=True, slots=True)
class GreyRange:
    """What of the grey values is kept: `black` becomes 0, and what lies outside goes to the nearer end.

        dark_XYZ = GreyRange(black=3.5, top=900.0).of(voxels_XYZ)

    Attributes:
        black: grey value that becomes 0.
        top: highest grey value, not below `black`.
    """

    black: float = 0.0
    top: float = float("inf")

    def of(self, voxels: npt.NDArray[Any], out: FloatArray | None = None) -> FloatArray:
        """`clip(voxels, black, top) - black` as float32, in the memory order of the voxels.

        Args:
            voxels: any shape.
            out: same shape, written where given.
        """
        values = np.empty_like(voxels, dtype=np.float32, subok=False) if out is None else out
        np.copyto(values, voxels)
        np.clip(values, np.float32(self.black), np.float32(self.top), out=values)
        return np.subtract(values, np.float32(self.black), out=values)


WHOLE_RANGE = GreyRange()
"""Negative values become 0, and nothing else changes."""


@dataclass(frozen=True, slots=True)
class GreyLevels:
    """Grey values and how many voxels have none above them.

        levels = GreyLevels.of(voxels_XYZ[::2, ::2, ::2])
        levels.percentile(99.5)

    Attributes:
        values_V: ascending, float64 where they were integers, else the voxels' own type.
        ends_V: number of voxels up to and including each value, the last being all.
    """

    values_V: npt.NDArray[np.floating[Any]]
    ends_V: npt.NDArray[np.int64]

    @classmethod
    def of(cls, voxels: npt.NDArray[Any]) -> Self:
        """The levels of an array of any shape with at least one element, none of them NaN."""
        flat = voxels.ravel(order="K")
        if flat.dtype.kind in "iu" and flat.dtype.itemsize <= _COUNTED_BYTES:
            lowest = int(np.iinfo(flat.dtype).min)
            places = flat.astype(np.intp)
            counts = np.bincount(places - lowest if lowest else places)
            used = np.flatnonzero(counts)
            return cls((used + lowest).astype(np.float64), np.cumsum(counts[used]))
        ascending = np.sort(flat)
        if ascending.dtype.kind != "f":
            ascending = ascending.astype(np.float64)
        return cls(ascending, np.arange(1, len(ascending) + 1))

    @property
    def num_voxels(self) -> int:
        """How many voxels were looked at."""
        return int(self.ends_V[-1])

    def percentile(self, percent: float) -> float:
        """Linear between the two nearest voxels, as `numpy.percentile` (method 7 of Hyndman and Fan 1996)."""
        place = percent / 100 * (self.num_voxels - 1)
        below = int(place)
        low, high = (self._at(number) for number in (below, min(below + 1, self.num_voxels - 1)))
        return low + (high - low) * (place - below)

    def num_above(self, threshold: float) -> int:
        """How many voxels lie above a grey value."""
        first = int(np.searchsorted(self.values_V, threshold, side="right"))
        return self.num_voxels - (int(self.ends_V[first - 1]) if first else 0)

    def num_within(self, low: float, high: float) -> int:
        """How many voxels v have low <= v < high."""
        start, stop = (int(number) for number in np.searchsorted(self.values_V, (low, high)))
        return self._up_to(stop) - self._up_to(start)

    def within(self, kept: GreyRange) -> "GreyLevels":
        """The levels after `kept.of(voxels)`."""
        return GreyLevels(kept.of(self.values_V), self.ends_V)

    def histogram(self, edges: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.int64]:
        """Voxels in each bin [edge, next edge), the last bin closed, as `numpy.histogram`."""
        stops = np.searchsorted(self.values_V, edges)
        stops[-1] = np.searchsorted(self.values_V, edges[-1], side="right")
        return np.diff(np.concatenate([[0], self.ends_V])[stops])

    def _at(self, number: int) -> float:
        """The grey value of the voxel of that number in ascending order, from 0."""
        return float(self.values_V[np.searchsorted(self.ends_V, number, side="right")])

    def _up_to(self, stop: int) -> int:
        return int(self.ends_V[stop - 1]) if stop else 0
