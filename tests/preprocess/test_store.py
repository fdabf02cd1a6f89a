"""A finished store: what is read is what was written, and every damage to any of its objects is named."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprocess.errors import StoreError
from preprocess.storage import Location
from preprocess.store import Fault, Store, content_digest, read_manifest, verify_rows
from tests.support.stores import SMALL, volumes, write_store

ROW = "volumes.zarr/T1w/c/{}/0/0/0/0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_store(tmp_path / "store")
    return tmp_path / "store"


def faults(root: Path) -> list[Fault]:
    return [fault for fault in verify_rows(Store.open(root)) if fault is not None]


def refusal(root: Path) -> str:
    with pytest.raises(StoreError) as caught:
        Store.open(root)
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)
    return str(caught.value)


def test_rows_read_as_zarr_reads_them_and_as_they_were_written(root: Path) -> None:
    store = Store.open(root)
    array = zarr.open_array(root / "volumes.zarr" / "T1w", mode="r")
    for row in range(4):
        np.testing.assert_array_equal(store.read(row, "T1w"), array[row])
    np.testing.assert_array_equal(array[:], volumes(4))


@pytest.mark.parametrize("kind", ["memory", pytest.param("gs", marks=pytest.mark.bucket)])
def test_a_store_is_the_same_elsewhere(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    uri = f"{request.getfixturevalue('bucket')}/s" if kind == "gs" else f"memory://{tmp_path.name}"
    local, other = write_store(tmp_path / "store", left_out=(2,)), write_store(uri, left_out=(2,))
    assert other.records == local.records
    assert other.manifest == local.manifest
    assert other.location.names() == local.location.names()
    for name in local.location.names():
        assert other.location.read(name) == local.location.read(name)
    assert list(verify_rows(other)) == [None] * 3


def test_a_whole_store_verifies(root: Path) -> None:
    assert list(verify_rows(Store.open(root))) == [None] * 4


@given(row=st.integers(0, 3), position=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_in_any_byte_of_a_row_is_named(row: int, position: int, bit: int, root: Path) -> None:
    path = root / ROW.format(row)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[position % len(damaged)] ^= 1 << bit
    path.write_bytes(damaged)
    try:
        found = faults(root)
    finally:
        path.write_bytes(whole)
    assert [(fault.row, fault.modality) for fault in found] == [(row, "T1w")]
    assert "damaged" in found[0].reason


def test_a_deleted_object_is_named_where_zarr_reads_zeros(root: Path) -> None:
    (root / ROW.format(2)).unlink()
    assert not zarr.open_array(root / "volumes.zarr" / "T1w", mode="r")[2].any()
    (fault,) = faults(root)
    assert (fault.row, fault.name) == (2, "sub-01_ses-00_T1w")
    assert "its object is missing" in fault.reason
    with pytest.raises(StoreError, match="row 2 of T1w: its object is missing"):
        Store.open(root).read(2, "T1w")


@pytest.mark.parametrize("size", [0, 3, 4, 5, 60])
def test_a_truncated_object_is_named(root: Path, size: int) -> None:
    path = root / ROW.format(0)
    path.write_bytes(path.read_bytes()[:size])
    (fault,) = faults(root)
    assert fault.row == 0
    assert "damaged" in fault.reason


def test_an_object_in_anothers_place_is_caught_by_its_content(root: Path) -> None:
    shutil.copy(root / ROW.format(1), root / ROW.format(2))
    Store.open(root).read(2, "T1w")  # whole in itself
    (fault,) = faults(root)
    assert fault.row == 2
    assert content_digest(volumes(4)[1])[:12] in fault.reason
    assert content_digest(volumes(4)[2])[:12] in fault.reason


def test_all_damage_is_named_at_once(root: Path) -> None:
    (root / ROW.format(0)).unlink()
    (root / ROW.format(3)).write_bytes(b"")
    assert [fault.row for fault in faults(root)] == [0, 3]


def test_rows_left_out_are_no_damage(tmp_path: Path) -> None:
    store = write_store(tmp_path / "s", left_out=(1,))
    assert list(verify_rows(store)) == [None] * 3
    assert (store.manifest.num_found, store.manifest.num_kept, store.manifest.num_left_out) == (4, 3, 1)


def test_a_folder_without_store_json_is_no_store(root: Path) -> None:
    (root / "store.json").unlink()
    assert "no store.json, so this is not a finished store; run interscan preprocess into it" in refusal(root)
    assert read_manifest(Location(root)) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "{", "store.json"),
        (lambda text: text.replace('"schema_version": 2', '"schema_version": 3'), "schema version 3 is of a newer"),
        (lambda text: text.replace('"schema_version": 2', '"schema_version": "two"'), "schema_version"),
        (lambda text: text.replace('"num_kept"', '"num_kepd"'), "num_kept"),
        (lambda text: json.dumps({**json.loads(text), "surplus": 1}), "surplus"),
    ],
)
def test_a_store_json_of_another_version_is_one_line(root: Path, change: object, message: str) -> None:
    path = root / "store.json"
    path.write_text(change(path.read_text()))  # type: ignore[operator]
    assert message in refusal(root)


def test_a_changed_index_is_refused(root: Path) -> None:
    path = root / "index.parquet"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    assert "the index was changed, or an append was cut off" in refusal(root)


def test_a_missing_index_is_refused(root: Path) -> None:
    (root / "index.parquet").unlink()
    assert "index.parquet is missing" in refusal(root)


def test_a_missing_array_is_a_fault_of_every_row(root: Path) -> None:
    shutil.rmtree(root / "volumes.zarr")
    assert [fault.row for fault in faults(root)] == [0, 1, 2, 3]


def test_an_array_of_another_shape_is_refused(root: Path) -> None:
    path = root / "volumes.zarr/T1w/zarr.json"
    metadata = json.loads(path.read_text())
    metadata["shape"][0] = 2
    path.write_text(json.dumps(metadata))
    with pytest.raises(StoreError, match=r"T1w has shape \(2, 1, 6, 5, 4\), store.json says"):
        Store.open(root).layout("T1w")


def test_foreign_chunking_is_refused(root: Path) -> None:
    path = root / "volumes.zarr/T1w/zarr.json"
    metadata = json.loads(path.read_text())
    metadata["chunk_grid"]["configuration"]["chunk_shape"][0] = 2
    path.write_text(json.dumps(metadata))
    with pytest.raises(StoreError, match="expected one row per chunk"):
        Store.open(root).read(0, "T1w")


def test_an_unknown_modality_is_refused_with_the_known_ones(root: Path) -> None:
    with pytest.raises(StoreError, match="no modality 'FLAIR'; the store has T1w"):
        Store.open(root).layout("FLAIR")


def test_another_fingerprint_is_refused_with_both(root: Path) -> None:
    store = Store.open(root)
    store.require_fingerprint(SMALL.fingerprint())
    with pytest.raises(StoreError, match=f"{SMALL.fingerprint()}, expected 0123456789abcdef"):
        store.require_fingerprint("0123456789abcdef")


def test_content_digest_is_sha256_of_the_voxels_in_c_order() -> None:
    import hashlib

    voxels = volumes(1)[0]
    assert content_digest(voxels) == hashlib.sha256(voxels.tobytes()).hexdigest()
    assert content_digest(np.asfortranarray(voxels)) == content_digest(voxels)
