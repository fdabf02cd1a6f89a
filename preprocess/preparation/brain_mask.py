"""A brain mask that is given with a scan, made by any program: read, held against the scan, and applied to its voxels.

Not estimated here: skull-stripping is its own field, with programs that are good at it (SynthStrip, HD-BET, BET). The
mask may have any grid, as long as its header places it on the scan; it is applied before the one resampling.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocess.errors import ScanError
from preprocess.foreground import Millimetres
from preprocess.readers import read_nifti
from preprocess.types import Affine, Finding, Image, Voxels

_MOST_AWAY_MM = 40.0
"""From the middle of the skull's vault to that of the brain: 10 mm in the heads at hand; another space lies further."""
_LEAST_INSIDE = 0.9
_LEAST_ML, _MOST_ML = 300.0, 2500.0
"""A brain has 900 to 1,900 ml, of small children half; what is far beyond is a lesion's mask or a head's."""


@dataclass(frozen=True, slots=True)
class BrainMask:
    """Which voxels of a scan are brain.

    Attributes:
        is_brain_XYZ: on the mask's own voxels.
        affine: from these to the scan's RAS+ mm.
        volume_ml: brain in millilitres.
        sha256: digest of its file.
    """

    is_brain_XYZ: npt.NDArray[np.bool_]
    affine: Affine
    volume_ml: float
    sha256: str

    def outside_black(self, image: Image, black: float) -> Voxels:
        """The scan's voxels with `black`, rounded down, wherever the nearest voxel of the mask is no brain."""
        to_index = np.linalg.inv(self.affine) @ image.affine
        counts = image.voxels_XYZ.shape
        floor = np.floor(black) if image.voxels_XYZ.dtype.kind in "iu" else black
        masked: Voxels = np.full(counts, floor, dtype=image.voxels_XYZ.dtype)
        across = np.stack(np.meshgrid(np.arange(counts[0]), np.arange(counts[1]), indexing="ij")).reshape(2, -1)
        limits = np.array(self.is_brain_XYZ.shape)[:, None]
        for plane in range(counts[2]):  # one plane of places at a time: places of a whole head take 24 bytes a voxel
            places = to_index[:3, :2] @ across + (to_index[:3, 2] * plane + to_index[:3, 3])[:, None]
            index = np.rint(places).astype(np.intp)
            is_there = ((index >= 0) & (index < limits)).all(axis=0)
            i, j, k = np.where(is_there, index, 0)
            is_brain = (self.is_brain_XYZ[i, j, k] & is_there).reshape(counts[:2])
            masked[:, :, plane][is_brain] = image.voxels_XYZ[:, :, plane][is_brain]
        return masked


def read_mask(data: bytes, image: Image, centre_mm: Millimetres, *, name: str) -> BrainMask:
    """Decode a mask and hold it against its scan.

    Args:
        data: a NIfTI file; above one half is brain, in a mask of zeros and ones as in one of probabilities.
        image: the scan.
        centre_mm: middle of its head, in its RAS+ mm.
        name: what messages call the scan.

    Raises:
        ScanError: `mask_missing` for no bytes, `mask_unusable` for a file that is no mask of a brain, and
            `mask_elsewhere` for one that lies beside the head.
    """
    if not data:
        raise ScanError(
            Finding("mask_missing", f"{name}: no brain mask is given for it; add it to --masks, or leave the scan out")
        )
    try:
        mask = read_nifti(data, name=f"the mask of {name}")
    except ScanError as error:
        raise ScanError(Finding("mask_unusable", error.finding.message)) from error
    values = mask.voxels_XYZ
    if values.ndim != 3:
        raise _unusable(name, f"has {values.ndim} axes, expected 3")
    is_brain_XYZ = values > 0.5
    volume_ml = float(np.count_nonzero(is_brain_XYZ) * np.prod(mask.spacing_mm) / 1000)
    if not _LEAST_ML <= volume_ml <= _MOST_ML:
        raise _unusable(name, f"holds {volume_ml:.0f} ml, expected {_LEAST_ML:.0f} to {_MOST_ML:.0f} of a brain")
    places_mm = mask.affine[:3, :3] @ np.argwhere(is_brain_XYZ[::2, ::2, ::2]).T * 2 + mask.affine[:3, 3:]
    _require_on_head(places_mm, image, centre_mm, name)
    return BrainMask(is_brain_XYZ, mask.affine, volume_ml, hashlib.sha256(data).hexdigest())


def _require_on_head(places_mm: npt.NDArray[np.float64], image: Image, centre_mm: Millimetres, name: str) -> None:
    to_index = np.linalg.inv(image.affine)
    index = to_index[:3, :3] @ places_mm + to_index[:3, 3:]
    counts = np.array(image.voxels_XYZ.shape)[:, None]
    inside = float(((index > -0.5) & (index < counts - 0.5)).all(axis=0).mean())
    away_mm = float(np.linalg.norm(places_mm.mean(axis=1) - centre_mm))
    remedy = "give the mask in the scan's own space"
    if inside < _LEAST_INSIDE:
        message = f"{name}: {inside:.0%} of its brain mask lies within the scan, less than {_LEAST_INSIDE:.0%}"
        raise ScanError(Finding("mask_elsewhere", f"{message}; {remedy}"))
    if away_mm > _MOST_AWAY_MM:
        message = f"{name}: the middle of its brain mask lies {away_mm:.0f} mm from that of the head"
        raise ScanError(Finding("mask_elsewhere", f"{message}, more than {_MOST_AWAY_MM:.0f}; {remedy}"))


def _unusable(name: str, why: str) -> ScanError:
    return ScanError(Finding("mask_unusable", f"{name}: its brain mask {why}; give the right file"))
