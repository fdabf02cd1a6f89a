"""Bytes of a NIfTI file in, image out; whatever is wrong with the file becomes one finding.

nibabel reads without complaint a file with a bad gzip checksum, trailing garbage, zero or NaN voxel sizes, a NaN slope
or a singular affine; each is refused here. Header extensions and free-text fields are never carried on: they are where
names of people hide.
"""

import gzip
import zlib

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from preprocess.errors import ScanError
from preprocess.types import Finding, Image

_GZIP_MAGIC = b"\x1f\x8b"
_MAX_VOXELS = 2**28
"""1 GiB as float32, ten times a 0.8 mm head: a header that asks for more is a bad or hostile file."""
_READABLE = {"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64", "int64", "uint64"}


def read_nifti(data: bytes, *, name: str, max_voxels: int = _MAX_VOXELS) -> Image:
    """Decode a NIfTI-1 or NIfTI-2 file, gzipped or not.

    Args:
        data: the whole file.
        name: what messages call the scan.
        max_voxels: refuse a header that promises more voxels than this, before any is unpacked.

    Returns:
        The image with slope and intercept applied; 3D or 4D as on disk (trailing axes of length 1 dropped).

    Raises:
        ScanError: the file is not a whole, sane NIfTI file; its finding says which rule it breaks.
    """
    if data.startswith(_GZIP_MAGIC):
        data = _gunzip(data, name=name, limit_bytes=max_voxels * 8 + 2**20)
    _refuse_impostor(data, name)
    try:
        kind = nib.Nifti2Image if data[:4] in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") else nib.Nifti1Image
        image = kind.from_bytes(data)
        header = image.header
        shape = tuple(int(edge) for edge in header.get_data_shape())
        dtype = header.get_data_dtype()
        slope, intercept = header.get_slope_inter()
    except (ImageFileError, HeaderDataError, ValueError, OverflowError) as error:
        raise _refusal("not_nifti", f"{name}: not a readable NIfTI file ({error}); export the scan again") from error
    if dtype.name not in _READABLE:
        raise _refusal(
            "wrong_dtype", f"{name}: voxel type {dtype.name} is not a grey value; convert it to int16 or float32"
        )
    num_voxels = int(np.prod(shape, dtype=np.float64)) if shape else 0
    if num_voxels == 0:
        raise _refusal("empty", f"{name}: shape {shape} holds no voxels; export the scan again")
    if num_voxels > max_voxels:
        raise _refusal("too_large", f"{name}: {num_voxels} voxels is more than {max_voxels}; resample or crop the scan")
    offset = int(header["vox_offset"])
    if len(data) < offset + num_voxels * dtype.itemsize:
        raise _refusal(
            "truncated",
            f"{name}: truncated: {len(data)} of {offset + num_voxels * dtype.itemsize} bytes; copy the file again",
        )
    affine = _sane_affine(image, name)
    voxels = np.asanyarray(image.dataobj.get_unscaled())
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    values = voxels.astype(np.float32)
    if slope is not None:
        if not (np.isfinite(slope) and np.isfinite(intercept)):
            raise _refusal(
                "bad_scale", f"{name}: intensity slope {slope}, intercept {intercept}; export the scan again"
            )
        if (slope, intercept) != (1.0, 0.0):
            values = values * np.float32(slope) + np.float32(intercept)
    return Image(voxels_XYZ=values, affine=affine, dtype=dtype.name)


def _gunzip(data: bytes, *, name: str, limit_bytes: int) -> bytes:
    """Unpack with checksum, stopping at the limit so that a small bomb cannot fill the memory."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        plain = unpacker.decompress(data, limit_bytes + 1)
    except zlib.error as error:
        raise _refusal("truncated", f"{name}: damaged gzip stream ({error}); copy the file again") from error
    if len(plain) > limit_bytes:
        raise _refusal("too_large", f"{name}: unpacks to more than {limit_bytes} bytes; resample or crop the scan")
    if not unpacker.eof:
        raise _refusal("truncated", f"{name}: gzip stream ends early after {len(plain)} bytes; copy the file again")
    if unpacker.unused_data.strip(b"\0"):
        if not unpacker.unused_data.startswith(_GZIP_MAGIC):
            extra = len(unpacker.unused_data)
            raise _refusal("trailing_bytes", f"{name}: {extra} bytes behind the gzip stream; copy the file again")
        try:
            plain = gzip.decompress(data)  # several members, as bgzip writes them
        except (OSError, EOFError, zlib.error) as error:
            raise _refusal("truncated", f"{name}: damaged gzip stream ({error}); copy the file again") from error
    return plain


def _refuse_impostor(data: bytes, name: str) -> None:
    start = data[:64].lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise _refusal("not_nifti", f"{name}: a web page saved under a scan's name; download the scan itself")
    if start.startswith(b"version https://git-lfs"):
        raise _refusal("not_nifti", f"{name}: a Git LFS pointer, not the scan; run git lfs pull")
    if len(data) < 348:
        raise _refusal(
            "truncated", f"{name}: {len(data)} bytes is shorter than a NIfTI header (348); copy the file again"
        )


def _sane_affine(image: nib.Nifti1Image, name: str) -> np.ndarray:
    header = image.header
    zooms = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    affine = np.asarray(image.affine, dtype=np.float64)
    placed_by_sform = int(header["sform_code"]) > 0
    if not np.isfinite(affine).all() or (not placed_by_sform and not (np.isfinite(zooms).all() and (zooms > 0).all())):
        raise _refusal(
            "bad_geometry", f"{name}: voxel sizes {zooms.tolist()} mm are not positive numbers; fix the header"
        )
    if abs(np.linalg.det(affine[:3, :3])) < 1e-6:
        raise _refusal("bad_geometry", f"{name}: the affine is singular; fix the header")
    return affine


def _refusal(code: str, message: str) -> ScanError:
    return ScanError(Finding(code=code, message=" ".join(message.split())))
