"""A finished store, opened for reading: manifest, index, and single rows checked against both."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from preprocess import index as indexing
from preprocess.chunks import RowLayout, read_layout
from preprocess.errors import StoreError
from preprocess.index import IndexRecord
from preprocess.schema import INDEX_NAME, SCHEMA_VERSION, STORE_NAME, StoreManifest
from preprocess.storage import Location, Options, refusals
from preprocess.types import Affine

if TYPE_CHECKING:
    from preprocess.cluster import Cluster

_VERIFY_THREADS = 16
_VERIFIED_AT_ONCE = 256
"""Rows of one task on a cluster."""


class Store:
    """A store at a URL.

        store = Store.open("gs://bucket/store")
        record = next(record for record in store.records if record.present)
        volume_CDHW = store.read(record.row, record.modality)

    Args:
        location: where it lies.
        manifest: its store.json.
        index: its index.parquet, already held against the manifest.
    """

    def __init__(self, location: Location, manifest: StoreManifest, index: pa.Table) -> None:
        self.location = location
        self.manifest = manifest
        self.index = index
        self._layouts: dict[str, RowLayout] = {}

    @classmethod
    def open(cls, uri: str | Path | Location, options: Options | None = None) -> "Store":
        """Open a finished store.

        Raises:
            StoreError: no store.json, an unreadable one, or an index that is not the one it names.
            StorageError: the bucket refuses.
        """
        location = uri if isinstance(uri, Location) else Location(uri, options)
        manifest = read_manifest(location)
        if manifest is None:
            raise StoreError(
                f"{location.uri}: no {STORE_NAME}, so this is not a finished store; run interscan preprocess into it"
            )
        return cls(location, manifest, _read_index(location, manifest))

    @cached_property
    def records(self) -> list[IndexRecord]:
        """All rows of the index, by row and modality."""
        return indexing.from_table(self.index)

    def content_digests(self, modality: str) -> dict[int, str]:
        """SHA-256 of the decoded voxels by row, of one modality; empty for scans that were left out."""
        mine = self.index.filter(pc.equal(self.index["modality"], modality))
        return dict(zip(mine["row"].to_pylist(), mine["content_sha256"].to_pylist(), strict=True))

    def require_fingerprint(self, fingerprint: str) -> None:
        """Refuse a store whose voxels were made by another recipe.

        Raises:
            StoreError: names both fingerprints.
        """
        if self.manifest.fingerprint != fingerprint:
            raise StoreError(
                f"{self.location.uri}: store fingerprint {self.manifest.fingerprint}, expected {fingerprint}; "
                "use the store the model was trained on, or preprocess the scans again with its recipe"
            )

    def layout(self, modality: str) -> RowLayout:
        """How the rows of a modality are stored.

        Raises:
            StoreError: the store has no such modality, or its array breaks the contract.
        """
        if modality not in self._layouts:
            if modality not in self.manifest.arrays:
                known = ", ".join(sorted(self.manifest.arrays))
                raise StoreError(f"{self.location.uri}: no modality {modality!r}; the store has {known}")
            with refusals(f"{self.location.uri}/{modality}"):
                layout = read_layout(self.location.zarr_store(), modality)
            expected = self.manifest.arrays[modality]
            if layout.shape != tuple(expected[1:]) or layout.num_rows < expected[0]:
                found = (layout.num_rows, *layout.shape)
                raise StoreError(f"{self.location.uri}: {modality} has shape {found}, store.json says {expected}")
            self._layouts[modality] = layout
        return self._layouts[modality]

    def read(self, row: int, modality: str) -> np.ndarray:
        """One row in its stored dtype: a volume (C, D, H, W), or what the modality's kind makes of it.

        Raises:
            StoreError: the object is missing or damaged; the message names the row.
        """
        layout = self.layout(modality)
        with self.naming(row, modality):
            return layout.decode(self.location.read(layout.key(row)))

    def affine(self, row: int, modality: str) -> Affine:
        """From a stored volume's voxels to its scan's own RAS+ millimetres, 4 x 4.

        Raises:
            StoreError: the row holds no volume of that modality.
        """
        mine = pc.and_(pc.equal(self.index["row"], row), pc.equal(self.index["modality"], modality))
        affines = self.index.filter(mine)["affine"].to_pylist()
        if not affines or len(affines[0]) != 16:
            raise StoreError(
                f"{self.location.uri}: row {row} holds no volume of {modality}; `records` lists which rows do"
            )
        return np.array(affines[0], dtype=np.float64).reshape(4, 4)

    @contextmanager
    def naming(self, row: int, modality: str) -> Iterator[None]:
        """Name the row in whatever goes wrong while its object is fetched and decoded.

        Raises:
            StoreError: the object is missing or damaged.
            StorageError: the bucket refuses.
        """
        where = f"{self.location.uri}: row {row} of {modality}"
        remedy = "run interscan verify for all damage, then interscan preprocess into a new store"
        try:
            with refusals(where, missing_is_error=False):
                yield
        except FileNotFoundError as error:
            raise StoreError(f"{where}: its object is missing; {remedy}") from error
        except ValueError as error:
            raise StoreError(f"{where}: its object is damaged: {error}; {remedy}") from error


@dataclass(frozen=True, slots=True)
class Fault:
    """One row that is not what the index says."""

    row: int
    modality: str
    name: str
    reason: str


def verify_rows(store: Store, cluster: "Cluster | None" = None) -> Iterator[Fault | None]:
    """Re-read every row the index says is present; yields its fault, or None when it is whole.

    Args:
        store: opened.
        cluster: machines that read instead of this one; faults then come in any order.
    """
    present = [record for record in store.records if record.present]
    name = indexing.naming(store.records)
    if cluster is not None:
        cluster.require_reach(store.location)
        pieces = [present[start : start + _VERIFIED_AT_ONCE] for start in range(0, len(present), _VERIFIED_AT_ONCE)]
        location = (store.location.uri, store.location.options)
        arguments = [(*location, [(record, name(record)) for record in piece]) for piece in pieces]
        for _, faults in cluster.map(_verify_some, arguments):
            yield from faults
        return
    with ThreadPoolExecutor(_VERIFY_THREADS) as pool:
        yield from pool.map(lambda record: _verify_row(store, record, name(record)), present)


def _verify_some(uri: str, options: Options, named: Sequence[tuple[IndexRecord, str]]) -> list[Fault | None]:
    """The rows of one task, on whatever machine."""
    store = Store.open(Location(uri, options))
    with ThreadPoolExecutor(_VERIFY_THREADS) as pool:
        return list(pool.map(lambda one: _verify_row(store, *one), named))


def content_digest(voxels: np.ndarray) -> str:
    """SHA-256 of a volume's decoded voxels in C order."""
    return hashlib.sha256(np.ascontiguousarray(voxels).data).hexdigest()


