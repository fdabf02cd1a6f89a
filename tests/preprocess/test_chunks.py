"""One row as one object: decoded as zarr decodes it, and any damage to its bytes is an error, never data."""

import json
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from numcodecs import zstd
from zarr.codecs import BytesCodec, Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

from preprocess.chunks import RowLayout, read_layout, row_codecs
from preprocess.errors import StoreError

SHAPE = (1, 6, 5, 4)
ROW = np.random.default_rng(0).integers(0, 4, SHAPE).astype(np.uint16)
LAYOUT = RowLayout("T1w", 3, SHAPE, np.dtype(np.uint16), has_checksum=True)


def write_array(root: Path, *, path: str = "volumes.zarr/T1w", **changes: Any) -> zarr.Array:
    serializer, compressors = row_codecs()
    options: dict[str, Any] = {
        "shape": (3, *SHAPE),
        "chunks": (1, *SHAPE),
        "dtype": "uint16",
        "serializer": serializer,
        "compressors": compressors,
    }
    return zarr.create_array(LocalStore(root), name=path, **{**options, **changes})


def sealed(body: bytes) -> bytes:
    """A body with its CRC-32C, as the codec chain ends."""
    return body + int(google_crc32c.value(body)).to_bytes(4, "little")


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
def test_an_object_decodes_to_what_zarr_reads(dtype: str, tmp_path: Path) -> None:
    array = write_array(tmp_path, dtype=dtype)
    array[1] = ROW.astype(dtype)
    layout = read_layout(LocalStore(tmp_path), "T1w")
    decoded = layout.decode((tmp_path / layout.key(1)).read_bytes())
    np.testing.assert_array_equal(decoded, array[1])
    np.testing.assert_array_equal(decoded, ROW.astype(dtype))
    assert decoded.dtype == np.dtype(dtype)
    assert (layout.num_rows, layout.shape, layout.has_checksum) == (3, SHAPE, True)
    assert layout.num_bytes == array[1].nbytes
    out = np.empty(SHAPE, dtype)
    layout.decode_into((tmp_path / layout.key(1)).read_bytes(), out)
    np.testing.assert_array_equal(out, decoded)


def test_a_row_is_one_object(tmp_path: Path) -> None:
    array = write_array(tmp_path)
    array[:] = np.stack([ROW] * 3)
    objects = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("c/**/*") if p.is_file())
    assert objects == [LAYOUT.key(row) for row in range(3)]


GOOD = sealed(zstd.compress(ROW.tobytes(), 3))


@given(bit=st.integers(0, len(GOOD) * 8 - 1))
def test_a_flipped_bit_anywhere_in_an_object_is_an_error(bit: int) -> None:
    damaged = bytearray(GOOD)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match="checksum"):
        LAYOUT.decode(bytes(damaged))


@given(size=st.integers(0, len(GOOD) - 1))
def test_a_truncated_object_is_an_error(size: int) -> None:
    with pytest.raises(ValueError):
        LAYOUT.decode(GOOD[:size])


@given(st.binary(max_size=200))
def test_bytes_that_are_no_stream_are_an_error_even_under_a_right_checksum(body: bytes) -> None:
    with pytest.raises(ValueError):
        LAYOUT.decode(sealed(body))


@given(bit=st.integers(0, (len(GOOD) - 4) * 8 - 1))
def test_without_a_checksum_a_flipped_bit_never_changes_the_size(bit: int) -> None:
    """zstd alone cannot see every flip, which is why the checksum is written; what it lets pass has the row's size."""
    damaged = bytearray(GOOD[:-4])
    damaged[bit // 8] ^= 1 << bit % 8
    plain = RowLayout("T1w", 3, SHAPE, np.dtype(np.uint16), has_checksum=False)
    try:
        decoded = plain.decode(bytes(damaged))
    except ValueError:
        return
    assert decoded.shape == SHAPE


@pytest.mark.parametrize("num_bytes", [0, 1, 10, 100, 238, 239, 241, 255, 256, 300, 70_000])
def test_a_whole_stream_of_another_size_is_an_error(num_bytes: int) -> None:
    """Unpacked into a larger row it would leave the rest of the row as the memory was."""
    assert LAYOUT.num_bytes == 240
    with pytest.raises(ValueError, match=f"{num_bytes} bytes instead of 240"):
        LAYOUT.decode(sealed(zstd.compress(b"\7" * num_bytes, 3)))


@pytest.mark.parametrize("num_bytes", [1, 100, 255, 256, 300, 65_791, 65_792, 70_000, 2**20])
def test_every_width_of_zstds_size_field_is_understood(num_bytes: int) -> None:
    data = np.random.default_rng(1).integers(0, 256, num_bytes, dtype=np.uint8)
    layout = RowLayout("x", 1, (num_bytes,), np.dtype(np.uint8), has_checksum=True)
    np.testing.assert_array_equal(layout.decode(sealed(zstd.compress(data.tobytes(), 3))), data)


FOREIGN: dict[str, dict[str, Any]] = {
    "two rows a chunk": {"chunks": (2, *SHAPE)},
    "half a row a chunk": {"chunks": (1, 1, 3, 5, 4)},
    "shards": {"shards": (3, *SHAPE)},
    "gzip": {"compressors": (zarr.codecs.GzipCodec(),)},
    "no compression": {"compressors": ()},
    "big-endian": {"serializer": BytesCodec(endian="big")},
    "checksum inside": {"compressors": (Crc32cCodec(), ZstdCodec())},
}


@pytest.mark.parametrize("changes", FOREIGN.values(), ids=FOREIGN)
def test_an_array_of_another_layout_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    write_array(tmp_path, **changes)
    with pytest.raises(StoreError, match="expected one row per chunk") as caught:
        read_layout(LocalStore(tmp_path), "T1w")
    assert "\n" not in str(caught.value)


def test_a_zarr_v2_array_is_refused(tmp_path: Path) -> None:
    zarr.create_array(
        LocalStore(tmp_path), name="volumes.zarr/T1w", shape=(3, 4), chunks=(1, 4), dtype="uint8", zarr_format=2
    )
    with pytest.raises(StoreError, match="expected one row per chunk"):
        read_layout(LocalStore(tmp_path), "T1w")


def test_an_array_without_checksum_is_known_as_such(tmp_path: Path) -> None:
    write_array(tmp_path, compressors=(ZstdCodec(level=3),))[0] = ROW
    layout = read_layout(LocalStore(tmp_path), "T1w")
    assert not layout.has_checksum
    np.testing.assert_array_equal(layout.decode((tmp_path / layout.key(0)).read_bytes()), ROW)


def test_a_missing_array_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such array in the store; preprocess the modality T2w first"):
        read_layout(LocalStore(tmp_path), "T2w")


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"zarr_format": 3}', "codec", "dtype"])
def test_damaged_metadata_are_one_line(damage: str, tmp_path: Path) -> None:
    write_array(tmp_path)
    path = tmp_path / "volumes.zarr/T1w/zarr.json"
    metadata = json.loads(path.read_text())
    if damage == "codec":
        metadata["codecs"][1]["name"] = "zstx"
        damage = json.dumps(metadata)
    elif damage == "dtype":
        metadata["data_type"] = "uint17"
        damage = json.dumps(metadata)
    path.write_text(damage)
    with pytest.raises(StoreError) as caught:
        read_layout(LocalStore(tmp_path), "T1w")
    assert "\n" not in str(caught.value)
