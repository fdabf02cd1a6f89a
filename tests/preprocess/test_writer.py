"""Writing a store: standard Zarr, one object a row, store.json last, and a cut-off append rolled forward."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from preprocess import index as indexing
from preprocess.errors import StoreError
from preprocess.storage import Location
from preprocess.store import Store, verify_rows
from preprocess.writer import commit, open_rows, prepare_arrays, roll_forward, write_row
from tests.support.images import tree
from tests.support.stores import SMALL, record, volumes, write_store


def test_the_array_is_standard_zarr_with_named_axes_and_its_scale(tmp_path: Path) -> None:
    write_store(tmp_path)
    metadata = json.loads((tmp_path / "volumes.zarr/T1w/zarr.json").read_text())
    assert metadata["zarr_format"] == 3
    assert metadata["dimension_names"] == ["row", "channel", "right", "anterior", "superior"]
    assert [codec["name"] for codec in metadata["codecs"]] == ["bytes", "zstd", "crc32c"]
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [1, 1, 6, 5, 4]
    array = zarr.open_array(tmp_path / "volumes.zarr/T1w", mode="r")
    np.testing.assert_array_equal(array[:], volumes(4))
    assert array.attrs["scale"] == 1 / 255
    assert array.attrs["fingerprint"] == SMALL.fingerprint()
    assert array.attrs["axes"] == "RAS"


def test_each_row_is_one_object_also_where_all_is_black(tmp_path: Path) -> None:
    location = Location(tmp_path)
    prepare_arrays(location, SMALL, ["T1w"], 2)
    rows = open_rows(location, "T1w")
    black = np.zeros((1, *SMALL.grid), np.uint8)
    write_row(rows, location.uri, 0, black)
    write_row(rows, location.uri, 1, volumes(2)[1])
    commit(location, SMALL, [record(0, black), record(1, volumes(2)[1])])
    objects = [name for name in location.names("volumes.zarr") if "/c/" in name]
    assert objects == [f"volumes.zarr/T1w/c/{row}/0/0/0/0" for row in range(2)]
    assert list(verify_rows(Store.open(location))) == [None, None]


def test_the_same_rows_give_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    write_store(tmp_path / "a")
    location = Location(tmp_path / "b")
    prepare_arrays(location, SMALL, ["T1w"], 4)
    rows = open_rows(location, "T1w")
    for row in (3, 1, 0, 2, 1):
        write_row(rows, location.uri, row, volumes(4)[row])
    commit(location, SMALL, [record(row, volumes(4)[row]) for row in (2, 0, 3, 1)])
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_an_array_is_lengthened_and_never_shortened(tmp_path: Path) -> None:
    write_store(tmp_path, 2)
    before = (tmp_path / "volumes.zarr/T1w/c/1/0/0/0/0").read_bytes()
    prepare_arrays(Location(tmp_path), SMALL, ["T1w"], 5)
    prepare_arrays(Location(tmp_path), SMALL, ["T1w"], 3)
    assert zarr.open_array(tmp_path / "volumes.zarr/T1w", mode="r").shape[0] == 5
    assert (tmp_path / "volumes.zarr/T1w/c/1/0/0/0/0").read_bytes() == before
    assert list(verify_rows(Store.open(tmp_path))) == [None, None]  # the old store is whole until the next commit


def test_an_array_of_another_recipe_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    write_store(tmp_path)
    other = SMALL.model_copy(update={"spacing_mm": 7.0})
    with pytest.raises(StoreError) as caught:
        prepare_arrays(Location(tmp_path), other, ["T1w"], 4)
    assert SMALL.fingerprint() in str(caught.value)
    assert other.fingerprint() in str(caught.value)


def test_store_json_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = []
    write = Location.write
    monkeypatch.setattr(Location, "write", lambda self, name, data: (names.append(name), write(self, name, data)))
    write_store(tmp_path)
    assert names == [".work/store.json", "index.parquet", "store.json"]
    assert not (tmp_path / ".work").exists()


class CutError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("cut_at", [".work/store.json", "index.parquet", "store.json", "delete"])
def test_an_append_cut_off_anywhere_is_old_or_becomes_new(
    cut_at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_store(tmp_path / "truth", 4)
    write_store(tmp_path / "s", 2)
    old = Store.open(tmp_path / "s").records
    location = Location(tmp_path / "s")
    write = Location.write

    def cut_write(self: Location, name: str, data: bytes) -> None:
        if name == cut_at:
            raise CutError
        write(self, name, data)

    def cut_delete(self: Location, name: str) -> None:
        raise CutError

    with monkeypatch.context() as patch:
        patch.setattr(Location, "write", cut_write)
        if cut_at == "delete":
            patch.setattr(Location, "delete", cut_delete)
        prepare_arrays(location, SMALL, ["T1w"], 4)
        rows = open_rows(location, "T1w")
        for row in (2, 3):
            write_row(rows, location.uri, row, volumes(4)[row])
        with pytest.raises(CutError):
            commit(location, SMALL, [record(row, volumes(4)[row]) for row in range(4)])
    if cut_at == "store.json":  # the index is new, store.json old: nothing may be read
        with pytest.raises(StoreError, match="an append was cut off"):
            Store.open(location)
    roll_forward(location)
    store = Store.open(location)
    if cut_at in (".work/store.json", "index.parquet"):
        assert store.records == old
    else:
        assert tree(tmp_path / "s") == tree(tmp_path / "truth")
    assert set(verify_rows(store)) == {None}


def test_rolling_forward_what_needs_none_changes_nothing(tmp_path: Path) -> None:
    roll_forward(Location(tmp_path / "none"))
    assert not (tmp_path / "none").exists()
    write_store(tmp_path / "s")
    before = tree(tmp_path / "s")
    roll_forward(Location(tmp_path / "s"))
    assert tree(tmp_path / "s") == before


def test_a_staged_manifest_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    Location(tmp_path).write(".work/store.json", b'{"schema_version": 9}')
    with pytest.raises(StoreError, match=r"\.work/store\.json"):
        roll_forward(Location(tmp_path))


def test_half_written_files_of_a_killed_run_are_swept(tmp_path: Path) -> None:
    location = Location(tmp_path / "s")
    location.write("volumes.zarr/T1w/c/0/0/0/0/0.0123456789abcdef.partial", b"half")
    location.write(".index.parquet.01234567.part", b"half")
    write_store(tmp_path / "s")
    write_store(tmp_path / "truth")
    assert tree(tmp_path / "s") == tree(tmp_path / "truth")


def test_the_manifest_counts_what_the_index_holds(tmp_path: Path) -> None:
    manifest = write_store(tmp_path, 5, left_out=(0, 3)).manifest
    assert (manifest.num_rows, manifest.num_found, manifest.num_kept, manifest.num_left_out) == (5, 5, 3, 2)
    assert manifest.outcomes == ("mmse",)
    assert manifest.arrays == {"T1w": (5, 1, 6, 5, 4)}
    assert indexing.from_bytes((tmp_path / "index.parquet").read_bytes()).num_rows == 5
