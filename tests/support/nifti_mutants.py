"""NIfTI files with one to three faults, each drawn from a seed: header fields by name, lengths, gzip members."""

import gzip
import random
import struct
import zlib
from collections.abc import Callable
from functools import cache

import nibabel as nib
import numpy as np

from tests.support.images import head, nifti

_HEADERS = {1: nib.Nifti1Header, 2: nib.Nifti2Header}
_FLOATS = (0.0, -0.0, 1.0, -1.0, np.nan, np.inf, -np.inf, 1e-45, 1e-30, -1e-3, 0.5, 1e6, 3.4e38, -3.4e38, 1e300)
_INTS = (0, 1, -1, 2, 7, 8, 127, 128, 255, 256, 32_767, 32_768, 65_535, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1)
_PLACING = ("dim", "pixdim", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d", "qoffset_x")
_READING = ("datatype", "bitpix", "vox_offset", "scl_slope", "scl_inter", "qform_code", "sform_code", "xyzt_units")
_CODES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 32_767, -1)

Step = Callable[[bytearray, random.Random], str]


@cache
def bases(edge: int) -> dict[str, bytes]:
    """Sound files to start from, uncompressed.

    Args:
        edge: voxels along each axis; the head is as large in millimetres however many there are.
    """
    grey = head(edge=edge, spacing_mm=192 / edge)
    affine = np.diag([-192 / edge, 192 / edge, 192 / edge, 1.0])
    affine[:3, 3] = [96.0, -96.0, -96.0]
    return {
        "int16": nifti(grey, affine),
        "uint8": nifti((grey // 5).astype(np.uint8), affine),
        "uint16 with a slope": nifti(grey.astype(np.uint16), affine, scl_slope=0.5, scl_inter=3.0),
        "float32": nifti(grey.astype(np.float32), affine),
        "float64, big-endian": nifti(grey.astype(np.float64), affine, big_endian=True),
        "int32": nifti(grey.astype(np.int32), affine),
        "int16, big-endian": nifti(grey, affine, big_endian=True),
        "NIfTI-2": nifti(grey, affine, version=2),
        "NIfTI-2, big-endian": nifti(grey, affine, version=2, big_endian=True),
        "4D of one moment": nifti(grey[..., None], affine),
        "the header of a pair": _as_pair(nifti(grey, affine)),
    }


def _as_pair(plain: bytes) -> bytes:
    return plain[:344] + b"ni1\0" + plain[348:]


def mutant(rng: random.Random, edge: int) -> tuple[list[str], bytes]:
    """One file with faults, and what was done to it.

    Args:
        rng: all that is drawn comes from it.
        edge: as in `bases`.
    """
    found = bases(edge)
    name = rng.choice(sorted(found))
    data = bytearray(found[name])
    steps = [name]
    steps += [rng.choice(_PLAIN_STEPS)(data, rng) for _ in range(rng.randint(1, 3))]
    if rng.random() < 0.5:
        return steps, bytes(data)
    packed = bytearray(gzip.compress(bytes(data), rng.choice((0, 1, 6)), mtime=0))
    steps.append("gzip")
    if rng.random() < 0.6:
        steps.append(rng.choice(_GZIP_STEPS)(packed, rng))
    return steps, bytes(packed)


def _fields(data: bytes) -> "np.dtype[np.void]":
    """The layout of the header as it stands, whatever it has become."""
    version = 2 if data[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c") else 1
    order = ">" if data[:1] == b"\0" else "<"
    layout: np.dtype[np.void] = _HEADERS[version].template_dtype.newbyteorder(order)
    return layout


def _place(data: bytes, rng: random.Random) -> tuple[str, int, "np.dtype[np.generic]"]:
    """A field of the header by name: its name with the element, its offset and its type."""
    layout = _fields(data)
    assert layout.names is not None
    assert layout.fields is not None
    known = rng.choice((_PLACING, _READING, layout.names))
    name = rng.choice([one for one in known if one in layout.names])
    kind, offset = layout.fields[name][:2]
    if kind.subdtype is None:
        return name, offset, kind
    element, shape = kind.subdtype
    index = rng.randrange(shape[0])
    return f"{name}[{index}]", offset + index * element.itemsize, element


def _overwrite(data: bytearray, offset: int, value: bytes) -> None:
    data[offset : offset + len(value)] = value


def _extreme(data: bytearray, rng: random.Random) -> str:
    name, offset, kind = _place(data, rng)
    if kind.kind == "f":
        value: float = rng.choice(_FLOATS)
        with np.errstate(over="ignore"):
            _overwrite(data, offset, np.array(value).astype(kind).tobytes())
    elif kind.kind in "iu":
        value = rng.choice(_CODES if name == "datatype" else _INTS)
        _overwrite(data, offset, np.array(value % 2**64, np.uint64).astype(kind).tobytes())
    else:
        value = rng.getrandbits(8)
        _overwrite(data, offset, bytes([int(value)]) * kind.itemsize)
    return f"{name} = {value}"


def _flip(data: bytearray, rng: random.Random) -> str:
    name, offset, kind = _place(data, rng)
    at = min(offset + rng.randrange(kind.itemsize), len(data) - 1)
    if at < 0:
        return "nothing to flip"
    bit = rng.randrange(8)
    data[at] ^= 1 << bit
    return f"bit {bit} of byte {at} ({name})"


def _shape(data: bytearray, rng: random.Random) -> str:
    """Axes and type at once: what the header promises may fit the file, miss it by one, or be huge."""
    layout = _fields(data)
    assert layout.fields is not None
    kind, offset = layout.fields["dim"][:2]
    assert kind.subdtype is not None
    edges = [rng.choice((1, 1, 2, 3, 16, 17, 128, 4096, 32_767, 0, -1)) for _ in range(7)]
    dim = np.array([rng.randint(0, 8), *edges]).astype(kind.subdtype[0])
    _overwrite(data, offset, dim.tobytes())
    return f"dim = {dim.tolist()}"


def _affine(data: bytearray, rng: random.Random) -> str:
    """A placement of random or extreme numbers, in both forms or one."""
    layout = _fields(data)
    assert layout.fields is not None
    scale = rng.choice((1e-40, 1e-6, 1e-3, 1.0, 1.0, 1e3, 1e6, 1e30))
    for name in ("srow_x", "srow_y", "srow_z"):
        kind, offset = layout.fields[name][:2]
        assert kind.subdtype is not None
        row = [rng.choice((0.0, rng.gauss(0, scale), scale)) for _ in range(4)]
        _overwrite(data, offset, np.array(row).astype(kind.subdtype[0]).tobytes())
    for name in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x"):
        kind, offset = layout.fields[name][:2]
        _overwrite(data, offset, np.array(rng.gauss(0, 1)).astype(kind).tobytes())
    for name in ("qform_code", "sform_code"):
        kind, offset = layout.fields[name][:2]
        _overwrite(data, offset, np.array(rng.choice((0, 1, 4, -3))).astype(kind).tobytes())
    return f"a random placement of scale {scale:g}"


def _truncate(data: bytearray, rng: random.Random) -> str:
    near = (0, 1, 3, 4, 40, 347, 348, 351, 352, 540, 544, len(data) - 1, len(data) - 2)
    at = rng.choice((rng.choice(near), rng.randint(0, len(data))))
    del data[max(at, 0) :]
    return f"cut at byte {at}"


def _append(data: bytearray, rng: random.Random) -> str:
    count = rng.choice((1, 2, 100, 2**20, 2**20 + 1, 2**21))
    filler = rng.choice((b"\0", b"x", b"\x1f\x8b"))
    data += filler * count
    return f"{count} x {filler!r} behind"


def _swap(data: bytearray, rng: random.Random) -> str:
    """The other byte order: of the first field, of the whole header, or of the voxels alone."""
    what = rng.choice(("size", "header", "voxels"))
    layout = _fields(data)
    if what == "size":
        data[:4] = data[:4][::-1]
    elif what == "header" and len(data) >= layout.itemsize:
        data[: layout.itemsize] = np.frombuffer(bytes(data[: layout.itemsize]), layout).byteswap().tobytes()
    elif what == "voxels":
        voxels = data[352:]
        data[352:] = bytes(np.frombuffer(bytes(voxels[: len(voxels) // 2 * 2]), np.uint16).byteswap().tobytes())
    return f"byte order of the {what}"


def _version(data: bytearray, rng: random.Random) -> str:
    """The size and the mark of another version over this one's fields."""
    size, mark = rng.choice(
        ((348, b"n+1\0"), (540, b"n+2\0\r\n\x1a\n"), (348, b"ni1\0"), (540, b"ni2\0"), (349, b"n+1\0"))
    )
    _overwrite(data, 0, size.to_bytes(4, "little"))
    _overwrite(data, 344 if size < 540 else 4, mark)
    return f"sizeof_hdr {size}, magic {mark[:3]!r}"


def _extension(data: bytearray, rng: random.Random) -> str:
    """An extension whose size is false, in front of the voxels."""
    size = rng.choice((0, 8, 16, -16, 2**31 - 1, 15))
    block = struct.pack("<ii", size, rng.choice((0, 2, 4, 6))) + b"Canary" * 4
    data[348:352] = b"\x01\0\0\0"
    data[352:352] = block
    if rng.random() < 0.5:
        _overwrite(data, 108, struct.pack("<f", 352 + len(block)))
    return f"an extension of {size} bytes"


def _noise(data: bytearray, rng: random.Random) -> str:
    """Random bytes anywhere; in voxels of floating point also NaN and infinity."""
    count = rng.choice((1, 4, 64))
    at = rng.randint(0, max(0, len(data) - count))
    filler = rng.choice((rng.randbytes(count), b"\xff" * count, b"\0" * count, b"\x7f\x80\0\0" * (count // 4)))
    _overwrite(data, at, filler)
    return f"{len(filler)} bytes at {at}"


_PLAIN_STEPS: tuple[Step, ...] = (
    *(_extreme, _extreme, _extreme, _extreme, _flip, _flip, _shape, _affine),
    *(_truncate, _append, _swap, _version, _extension, _noise),
)


def _gzip_noise(data: bytearray, rng: random.Random) -> str:
    at = rng.choice((rng.randrange(10), rng.randrange(len(data)), len(data) - 1 - rng.randrange(8)))
    data[at] ^= 1 << rng.randrange(8)
    return f"a bit of the gzip stream at {at}"


def _gzip_cut(data: bytearray, rng: random.Random) -> str:
    at = rng.choice((rng.randrange(20), rng.randrange(len(data)), len(data) - 1 - rng.randrange(9)))
    del data[at:]
    return f"gzip stream cut at {at}"


def _members(data: bytearray, rng: random.Random) -> str:
    """The same bytes in several members, with others between them."""
    kind = rng.choice(("split", "twice", "empty", "zeros", "foreign", "nested", "many"))
    whole = bytes(data)
    if kind == "split":
        plain = zlib.decompress(whole, 31)
        cuts = sorted(rng.randint(0, len(plain)) for _ in range(rng.randint(1, 4)))
        parts = [plain[a:b] for a, b in zip([0, *cuts], [*cuts, len(plain)], strict=True)]
        data[:] = b"".join(gzip.compress(part, mtime=0) for part in parts)
    elif kind == "nested":
        data[:] = gzip.compress(whole, mtime=0)
    elif kind == "zeros":
        data += b"\0" * rng.choice((1, 512, 2**16)) + whole
    elif kind == "foreign":
        data += gzip.compress(rng.randbytes(100), mtime=0)
    else:
        count = {"twice": 1, "empty": 3, "many": 12_000}[kind]
        data += (whole if kind == "twice" else gzip.compress(b"", mtime=0)) * count
    return f"gzip members: {kind}"


def _gzip_flags(data: bytearray, rng: random.Random) -> str:
    """Fields of the member's header (RFC 1952) that are not there, or are endless."""
    data[3] = rng.choice((1, 2, 4, 8, 16, 31, 0xE0, 0xFF))
    data[10:10] = rng.choice((b"", b"\xff\xff", b"\0\0", b"Canary\0", b"Canary" * 50))
    return f"gzip flags {data[3]}"


def _bomb(data: bytearray, rng: random.Random) -> str:
    """A header that promises little and zeros without end behind it."""
    plain = zlib.decompress(bytes(data), 31)
    data[:] = gzip.compress(plain[:352], mtime=0) + _gzip_zeros(rng.choice((2**22, 2**25)))
    return "a gzip bomb"


@cache
def _gzip_zeros(count: int) -> bytes:
    return gzip.compress(bytes(count), 6, mtime=0)


_GZIP_STEPS: tuple[Step, ...] = (_gzip_noise, _gzip_noise, _gzip_cut, _members, _members, _gzip_flags, _bomb)