def read_manifest(location: Location, name: str = STORE_NAME) -> StoreManifest | None:
    """store.json (or a copy of it under another name), or None where there is none.

    Raises:
        StoreError: it cannot be read as the schema this version knows.
    """
    try:
        text = location.read(name)
    except FileNotFoundError:
        return None
    version = _schema_version(text)
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{location.uri}/{name}: schema version {version} is of a newer interscan, this one reads up to "
            f"{SCHEMA_VERSION}; upgrade interscan"
        )
    try:
        return StoreManifest.model_validate_json(text)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the file"
        raise StoreError(f"{location.uri}/{name}: {where}: {fault['msg']}; written by another version?") from error


def _schema_version(text: bytes) -> int:
    """What the file says; 0 where it does not."""
    try:
        found = json.loads(text)
    except ValueError:
        return 0
    version = found.get("schema_version") if isinstance(found, dict) else None
    return version if isinstance(version, int) else 0


def _read_index(location: Location, manifest: StoreManifest) -> pa.Table:
    try:
        data = location.read(INDEX_NAME)
    except FileNotFoundError as error:
        raise StoreError(f"{location.uri}: {INDEX_NAME} is missing; run interscan preprocess again") from error
    found = hashlib.sha256(data).hexdigest()
    if found != manifest.index_sha256:
        raise StoreError(
            f"{location.uri}: {INDEX_NAME} has SHA-256 {found[:12]}, {STORE_NAME} says {manifest.index_sha256[:12]}: "
            "the index was changed, or an append was cut off; run interscan preprocess again"
        )
    return indexing.from_bytes(data)


def _verify_row(store: Store, record: IndexRecord, name: str) -> Fault | None:
    try:
        found = content_digest(store.read(record.row, record.modality))
    except StoreError as error:
        return Fault(record.row, record.modality, name, str(error))
    if found != record.content_sha256:
        reason = (
            f"row {record.row} of {record.modality}: voxels have SHA-256 {found[:12]}, not {record.content_sha256[:12]}"
        )
        return Fault(record.row, record.modality, name, reason)
    return None
