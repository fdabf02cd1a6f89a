"""Writes a store: arrays first, then rows in any order by any process, then the index, and store.json last.

Every step may be repeated: the same input gives the same bytes. An append that is cut off between index and store.json
is rolled forward by the next run, from the copy of store.json that was staged before the index was touched.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store as ZarrStore

from preprocess import index as indexing
from preprocess.chunks import row_codecs
from preprocess.errors import StoreError
from preprocess.index import IndexRecord
from preprocess.recipe import VolumeRecipe
from preprocess.schema import ARRAYS_FOLDER, INDEX_NAME, STORE_NAME, WORK_FOLDER, StoreManifest
from preprocess.storage import Location, refusals
from preprocess.store import read_manifest
from preprocess.transforms import unit_scale

_PARTIAL_ENDINGS = (".part", ".partial")
"""What `Location.write` and zarr's LocalStore call a file before it is whole."""
_STAGED_NAME = f"{WORK_FOLDER}/{STORE_NAME}"
Rows = zarr.Array[Any]
"""One modality's array, written row by row."""
_AXES = ("row", "channel", "right", "anterior", "superior")


def prepare_arrays(location: Location, recipe: VolumeRecipe, modalities: Sequence[str], num_rows: int) -> None:
    """Create each modality's array, or lengthen it; rows already written stay.

    Raises:
        StoreError: an array is there that another recipe made.
    """
    store = location.zarr_store()
    for modality in modalities:
        with refusals(f"{location.uri}/{ARRAYS_FOLDER}/{modality}"):
            _prepare_array(store, location.uri, recipe, modality, num_rows)


def _prepare_array(store: ZarrStore, uri: str, recipe: VolumeRecipe, modality: str, num_rows: int) -> None:
    path = f"{ARRAYS_FOLDER}/{modality}"
    row_shape = (1, *recipe.grid)
    try:
        array = zarr.open_array(store, path=path, mode="r+")
    except FileNotFoundError:
        serializer, compressors = row_codecs()
        zarr.create_array(
            store,
            name=path,
            shape=(num_rows, *row_shape),
            chunks=(1, *row_shape),
            dtype=recipe.dtype,
            fill_value=0,
            serializer=serializer,
            compressors=compressors,
            dimension_names=_AXES,
            attributes={
                "fingerprint": recipe.fingerprint(),
                "scale": unit_scale(recipe.dtype),
                "spacing_mm": recipe.spacing_mm,
                "axes": "RAS",
            },
        )
        return
    if array.attrs.get("fingerprint") != recipe.fingerprint():
        raise StoreError(
            f"{uri}: holds {modality} volumes of fingerprint {array.attrs.get('fingerprint')}, this recipe's is "
            f"{recipe.fingerprint()}; choose another place for the store, or delete that one"
        )
    if array.shape[0] < num_rows:
        array.resize((num_rows, *row_shape))


def open_rows(location: Location, modality: str) -> Rows:
    """The modality's array, open for writing single rows."""
    with refusals(f"{location.uri}/{ARRAYS_FOLDER}/{modality}"):
        # A volume equal to the fill value is data too: without this zarr would drop its object.
        # (`open_array` takes such a setting too, and forgets it.)
        array = zarr.open_array(location.zarr_store(), path=f"{ARRAYS_FOLDER}/{modality}", mode="r+")
        return array.with_config({"write_empty_chunks": True})


def write_row(array: Rows, uri: str, row: int, voxels_CDHW: np.ndarray) -> None:
    """Put one volume; one object, so whole or not at all."""
    with refusals(f"{uri}: row {row}"):
        array[row] = voxels_CDHW


def commit(location: Location, recipe: VolumeRecipe, records: Sequence[IndexRecord]) -> StoreManifest:
    """Make the rows a store: stage store.json, put the index, put store.json, drop the work folder."""
    _sweep(location)
    num_rows = 1 + max(record.row for record in records)
    table = indexing.to_bytes(indexing.to_table(records))
    modalities = sorted({record.modality for record in records})
    num_kept = sum(record.present for record in records)
    manifest = StoreManifest(
        recipe=recipe,
        fingerprint=recipe.fingerprint(),
        num_rows=num_rows,
        arrays=dict.fromkeys(modalities, (num_rows, 1, *recipe.grid)),
        index_sha256=hashlib.sha256(table).hexdigest(),
        outcomes=tuple(sorted({name for record in records for name in record.outcomes})),
        num_found=len(records),
        num_kept=num_kept,
        num_left_out=len(records) - num_kept,
    )
    text = _to_json(manifest)
    location.write(_STAGED_NAME, text)
    location.write(INDEX_NAME, table)
    location.write(STORE_NAME, text)
    location.delete(WORK_FOLDER)
    return manifest


def roll_forward(location: Location) -> None:
    """Finish a commit that was cut off after its index was put."""
    staged = read_manifest(location, _STAGED_NAME)
    if staged is None:
        return
    try:
        index_sha256 = hashlib.sha256(location.read(INDEX_NAME)).hexdigest()
    except FileNotFoundError:
        return
    if staged.index_sha256 == index_sha256:
        location.write(STORE_NAME, _to_json(staged))
        location.delete(WORK_FOLDER)


def _sweep(location: Location) -> None:
    """Remove half-written files of runs that were killed; buckets know none, since an object appears whole."""
    if location.is_local:
        for name in location.names():
            if name.endswith(_PARTIAL_ENDINGS):
                location.delete(name)


def _to_json(manifest: StoreManifest) -> bytes:
    return manifest.model_dump_json(indent=2).encode()
