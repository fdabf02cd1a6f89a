"""The store's contract in types: store.json, and the columns of index.parquet.

<root>/volumes.zarr/<modality>   Zarr v3, one row = one chunk = one object
<root>/index.parquet             one record per row and modality
<root>/reconciliation/*.json     what became of everything that was at each source
<root>/store.json                written last: without it there is no store
"""

from typing import Literal

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from preprocess.recipe import VolumeRecipe

STORE_NAME = "store.json"
INDEX_NAME = "index.parquet"
ARRAYS_FOLDER = "volumes.zarr"
WORK_FOLDER = ".work"
"""Records of a run under way; gone once the store is complete."""
ACCOUNTS_FOLDER = "reconciliation"
SHARDS_FOLDER = f"{WORK_FOLDER}/shards"
"""Who writes which shard of it."""
OUTCOME_PREFIX = "outcome."
COHORT_COLUMN = "cohort"
"""Stores of version 1 lack it; their scans are of one cohort without a name."""
SCHEMA_VERSION: Literal[2] = 2
"""2 added `cohort`: a reader that does not know it would take two people of one id for one."""

_FINDING = pa.struct([("code", pa.string()), ("message", pa.string()), ("leaves_out", pa.bool_())])
INDEX_COLUMNS: list[tuple[str, pa.DataType]] = [
    ("row", pa.int64()),
    ("modality", pa.string()),
    ("subject_id", pa.string()),
    ("session_id", pa.string()),
    ("run", pa.string()),
    ("day", pa.float64()),
    ("present", pa.bool_()),
    ("site", pa.string()),
    ("scanner", pa.string()),
    ("spacing_mm", pa.list_(pa.float64())),
    ("affine", pa.list_(pa.float64())),
    ("source_uri", pa.string()),
    ("source_sha256", pa.string()),
    ("source_bytes", pa.int64()),
    ("content_sha256", pa.string()),
    ("findings", pa.list_(_FINDING)),
    (COHORT_COLUMN, pa.string()),
]
"""`spacing_mm` is the scan's own voxel size, `affine` (16 numbers, row by row) takes the stored grid to the scan's RAS+
millimetres (both are empty for clips, images and arrays), `source_uri` is relative to the source's folder,
`content_sha256` is of the decoded voxels, and a subject is one person within its `cohort` (empty where the data set has
no name). `tissue` follows in stores with `intensity = "tissue"` only, and scores as `outcome.<name>`, null where
unknown."""
SUPERSEDED_COLUMN = "superseded_by"
"""Row, int64, that holds what the scan's file holds now; null for the scan as it is. Only in stores of which a file has
changed at its source. Such a record is not `present`, so whoever does not know the column passes it over too; its
voxels stay where they are."""
TISSUE_COLUMN = "tissue"
TISSUE = pa.struct(
    [
        ("means", pa.list_(pa.float64())),
        ("fractions", pa.list_(pa.float64())),
        ("contrast", pa.float64()),
        ("bias", pa.float64()),
        ("depth", pa.float64()),
        ("field", pa.list_(pa.float64())),
    ]
)
"""A `preprocess.types.TissueFit`, null where a scan has none: no volume, or too little of a head. A store that has it
needs no new version: whoever does not know it does not know the recipe in store.json either."""


PREPARATION_COLUMN = "preparation"
PREPARATION = pa.struct(
    [
        ("bias_ratio", pa.float64()),
        ("bias_iterations", pa.int64()),
        ("registered_to", pa.string()),
        ("num_registered", pa.int64()),
        ("turn_deg", pa.float64()),
        ("shift_mm", pa.float64()),
        ("agreement", pa.float64()),
        ("mask_ml", pa.float64()),
        ("mask_sha256", pa.string()),
    ]
)
"""A `preprocess.types.Preparation`, null where nothing was done; only in stores whose recipe asks for a step. There
`affine` takes the stored grid to the scan's own millimetres all the same, with the motion in it."""


class SourceAccount(BaseModel):
    """What became of everything at a source, in numbers; the file it names lists it.

    Attributes:
        name: the file, relative to the store.
        sha256: its digest.
        files: how many files were there, and how many of them are scans, were read, are passed over, or are others.
        counts: entries by part of the account and by code, as `preprocess.sources.reconciliation` has them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str
    files: dict[str, int]
    counts: dict[str, dict[str, int]]


class Forgotten(BaseModel):
    """A person who was deleted on request: what the source, old runs and old artefacts are held against.

    Attributes:
        person_sha256: digest of the person's name in the store (`index.person_digest`); the name itself is gone.
        index_sha256: digest of the index that still held the person.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    person_sha256: str
    index_sha256: str


class StoreManifest(BaseModel):
    """store.json. Holds nothing that depends on when or where it was made, so that equal runs give equal bytes.

    Attributes:
        schema_version: 1 for a store without names of cohorts, which stays readable.
        fingerprint: fingerprint of the recipe that decided the voxels.
        num_rows: length of every array's first axis.
        arrays: shape of each modality's array; one of vectors or matrices of which no file was readable has none.
        index_sha256: digest of index.parquet.
        outcomes: names of the scores in the index.
        num_found: scans the source listed, of the recipe's modalities; what was superseded is not among them.
        num_kept: scans that are in the store.
        num_left_out: scans that are not; their findings stand in the index.
        reconciliation: by cohort; stores of earlier versions have none.
        forgotten: people who were deleted on request.
        key_check: check value of the key by which all names are pseudonyms; empty, and not written, where names are
            the true ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    recipe: VolumeRecipe
    fingerprint: str
    num_rows: int
    arrays: dict[str, tuple[int, ...]]
    index_sha256: str
    outcomes: tuple[str, ...]
    num_found: int
    num_kept: int
    num_left_out: int
    reconciliation: dict[str, SourceAccount] = Field(default_factory=dict)
    forgotten: tuple[Forgotten, ...] = ()
    key_check: str = ""
