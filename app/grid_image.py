"""Prepared volumes and maps as NIfTI files in one frame, the model's own grid, so that a viewer lays them over another.

The frame is RAS+ millimetres from the middle of the grid. Heads are centred in it by preprocessing, so both scans of a
pair and the map of their change have one crosshair; the scanner's own coordinates do not, since nobody lies in the same
place twice.
"""

import numpy as np
import numpy.typing as npt

from app.change_map import Floats, told_shares
from app.inputs import PreparedScan
from app.registry import LoadedModel
from preprocess.nifti import to_nifti
from preprocess.recipe import VolumeRecipe
from preprocess.transforms import grid_affine
from preprocess.voxel_shares import density_per_cm3

STRONGEST_PERCENTILE = 99.5
"""Which percentile of the map's absolute values where it is not 0 a viewer shows in the strongest colour; single
voxels may lie far beyond it."""
_FAINTEST = 0.15
"""Below this part of the strongest a viewer shows nothing: noise of both scans is everywhere."""


def volume_nifti(scan: PreparedScan, recipe: VolumeRecipe) -> bytes:
    """What the model sees of a scan.

    Args:
        scan: prepared with `recipe`.
        recipe: gives grid and spacing.

    Returns:
        `.nii.gz` in the recipe's stored type, shape (D, H, W) along right, anterior, superior.
    """
    return _packed(scan.voxels_CDHW[0], recipe, "as the model sees it")


def map_nifti(model: LoadedModel, earlier: PreparedScan, later: PreparedScan) -> bytes:
    """Where the told change lies, in the frame of `volume_nifti`.

    Args:
        model: tells a change in points.
        earlier: prepared.
        later: prepared.

    Returns:
        `.nii.gz`, float32, points of the score per cm3, positive where a voxel speaks for improvement. The header's
        `cal_min` and `cal_max` are the window to show it in, both ways.

    Raises:
        ArtefactError: the model tells no change in points.
    """
    recipe = model.manifest.inputs.volume_recipe
    shares_DHW = told_shares(model, earlier.voxels_CDHW, later.voxels_CDHW)
    density_DHW = density_per_cm3(shares_DHW, np.full(3, recipe.spacing_mm))
    return _packed(density_DHW.astype(np.float32), recipe, "points of the score per cm3", window=_window(density_DHW))


def _window(density_DHW: Floats) -> tuple[float, float]:
    size = np.abs(density_DHW)
    size = size[size > 0]
    strongest = float(np.percentile(size, STRONGEST_PERCENTILE)) if size.size else 0.0
    return _FAINTEST * strongest, strongest


def _packed(
    values_DHW: npt.NDArray[np.generic], recipe: VolumeRecipe, what: str, window: tuple[float, float] | None = None
) -> bytes:
    affine = grid_affine(np.zeros(3), recipe.grid, np.full(3, recipe.spacing_mm))
    return to_nifti(values_DHW, affine, says=what, window=window)
