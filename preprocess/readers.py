"""Bytes of a NIfTI file in, image out; whatever is wrong with the file becomes one finding.

nibabel's header class names the fields; nibabel's image class is not used, because it reads without complaint a file
with a bad gzip checksum, trailing garbage, zero or NaN voxel sizes, a NaN slope or a singular affine (some it mends in
silence). Each is refused here. Header extensions and free-text fields are never looked at: they are where names of
people hide.
"""

import re
from collections.abc import Iterable, Iterator
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
MAX_GZIP_RATIO = 1032
"""No deflate stream grows more than this (258 bytes from two bits)."""
_DAMAGED = cast(type[Exception], isal_zlib.error)
"""A class, which the package declares as an object."""
_MEMBER_BYTES = 2**14
"""What is handed to each further member of a gzip file; what it leaves is copied, and bgzip writes hundreds."""
_PIECE_BYTES, _TAKEN_BYTES = 2**22, 2**18
"""Unpacked at once where the voxels change their type on the way, and handed over for it."""
_MAX_MEMBERS, _MIN_BYTES_PER_MEMBER = 10_000, 1024
"""Members of a gzip file: so many of any size, and further ones only as long as they hold so much on average. Each
costs some microseconds, and a file of ten million empty ones costs minutes; bgzip's hold 64 KiB."""
_MAX_OFFSET_BYTES = 2**24
"""Header and extensions in front of the voxels: a hundred times what scanners and converters write there."""
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
    is_gzip = is_packed(data)
    header = read_header(data, name=name)
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
    if offset > _MAX_OFFSET_BYTES:
        message = (
            f"{name}: voxels at byte {offset}, expected them before byte {_MAX_OFFSET_BYTES}; export the scan again"
        )
        raise _refusal("not_nifti", message)
    slope, intercept = _sane_scale(header, name)
    geometry = read_geometry(header, shape, name=name, believed=believed)
    end = offset + num_voxels * dtype.itemsize
    if is_gzip and end > len(data) * MAX_GZIP_RATIO:
        raise _refusal("truncated", f"{name}: {len(data)} bytes cannot unpack to {end}; copy the file again")
    limit_bytes = end + _MAX_PADDING_BYTES
    if dtype.name in KEPT_TYPES:
        whole = b"".join(_gunzip(data, name=name, limit_bytes=limit_bytes)) if is_gzip else data
        _check_end(len(whole), memoryview(whole)[end:], end, name)
        flat = np.frombuffer(whole, dtype, num_voxels, offset)
        voxels: Voxels = flat.astype(dtype.newbyteorder("="), copy=False)
    else:
        pieces = _gunzip(data, name=name, limit_bytes=limit_bytes, piece_bytes=_PIECE_BYTES) if is_gzip else [data]
        voxels = _to_float(pieces, offset, num_voxels, dtype, name)
    voxels = voxels.reshape(shape, order="F")
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    findings = (*geometry.findings, *slope_remarks([slope], name=name))
    return Image(_scaled(voxels, slope, intercept), geometry.affine, dtype.name, findings)


def is_packed(start: bytes) -> bool:
    """Whether a file is gzipped, by its first bytes."""
    return start.startswith(_GZIP_MAGIC)


def read_header(start: bytes, *, name: str) -> nib.Nifti1Header:
    """The header as it stands in the file, nothing mended.

    Args:
        start: the file, or at least its first 64 KiB.
        name: what messages call the scan.

    Raises:
        ScanError: no NIfTI header.
    """
    return _read_header(_gunzip_start(start, name=name) if is_packed(start) else start, name)


def _to_float(
    pieces: Iterable[bytes], offset: int, num_voxels: int, dtype: "np.dtype[np.generic]", name: str
) -> FloatArray:
    """Voxels of any type as float32, without the unpacked file ever being in memory as a whole."""
    values = np.empty(num_voxels, np.float32)
    position, num_filled, rest = 0, 0, b""
    end = offset + num_voxels * dtype.itemsize
    for piece in pieces:
        view = memoryview(piece)
        first, last = max(offset - position, 0), max(end - position, 0)
        _check_trailing(view[last:], position + len(view) - end, name)
        # What float32 cannot hold becomes infinite here and a finding in the quality check.
        with np.errstate(over="ignore", invalid="ignore"):
            part = view[first:last]
            if rest:
                part = memoryview(rest + part)
            count = len(part) // dtype.itemsize
            values[num_filled : num_filled + count] = np.frombuffer(part, dtype, count)
        rest = bytes(part[count * dtype.itemsize :])
        num_filled += count
        position += len(view)
    _check_end(position, memoryview(b""), end, name)
    return values


