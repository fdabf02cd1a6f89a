"""Bytes of a NIfTI file in, image out; whatever is wrong with the file becomes one finding.

nibabel's header class names the fields; nibabel's image class is not used, because it reads without complaint a file
with a bad gzip checksum, trailing garbage, zero or NaN voxel sizes, a NaN slope or a singular affine (some it mends in
silence). Each is refused here. Header extensions and free-text fields are never looked at: they are where names of
people hide.
"""

import re
from typing import cast

import nibabel as nib
import numpy as np
from isal import isal_zlib
from nibabel.spatialimages import HeaderDataError

from preprocess.errors import ScanError
from preprocess.file_types import impostor
from preprocess.header_geometry import Believed, read_geometry
from preprocess.types import MAX_VOXELS, Finding, FloatArray, Image, Voxels

_GZIP_MAGIC, _GZIP = b"\x1f\x8b", 31
"""Its first bytes; and what tells zlib that header and checksum are those of gzip."""
_MAX_GZIP_RATIO = 1032
"""No deflate stream grows more than this (258 bytes from two bits)."""
_DAMAGED = cast(type[Exception], isal_zlib.error)
"""A class, which the package declares as an object."""
_MEMBER_BYTES = 2**14
"""What is handed to each further member of a gzip file; what it leaves is copied, and bgzip writes hundreds."""
_ZEROS = re.compile(rb"\0*")
_MAX_PADDING_BYTES = 2**20
"""What may follow the voxels, if it is zeros: some writers fill the last block."""
_READABLE = {"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64", "int64", "uint64"}
KEPT_TYPES = {"uint8", "int8", "uint16", "int16"}
"""Types that stay what they are: float32 would take two or four times the memory."""
_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
"""By sizeof_hdr, the first field, which also tells the byte order."""


def read_nifti(data: bytes, *, name: str, max_voxels: int = MAX_VOXELS, believed: Believed = "agreeing") -> Image:
    """Decode a NIfTI-1 or NIfTI-2 file, gzipped or not.

    Args:
        data: the whole file.
        name: what messages call the scan.
        max_voxels: refuse a header that promises more voxels than this, before any is unpacked.
        believed: which of two placements in space is taken; see `header_geometry`.

    Returns:
        The image with slope and intercept applied; 3D or 4D as on disk (trailing axes of length 1 dropped). Integers of
        8 and 16 bits without slope and intercept stay what they are, and may be read-only. Its findings are remarks on
        the header.

    Raises:
        ScanError: the file is not a whole, sane NIfTI file; its finding says which rule it breaks.
    """
    is_gzip = data.startswith(_GZIP_MAGIC)
    header = _read_header(_gunzip_start(data, name=name) if is_gzip else data, name)
    try:
        shape = tuple(int(edge) for edge in header.get_data_shape())
        dtype = np.dtype(header.get_data_dtype())
        offset = int(header["vox_offset"])
    except KeyError as error:
        code = int(header["datatype"])
        raise _refusal("wrong_dtype", f"{name}: voxel type code {code} is unknown; export the scan again") from error
    except (HeaderDataError, ValueError, OverflowError) as error:
        raise _refusal("not_nifti", f"{name}: not a readable NIfTI file ({error}); export the scan again") from error
    if dtype.name not in _READABLE:
        raise _refusal(
            "wrong_dtype", f"{name}: voxel type {dtype.name} is not a grey value; convert it to int16 or float32"
        )
    if min(shape) < 1:
        raise _refusal("empty", f"{name}: shape {shape} holds no voxels; export the scan again")
    num_voxels = int(np.prod(shape, dtype=np.float64))
    if num_voxels > max_voxels:
        raise _refusal("too_large", f"{name}: {num_voxels} voxels is more than {max_voxels}; resample or crop the scan")
    if offset < int(header["sizeof_hdr"]) + 4:
        raise _refusal("not_nifti", f"{name}: voxels at byte {offset}, inside the header; export the scan again")
    slope, intercept = _sane_scale(header, name)
    geometry = read_geometry(header, shape, name=name, believed=believed)
    end = offset + num_voxels * dtype.itemsize
    if is_gzip:
        if end > len(data) * _MAX_GZIP_RATIO:
            raise _refusal("truncated", f"{name}: {len(data)} bytes cannot unpack to {end}; copy the file again")
        data = _gunzip(data, name=name, limit_bytes=end + _MAX_PADDING_BYTES)
    if len(data) < end:
        raise _refusal("truncated", f"{name}: truncated: {len(data)} of {end} bytes; copy the file again")
    if data[end:].strip(b"\0"):
        extra = len(data) - end
        raise _refusal("trailing_bytes", f"{name}: {extra} bytes behind the last voxel; export the scan again")
    voxels = np.frombuffer(data, dtype, num_voxels, offset).reshape(shape, order="F")
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    return Image(_in_real_units(voxels, slope, intercept), geometry.affine, dtype.name, geometry.findings)


