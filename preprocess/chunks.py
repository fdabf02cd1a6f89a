"""One row of an array as one object: its key, its layout in Zarr's own metadata, and checked decoding.

zarr reads a missing chunk as zeros, so rows are fetched as objects and decoded here; what cannot be decoded exactly is
an error, never data.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from crc32c import crc32c
from numcodecs import zstd
from zarr.abc.store import Store as ZarrStore
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec

from preprocess.errors import StoreError
from preprocess.schema import ARRAYS_FOLDER

_CRC_BYTES = 4
_CRC_RESIDUE = 0x48674BC7
"""CRC-32C of any bytes followed by their own CRC-32C, least byte first (RFC 3720, appendix B.4, inverted)."""
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class RowLayout:
    """How one modality's rows are stored.

    Attributes:
        modality: name of the array.
        num_rows: length of the first axis.
        shape: shape of one decoded row, for example (1, 96, 96, 96) for a volume, (32, 1, 96, 96) for a clip.
        dtype: type of one decoded row.
        has_checksum: whether a CRC-32C closes every object.
    """

    modality: str
    num_rows: int
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    has_checksum: bool

    @property
    def num_bytes(self) -> int:
        """Size of one decoded row."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def key(self, row: int) -> str:
        """The row's object name below the store's root."""
        return "/".join([ARRAYS_FOLDER, self.modality, "c", str(row), *["0"] * len(self.shape)])

    def decode_into(self, data: bytes, out: np.ndarray) -> None:
        """Check and unpack one object into `out` (C-contiguous, of the row's shape and dtype).

        Raises:
            ValueError: the checksum, the stream or the size is wrong; the message says which.
        """
        if self.has_checksum:
            if len(data) <= _CRC_BYTES:
                raise ValueError(f"{len(data)} bytes are too few")
            # Over content and checksum together a CRC is a constant, so the content need not be copied to be checked.
            # This library lets other threads run meanwhile, which the one that zarr uses does not.
            if crc32c(data) != _CRC_RESIDUE:
                computed, stored = crc32c(data[:-_CRC_BYTES]), data[-_CRC_BYTES:][::-1].hex()
                raise ValueError(f"checksum {computed:08x} is not the stored {stored}")
            body = memoryview(data)[:-_CRC_BYTES]
        else:
            body = memoryview(data)
        target = out.reshape(-1).view(np.uint8)
        # Checked first: unpacking into `out` says nothing about bytes of it that a shorter stream leaves as they were.
        promised = _content_bytes(body)
        if promised != self.num_bytes:
            raise ValueError(f"a stream of {promised} bytes instead of {self.num_bytes}")
        try:
            zstd.decompress(body, target)
        except RuntimeError as error:
            raise ValueError(f"damaged zstd stream ({error})") from error

    def decode(self, data: bytes) -> np.ndarray:
        """Check and unpack one object into a new array; errors as in `decode_into`."""
        out = np.empty(self.shape, dtype=self.dtype)
        self.decode_into(data, out)
        return out


def _content_bytes(frame: memoryview) -> int | None:
    """Decoded size that a Zstandard frame's header promises (RFC 8878, section 3.1.1.1); None where it says nothing."""
    if len(frame) < 5 or frame[:4] != _ZSTD_MAGIC:
        return None
    descriptor = frame[4]
    is_single_segment = bool(descriptor & 0x20)
    width = (1 if is_single_segment else 0, 2, 4, 8)[descriptor >> 6]
    start = 5 + (0 if is_single_segment else 1) + (0, 1, 2, 4)[descriptor & 3]
    field = frame[start : start + width]
    if width == 0 or len(field) < width:
        return None
    return int.from_bytes(field, "little") + (256 if width == 2 else 0)


def read_layout(store: ZarrStore, modality: str) -> RowLayout:
    """Read an array's layout from its Zarr metadata.

    Raises:
        StoreError: no such array, damaged metadata, or chunked or coded in another way than this store's contract.
    """
    path = f"{ARRAYS_FOLDER}/{modality}"
    try:
        array = zarr.open_array(store, path=path, mode="r")
    except FileNotFoundError as error:
        raise StoreError(f"{path}: no such array in the store; preprocess the modality {modality} first") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # What zarr raises for a zarr.json that is not one.
        reason = " ".join(str(error).split())[:200]
        raise StoreError(f"{path}: its zarr.json is damaged ({reason}); preprocess into a new store") from error
    shape = tuple(int(edge) for edge in array.shape)
    metadata: Any = array.metadata.to_dict()
    codecs = metadata.get("codecs", [])  # none in Zarr v2
    names = [codec["name"] for codec in codecs]
    is_little = bool(codecs) and codecs[0].get("configuration", {}).get("endian", "little") == "little"
    is_known = names in (["bytes", "zstd", "crc32c"], ["bytes", "zstd"]) and is_little
    if tuple(array.chunks) != (1, *shape[1:]) or not is_known:
        raise StoreError(
            f"{path}: chunks {array.chunks} with codecs {names}; expected one row per chunk, zstd and crc32c"
        )
    return RowLayout(
        modality=modality,
        num_rows=shape[0],
        shape=shape[1:],
        dtype=np.dtype(array.dtype),
        has_checksum="crc32c" in names,
    )


def row_codecs() -> tuple[BytesCodec, tuple[ZstdCodec, Crc32cCodec]]:
    """Serialiser and compressors of every array: zstd, and a checksum, without which a flipped bit is data.

    Levels below 0 leave literals as they are: real scans take 5 to 8 % more bytes than at level 3, and are unpacked in
    half the time or less (docs/adr/0008-zstd-level.md). Readers take any level.
    """
    return BytesCodec(), (ZstdCodec(level=-1), Crc32cCodec())
