"""Whether a scan that is said to be defaced still shows a face: how much tissue lies where nose, cheeks and mouth are.

Looked for in a block fixed to the skull's vault, in front of and below all brain. Defacing programs that blank the face
(mri_deface, pydeface, quickshear, fsl_deface) leave it black; a face that was replaced by another one (afni_refacer)
is tissue there, and is named too.
"""

import numpy as np
from scipy.ndimage import map_coordinates

from preprocess.errors import ScanError
from preprocess.grey_levels import GreyRange
from preprocess.head import Head
from preprocess.types import Finding, Image

_BLOCK_MM = ((-48.0, 48.0), (60.0, 132.0), (-94.0, -38.0))
"""Right, anterior, superior of the vault's middle; the brain's lowest and foremost parts end 8 mm above it."""
_STEP_MM = 4.0
_MOST_ML = 10.0
"""Twelve real scans that were defaced have 0 to 1 ml of tissue there, four with their face 128 to 219, and one of which
the picture ends at the nose 23."""


def require_no_face(image: Image, head: Head, kept: GreyRange, threshold: float, *, name: str) -> None:
    """Refuse a scan that shows a face.

    Args:
        image: 3D.
        head: where its head lies.
        kept: grey values that are kept.
        threshold: grey value above which, after `kept`, a voxel is tissue.
        name: what the message calls the scan.

    Raises:
        ScanError: `face_present`.
    """
    tissue_ml = face_ml(image, head, kept, threshold)
    if tissue_ml > _MOST_ML:
        message = f"{name}: {tissue_ml:.0f} ml of tissue where its face would be, more than {_MOST_ML:.0f}"
        remedy = "deface it, or take quality.defaced out of the recipe if faces may be in the store"
        raise ScanError(Finding("face_present", f"{message}; {remedy}"))


def face_ml(image: Image, head: Head, kept: GreyRange, threshold: float) -> float:
    """Tissue where a face would be, in millilitres; arguments as for `require_no_face`."""
    ticks = [np.arange(low, high + 1, _STEP_MM) for low, high in _BLOCK_MM]
    places_3N = np.stack(np.meshgrid(*ticks, indexing="ij")).reshape(3, -1)
    to_index = np.linalg.inv(image.affine)
    places_mm = head.rotation_33 @ places_3N + head.centre_mm[:, None]
    index_3N = to_index[:3, :3] @ places_mm + to_index[:3, 3:]
    values_N = map_coordinates(image.voxels_XYZ, index_3N, output=np.float32, order=1, prefilter=False, cval=kept.black)
    num_tissue = np.count_nonzero(kept.of(values_N) > threshold)
    return float(num_tissue * _STEP_MM**3 / 1000)