def _in_real_units(voxels: np.ndarray, slope: float, intercept: float) -> Voxels:
    if (slope, intercept) == (1.0, 0.0) and voxels.dtype.name in KEPT_TYPES:
        return voxels.astype(voxels.dtype.newbyteorder("="), copy=False)
    # What float32 cannot hold becomes infinite here and a finding in the quality check.
    with np.errstate(over="ignore", invalid="ignore"):
        values: FloatArray = voxels.astype(np.float32)
        if (slope, intercept) != (1.0, 0.0):
            values *= np.float32(slope)
            values += np.float32(intercept)
    return values


def _read_header(start: bytes, name: str) -> nib.Nifti1Header:
    """The header as it stands in the file, nothing mended."""
    _refuse_impostor(start, name)
    for size, kind in _HEADERS.items():
        for order, mark in (("little", "<"), ("big", ">")):
            if start[:4] != size.to_bytes(4, order):  # type: ignore[arg-type]
                continue
            if len(start) < size:
                raise _refusal("truncated", f"{name}: {len(start)} bytes of a {size}-byte header; copy the file again")
            header = kind(start[:size], endianness=mark, check=False)
            magic = header["magic"].item()[:3]
            if magic in (b"ni1", b"ni2"):
                raise _refusal("not_nifti", f"{name}: a header without voxels (.hdr of a pair); join it with its .img")
            if magic not in (b"n+1", b"n+2") or not 1 <= int(header["dim"][0]) <= 7:
                break
            return header
    raise _refusal("not_nifti", f"{name}: not a readable NIfTI file (no NIfTI header); export the scan again")


def _gunzip_start(data: bytes, *, name: str) -> bytes:
    """The first bytes of a gzip stream, enough for a header."""
    try:
        return isal_zlib.decompressobj(wbits=_GZIP).decompress(data[:65536], max(_HEADERS))
    except _DAMAGED as error:
        raise _refusal("truncated", f"{name}: damaged gzip stream ({error}); copy the file again") from error


def _gunzip(data: bytes, *, name: str, limit_bytes: int) -> bytes:
    """Unpack all members (bgzip writes many) with their checksums, stopping at the limit: a small bomb stays small."""
    parts, num_bytes = [], 0
    start, stop = 0, len(data)
    while start < len(data):
        if not data.startswith(_GZIP_MAGIC, start):
            raise _refusal("trailing_bytes", f"{name}: bytes behind the gzip stream; copy the file again")
        member = isal_zlib.decompressobj(wbits=_GZIP)
        while not member.eof:
            if start == len(data):
                raise _refusal("truncated", f"{name}: gzip stream ends early; copy the file again")
            try:
                part = member.decompress(memoryview(data)[start:stop], limit_bytes + 1 - num_bytes)
            except _DAMAGED as error:
                raise _refusal("truncated", f"{name}: damaged gzip stream ({error}); copy the file again") from error
            parts.append(part)
            num_bytes += len(part)
            if num_bytes > limit_bytes:
                raise _refusal(
                    "too_large", f"{name}: unpacks to more than {limit_bytes} bytes, its header promises less"
                )
            start = min(stop, len(data)) - len(member.unused_data)
            stop = start + _MEMBER_BYTES
        # Zeros behind a member fill the last block of a tape or disk.
        start = _ZEROS.match(data, start).end()  # type: ignore[union-attr]  # it matches everywhere
        stop = start + _MEMBER_BYTES
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _refuse_impostor(data: bytes, name: str) -> None:
    reason = impostor(data)
    if reason is not None:
        raise _refusal("not_nifti", f"{name}: {reason}")
    if len(data) < 348:
        raise _refusal(
            "truncated", f"{name}: {len(data)} bytes is shorter than a NIfTI header (348); copy the file again"
        )


def _sane_scale(header: nib.Nifti1Header, name: str) -> tuple[float, float]:
    """Slope and intercept; a slope of 0 means none (NIfTI-1, scl_slope)."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0:
        return 1.0, 0.0
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise _refusal("bad_scale", f"{name}: intensity slope {slope}, intercept {intercept}; export the scan again")
    return slope, intercept


def _refusal(code: str, message: str) -> ScanError:
    return ScanError(Finding(code=code, message=" ".join(message.split())))
