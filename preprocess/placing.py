"""What is estimated of a scan before it is resampled: black, what is too bright for tissue, and where the head lies."""

from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np

from preprocess.errors import ScanError
from preprocess.foreground import Millimetres, foreground_box, hot_limit, otsu_threshold, require_foreground
from preprocess.grey_levels import GreyLevels, GreyRange
from preprocess.head import doubts, find_head
from preprocess.preparation.face import require_no_face
from preprocess.recipe import VolumeRecipe
from preprocess.types import Finding, Image


@dataclass(frozen=True, slots=True)
class Placing:
    """A scan, and what was estimated of it.

    Attributes:
        image: its axes flipped and swapped towards R, A, S.
        kept: grey values that are kept; the lowest becomes 0.
        centre_mm: where the middle of the box goes, in the image's RAS+ mm.
        spacing_mm: edges of a voxel of the box.
        findings: remarks, none of which leaves the scan out.
    """

    image: Image
    kept: GreyRange
    centre_mm: Millimetres
    spacing_mm: Millimetres
    findings: tuple[Finding, ...]


def place(image: Image, recipe: VolumeRecipe, *, name: str) -> Placing:
    """Estimate a checked 3D image.

    Args:
        image: 3D, finite, of any orientation and spacing.
        recipe: grid, spacing and limits.
        name: what messages call the scan.

    Raises:
        ScanError: too little of the field of view is foreground, or a face is there and was said not to be.
    """
    image = closest_to_ras(image)
    # From here on black is 0, so that the padding outside the scan is black too, for signed data as well. One voxel of
    # 1e30 would take the whole volume with it as soon as anything is averaged.
    levels = GreyLevels.of(image.voxels_XYZ[::2, ::2, ::2])
    black = levels.percentile(recipe.intensity_percentiles[0])
    kept = GreyRange(black, max(hot_limit(levels), black))
    findings = _hot(image, kept.top, name)
    levels = levels.within(kept)
    threshold = otsu_threshold(levels)
    require_foreground(levels, threshold, min_fraction=recipe.quality.min_foreground, name=name)
    if recipe.field_of_view == "stretched":
        low_mm, high_mm = foreground_box(image, threshold, kept)
        centre_mm: Millimetres = (low_mm + high_mm) / 2
        if (high_mm - low_mm).min() <= 0:
            raise ScanError(Finding("empty", f"{name}: the foreground is flat, no box can be stretched; see the scan"))
        spacing_mm: Millimetres = (high_mm - low_mm) / np.asarray(recipe.grid)
    else:
        spacing_mm = np.full(3, recipe.spacing_mm)
        head = find_head(image, kept)
        findings += doubts(head, name=name)
        if recipe.quality.defaced and head is not None:
            require_no_face(image, head, kept, threshold, name=name)
        centre_mm = np.mean(foreground_box(image, threshold, kept), axis=0) if head is None else head.centre_mm
    return Placing(image, kept, centre_mm, spacing_mm, tuple(findings))


def _hot(image: Image, limit: float, name: str) -> list[Finding]:
    highest = float(image.voxels_XYZ.max())
    if highest <= limit:
        return []
    num_hot = int(np.count_nonzero(image.voxels_XYZ > limit))
    message = f"{name}: {num_hot} voxels above {limit:.3g}, up to {highest:.3g}, are no tissue and are cut there"
    return [Finding("hot_voxels", message, leaves_out=False)]


def closest_to_ras(image: Image) -> Image:
    """The same voxels with their axes flipped and swapped towards R, A, S: a view.

    What is estimated on every second voxel then does not depend on the order in which a scanner stored them.
    """
    orientation = nib.orientations.io_orientation(image.affine)
    voxels_XYZ = nib.orientations.apply_orientation(image.voxels_XYZ, orientation)
    affine = image.affine @ nib.orientations.inv_ornt_aff(orientation, image.voxels_XYZ.shape)
    return replace(image, voxels_XYZ=voxels_XYZ, affine=affine)
