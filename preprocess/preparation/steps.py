"""What is prepared for one scan before its one resampling: a rigid motion, the coil's shading, a brain mask.

Each is worked out on the scan as it is and only carried here, so that voxels are interpolated once: the motion joins
the scan's affine, the shading is divided out on the grid, and what lies outside the mask becomes black in the scan.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import map_coordinates

from preprocess.foreground import Millimetres
from preprocess.preparation.brain_mask import BrainMask
from preprocess.types import Affine, FloatArray


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a scan lies in a space that it shares with others.

    Attributes:
        to_common: rigid, 4 x 4, from the scan's RAS+ mm to the common space's.
        centre_mm: middle of the box there, the same for all who share it.
    """

    to_common: Affine
    centre_mm: Millimetres


@dataclass(frozen=True, slots=True)
class BiasField:
    """The coil's shading of one scan, smooth.

    Attributes:
        log_XYZ: logarithm of the shading, float32, on a coarse grid.
        affine: from that grid to the scan's RAS+ mm; diagonal.
        ratio: 95th percentile of the shading within the head over its 5th; 1 is none.
        iterations: steps done at the finest level.
    """

    log_XYZ: FloatArray
    affine: Affine
    ratio: float
    iterations: int

    def at(self, affine: Affine, grid: tuple[int, int, int]) -> FloatArray:
        """The shading, above 0, at the places of a grid; beyond the coarse grid that of its nearest edge.

        Args:
            affine: from the grid to the scan's RAS+ mm.
            grid: number of places along each axis.

        Returns:
            float32 of the grid's shape.
        """
        to_index = np.linalg.inv(self.affine) @ affine
        index = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij")).reshape(3, -1)
        places = to_index[:3, :3] @ index + to_index[:3, 3:]
        log = map_coordinates(self.log_XYZ, places, order=1, mode="nearest", prefilter=False)
        shading: FloatArray = np.exp(log).astype(np.float32).reshape(grid)
        return shading


@dataclass(frozen=True, slots=True)
class Steps:
    """What was prepared for one scan; None where the recipe asks for no such step, or the step failed."""

    pose: Pose | None = None
    bias: BiasField | None = None
    mask: BrainMask | None = None


NO_STEPS = Steps()
"""A scan as it is."""
