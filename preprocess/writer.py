"""Writes a store: arrays first, then rows in any order by any process, then the index, and store.json last.

Every step may be repeated: the same input gives the same bytes. An append that is cut off between index and store.json
is rolled forward by the next run, from the copy of store.json that was staged before the index was touched.
"""

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store as ZarrStore

from preprocess import index as indexing
from preprocess.chunks import row_codecs
from preprocess.equal_content import with_findings
from preprocess.errors import StoreError
from preprocess.forms import COLUMNS_ATTRIBUTE, ArrayForm, stored_form
from preprocess.index import IndexRecord
from preprocess.kinds import axes_of
from preprocess.recipe import VolumeRecipe
from preprocess.schema import (
    ARRAYS_FOLDER,
    INDEX_NAME,
    STORE_NAME,
    WORK_FOLDER,
    Forgotten,
    SourceAccount,
    StoreManifest,
)
from preprocess.storage import Location, refusals
from preprocess.store import read_manifest
from preprocess.transforms import unit_scale

_PARTIAL_ENDINGS = (".part", ".partial")
"""What `Location.write` and zarr's LocalStore call a file before it is whole."""
_STAGED_NAME = f"{WORK_FOLDER}/{STORE_NAME}"
Rows = zarr.Array[Any]
"""One modality's array, written row by row."""
_NO_FORMS: Mapping[str, ArrayForm] = MappingProxyType({})
_NO_ACCOUNTS: Mapping[str, SourceAccount] = MappingProxyType({})


def prepare_arrays(
    location: Location,
    recipe: VolumeRecipe,
    modalities: Sequence[str],
    num_rows: int,
    *,
    forms: Mapping[str, ArrayForm] = _NO_FORMS,
) -> None:
    """Create each modality's array, or lengthen it; rows already written stay.

    Args:
        location: the store.
        recipe: decides the shape and type of all rows but those of arrays.
        modalities: those with rows.
        num_rows: length of the first axis.
        forms: forms of the array modalities to be written; one that has neither a form nor an array yet gets none.

    Raises:
        StoreError: an array is there that another recipe made.
    """
    store = location.zarr_store()
    for modality in modalities:
        with refusals(f"{location.uri}/{ARRAYS_FOLDER}/{modality}"):
            _prepare_array(store, location.uri, recipe, modality, num_rows, forms.get(modality))


def _prepare_array(
    store: ZarrStore, uri: str, recipe: VolumeRecipe, modality: str, num_rows: int, form: ArrayForm | None
) -> None:
    path = f"{ARRAYS_FOLDER}/{modality}"
    row_shape = recipe.row_shape(modality) or (form.shape if form is not None else None)
    try:
        array = zarr.open_array(store, path=path, mode="r+")
    except FileNotFoundError:
        if row_shape is None:
            return  # no file of this modality could be read
        serializer, compressors = row_codecs()
        zarr.create_array(
            store,
            name=path,
            shape=(num_rows, *row_shape),
            chunks=(1, *row_shape),
            dtype=recipe.dtype_of(modality),
            fill_value=0,
            serializer=serializer,
            compressors=compressors,
            dimension_names=axes_of(recipe.kind_of(modality), row_shape),
            attributes=_attributes(recipe, modality, form),
        )
        return
    if array.attrs.get("fingerprint") != recipe.fingerprint():
        raise StoreError(
            f"{uri}: holds {modality} {recipe.kind_of(modality)}s of fingerprint {array.attrs.get('fingerprint')}, "
            f"this recipe's is {recipe.fingerprint()}; choose another location for the store, or delete that one"
        )
    if array.shape[0] < num_rows:
        array.resize((num_rows, *array.shape[1:]))


def _attributes(recipe: VolumeRecipe, modality: str, form: ArrayForm | None) -> dict[str, Any]:
    kind = recipe.kind_of(modality)
    common = {"fingerprint": recipe.fingerprint(), "scale": unit_scale(recipe.dtype_of(modality))}
    if kind == "volume":
        return {**common, "spacing_mm": recipe.spacing_mm, "axes": "RAS"}
    columns = {COLUMNS_ATTRIBUTE: list(form.columns)} if form is not None and form.columns else {}
    return {**common, "kind": kind, **columns}


