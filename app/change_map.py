"""Where two scans differ for the model: the told change shared out over the voxels, in the later scan's own space.

How it is shared out is in `preprocess.voxel_shares`.
"""

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform

from app.inputs import PreparedScan
from app.registry import LoadedModel
from preprocess.console import LOG
from preprocess.errors import UsageError
from preprocess.images import read_image
from preprocess.nifti import to_nifti
from preprocess.storage import Location, split_file
from preprocess.types import Affine, FloatArray, Image
from preprocess.voxel_shares import density_per_cm3, voxel_shares

Floats = npt.NDArray[np.float64]
_UNIT = "points of the score per cm3"


def told_shares(
    model: LoadedModel, earlier_CDHW: npt.NDArray[np.generic], later_CDHW: npt.NDArray[np.generic]
) -> Floats:
    """Share of each voxel in the change that a model tells, in points of the score, shape (D, H, W).

    Args:
        model: tells a change in points.
        earlier_CDHW: prepared volume, in its stored dtype.
        later_CDHW: the same of the later scan.

    Raises:
        ArtefactError: the model tells no change in points.
    """
    direction_E = model.require_points(f"{model.manifest.name} {model.manifest.version}")
    return voxel_shares(lambda part: model.engine.share_of_line(earlier_CDHW, later_CDHW, part, direction_E))


def in_scan_space(shares_DHW: Floats, grid_to_mm: Affine, scan: Image) -> FloatArray:
    """The shares as points per cm3 on a scan's own voxels; its sum times the voxels' volume is the told change.

    Args:
        shares_DHW: from `told_shares`.
        grid_to_mm: affine of the prepared volume, grid index to the scan's millimetres.
        scan: as read; gives shape and affine.

    Returns:
        float32, the scan's shape; 0 outside the grid.
    """
    edges_mm = np.linalg.norm(grid_to_mm[:3, :3], axis=0)
    density_DHW = density_per_cm3(shares_DHW, edges_mm)
    to_grid = np.linalg.inv(grid_to_mm) @ scan.affine
    found = affine_transform(
        density_DHW, to_grid[:3, :3], to_grid[:3, 3], output_shape=scan.voxels_XYZ.shape, order=1, mode="constant"
    )
    density_XYZ: FloatArray = found.astype(np.float32)
    return density_XYZ


def require_map(out: str) -> None:
    """Refuse a name that is none of a NIfTI file.

    Raises:
        UsageError: another ending, or a folder.
    """
    _, name = split_file(out, example="map.nii.gz")
    if not name.endswith((".nii", ".nii.gz")):
        raise UsageError(f"{out}: a map is a NIfTI file; end its name with .nii or .nii.gz")


def write_map(model: LoadedModel, earlier: PreparedScan, later: PreparedScan, later_file: bytes, out: str) -> None:
    """Map the told change of a pair and write it beside nothing else.

    Args:
        model: tells a change in points.
        earlier: prepared from its file.
        later: prepared from its file.
        later_file: that file; its shape and affine are the map's.
        out: `.nii` or `.nii.gz`, path or URL.

    Raises:
        ArtefactError: the model tells no change in points.
        UsageError: `out` names no NIfTI file.
        StorageError: it cannot be written.
    """
    require_map(out)
    recipe = model.manifest.inputs.volume_recipe
    scan = read_image(later_file, name="later", believed=recipe.orientation)
    shares_DHW = told_shares(model, earlier.voxels_CDHW, later.voxels_CDHW)
    density_XYZ = in_scan_space(shares_DHW, np.array(later.affine).reshape(4, 4), scan)
    folder, name = split_file(out, example="map.nii.gz")
    Location(folder).write(name, to_nifti(density_XYZ, scan.affine, says=_UNIT, is_packed=name.endswith(".gz")))
    LOG.info("map of %+.2f points, positive where it speaks for improvement: %s", shares_DHW.sum(), out)
