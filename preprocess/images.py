"""Bytes of a volume's file in, image out, whatever it is: NIfTI, a zip of one DICOM series, or an enhanced DICOM file.

The only reader of batch jobs and of the service, so that both take the same files and see the same voxels.
"""

from preprocess.dicom_series import read_series
from preprocess.dicom_zip import ZIP_MAGIC, unpack
from preprocess.header_geometry import Believed
from preprocess.readers import read_nifti
from preprocess.types import MAX_VOXELS, Image


def read_image(data: bytes, *, name: str, max_voxels: int = MAX_VOXELS, believed: Believed = "agreeing") -> Image:
    """Decode a scan.

    Args:
        data: the whole file.
        name: what messages call the scan.
        max_voxels: refuse what promises more voxels than this, before any is unpacked.
        believed: which of two placements in space is taken in NIfTI; see `header_geometry`.

    Raises:
        ScanError: as `read_nifti`, `unpack` and `read_series`; a single slice is `too_few_slices`.
        UsageError: DICOM, and pydicom or a decoder is not installed.
    """
    if data.startswith(ZIP_MAGIC):
        return read_series(unpack(data, name=name, max_voxels=max_voxels), name=name, max_voxels=max_voxels)
    if data[128:132] == b"DICM":
        return read_series([data], name=name, max_voxels=max_voxels)
    return read_nifti(data, name=name, max_voxels=max_voxels, believed=believed)