def open_rows(location: Location, modality: str) -> Rows:
    """The modality's array, open for writing single rows."""
    with refusals(f"{location.uri}/{ARRAYS_FOLDER}/{modality}"):
        # A volume equal to the fill value is data too: without this zarr would drop its object.
        # (`open_array` takes such a setting too, and forgets it.)
        array = zarr.open_array(location.zarr_store(), path=f"{ARRAYS_FOLDER}/{modality}", mode="r+")
        return array.with_config({"write_empty_chunks": True})


def write_row(array: Rows, uri: str, row: int, values: np.ndarray) -> None:
    """Put one volume, clip, image or array; one object, so whole or not at all."""
    with refusals(f"{uri}: row {row}"):
        array[row] = values


def commit(
    location: Location,
    recipe: VolumeRecipe,
    records: Sequence[IndexRecord],
    reconciliation: Mapping[str, SourceAccount] = _NO_ACCOUNTS,
    *,
    forgotten: Sequence[Forgotten] = (),
    key_check: str = "",
) -> StoreManifest:
    """Make the rows a store: stage store.json, put the index, put store.json, drop the work folder.

    Scans of equal content are named in their findings, over all rows: see `preprocess.equal_content`.
    """
    _sweep(location)
    before = read_manifest(location)
    num_rows = 1 + max(record.row for record in records)
    shapes = {name: (num_rows, *shape) for name, shape in _row_shapes(location, recipe, records).items()}
    table = indexing.to_bytes(indexing.to_table(with_findings(records, shapes)))
    num_kept = sum(record.present for record in records)
    num_found = sum(record.superseded_by is None for record in records)
    manifest = StoreManifest(
        recipe=recipe,
        fingerprint=recipe.fingerprint(),
        num_rows=num_rows,
        arrays=shapes,
        index_sha256=hashlib.sha256(table).hexdigest(),
        outcomes=tuple(sorted({name for record in records for name in record.outcomes})),
        num_found=num_found,
        num_kept=num_kept,
        num_left_out=num_found - num_kept,
        reconciliation=dict(reconciliation),
        forgotten=(*(before.forgotten if before is not None else ()), *forgotten),
        key_check=key_check or (before.key_check if before is not None else ""),
    )
    text = _to_json(manifest)
    # A reader that comes between index and store.json refuses, since their digests differ. The staged copy lets the
    # next run finish what was cut off there, so it is put before both and dropped last.
    location.write(_STAGED_NAME, text)
    location.write(INDEX_NAME, table)
    location.write(STORE_NAME, text)
    location.delete(WORK_FOLDER)
    return manifest


def _row_shapes(location: Location, recipe: VolumeRecipe, records: Sequence[IndexRecord]) -> dict[str, tuple[int, ...]]:
    """Shape of a row of each modality; array modalities of which no file was readable have no array."""
    shapes = {}
    for modality in sorted({record.modality for record in records}):
        shape = recipe.row_shape(modality)
        if shape is None:
            form = stored_form(location, modality)
            shape = None if form is None else form.shape
        if shape is not None:
            shapes[modality] = shape
    return shapes


def roll_forward(location: Location) -> None:
    """Finish a commit that was cut off after its index was put."""
    staged = read_manifest(location, _STAGED_NAME)
    if staged is None:
        return
    try:
        index_sha256 = hashlib.sha256(location.read(INDEX_NAME)).hexdigest()
    except FileNotFoundError:
        return
    # Where the old index is still there, it fits the old store.json: nothing changed, and the next commit stages anew.
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
    # A store under its true names is what it was before there were others, byte for byte.
    return manifest.model_dump_json(indent=2, exclude=None if manifest.key_check else {"key_check"}).encode()
