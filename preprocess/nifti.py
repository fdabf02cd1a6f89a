"""Voxels as a NIfTI-1 file, for viewers and other programs; equal voxels give equal bytes."""

import gzip

import nibabel as nib
import numpy as np

from preprocess.types import Affine


def to_nifti(
    values_XYZ: np.ndarray,
    affine: Affine,
    *,
    says: str = "",
    window: tuple[float, float] | None = None,
    is_packed: bool = True,
) -> bytes:
    """A file that lies where `affine` puts it.

    Args:
        values_XYZ: 3D; float16, which NIfTI does not know, becomes float32.
        affine: voxel index to RAS+ mm; becomes sform and, as far as it has no shear, qform, with code 1 (scanner).
        says: what the values are, up to 79 letters of ASCII, for the header's `descrip`.
        window: lowest and highest value that a viewer shows at first; its own choice when not given.
        is_packed: whether to pack it with gzip, as `.nii.gz` is; no time is in the file.
    """
    values_XYZ = values_XYZ.astype(np.float32) if values_XYZ.dtype == np.float16 else values_XYZ
    image = nib.nifti1.Nifti1Image(values_XYZ, affine)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = says.encode("ascii")
    if window is not None:
        image.header["cal_min"], image.header["cal_max"] = window
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    data: bytes = image.to_bytes()
    return gzip.compress(data, mtime=0) if is_packed else data