def _check_end(num_bytes: int, behind: memoryview, end: int, name: str) -> None:
    if num_bytes < end:
        raise _refusal("truncated", f"{name}: truncated: {num_bytes} of {end} bytes; copy the file again")
    _check_trailing(behind, num_bytes - end, name)


def _check_trailing(behind: memoryview, num_bytes: int, name: str) -> None:
    if bytes(behind).strip(b"\0"):
        raise _refusal("trailing_bytes", f"{name}: {num_bytes} bytes behind the last voxel; export the scan again")


def _scaled(voxels: Voxels, slope: float, intercept: float) -> Voxels:
    """Real units; integers stay what they are where there is nothing to scale."""
    if (slope, intercept) == (1.0, 0.0):
        return voxels
    with np.errstate(over="ignore", invalid="ignore"):
        values: FloatArray = voxels.astype(np.float32, copy=False)
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


def _gunzip(data: bytes, *, name: str, limit_bytes: int, piece_bytes: int = 0) -> Iterator[bytes]:
    """Unpack all members (bgzip writes many) with their checksums, stopping at the limit: a small bomb stays small.

    Args:
        data: the whole file.
        name: what messages call the scan.
        limit_bytes: most that may be unpacked.
        piece_bytes: most that is unpacked at once; 0 for a member at once.
    """
    num_bytes, num_members = 0, 0
    # Input is handed over in small parts where output is: what zlib did not take yet is copied each time.
    start, stop = 0, _TAKEN_BYTES if piece_bytes else len(data)
    while start < len(data):
        num_members += 1
        if num_members > _MAX_MEMBERS + num_bytes // _MIN_BYTES_PER_MEMBER:
            message = f"{name}: more than {num_members - 1} gzip members in {num_bytes} bytes; compress the file anew"
            raise _refusal("truncated", message)
        if not data.startswith(_GZIP_MAGIC, start):
            raise _refusal("trailing_bytes", f"{name}: bytes behind the gzip stream; copy the file again")
        member = isal_zlib.decompressobj(wbits=_GZIP)
        while not member.eof:
            # What was taken in and not unpacked yet comes first.
            taken = member.unconsumed_tail or memoryview(data)[start:stop]
            if not len(taken):
                raise _refusal("truncated", f"{name}: gzip stream ends early; copy the file again")
            most = limit_bytes + 1 - num_bytes
            try:
                part = member.decompress(taken, min(most, piece_bytes) if piece_bytes else most)
            except _DAMAGED as error:
                raise _refusal("truncated", f"{name}: damaged gzip stream ({error}); copy the file again") from error
            num_bytes += len(part)
            if num_bytes > limit_bytes:
                raise _refusal(
                    "too_large", f"{name}: unpacks to more than {limit_bytes} bytes, its header promises less"
                )
            yield part
            start = min(stop, len(data)) - len(member.unused_data) - len(member.unconsumed_tail)
            if not member.unconsumed_tail:
                stop = start + (_TAKEN_BYTES if piece_bytes else _MEMBER_BYTES)
        # Zeros behind a member fill the last block of a tape or disk.
        start = _ZEROS.match(data, start).end()  # type: ignore[union-attr]  # it matches everywhere
        stop = start + _MEMBER_BYTES


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


def slope_remarks(slopes: Iterable[float], *, name: str) -> tuple[Finding, ...]:
    """A remark where an intensity slope is below 0.

    Args:
        slopes: those of a file, or of each plane.
        name: what messages call the scan.
    """
    lowest = min(slopes)
    if lowest >= 0:
        return ()
    message = f"{name}: intensity slope {lowest:g} turns bright into dark; applied as written, check the contrast"
    return (Finding("slope_negative", message, leaves_out=False),)


def _refusal(code: str, message: str) -> ScanError:
    return ScanError(Finding(code=code, message=" ".join(message.split())))
