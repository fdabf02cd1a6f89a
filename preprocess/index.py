"""index.parquet: what every row holds, as an Arrow table; pure conversions, no network."""

import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from preprocess.schema import INDEX_COLUMNS, OUTCOME_PREFIX
from preprocess.types import Finding


@dataclass(frozen=True, slots=True)
class IndexRecord:
    """One scan's place in the store; the columns of `schema.INDEX_COLUMNS`, plus outcomes by name."""

    row: int
    modality: str
    subject_id: str
    session_id: str
    run: str
    day: float | None
    present: bool
    site: str
    scanner: str
    spacing_mm: tuple[float, ...]
    affine: tuple[float, ...]
    source_uri: str
    source_sha256: str
    source_bytes: int
    content_sha256: str
    findings: tuple[Finding, ...] = ()
    outcomes: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What messages call the scan, for example `sub-03_ses-02_T1w`."""
        return "_".join(part for part in (self.subject_id, self.session_id, self.run, self.modality) if part)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "IndexRecord":
        """The inverse of `to_dict`, also after a trip through JSON."""
        findings = tuple(Finding(**finding) for finding in values["findings"])
        placed = {name: tuple(values[name]) for name in ("spacing_mm", "affine")}
        return cls(**{**values, **placed, "findings": findings})


def to_table(records: Iterable[IndexRecord]) -> pa.Table:
    """Records as a table, ordered by row and modality; one `outcome.` column for each score that occurs."""
    ordered = sorted(records, key=lambda record: (record.row, record.modality))
    names = sorted({name for record in ordered for name in record.outcomes})
    plain = [record.to_dict() for record in ordered]
    columns = {name: pa.array([values[name] for values in plain], type=kind) for name, kind in INDEX_COLUMNS}
    for name in names:
        columns[OUTCOME_PREFIX + name] = pa.array([values["outcomes"].get(name) for values in plain], type=pa.float64())
    return pa.table(columns)


def from_table(table: pa.Table) -> list[IndexRecord]:
    """The inverse of `to_table`."""
    names = [name for name in table.column_names if name.startswith(OUTCOME_PREFIX)]
    records = []
    for values in table.to_pylist():
        outcomes = {name.removeprefix(OUTCOME_PREFIX): values.pop(name) for name in names}
        known = {name: score for name, score in outcomes.items() if score is not None}
        records.append(IndexRecord.from_dict({**values, "outcomes": known}))
    return records


def to_bytes(table: pa.Table) -> bytes:
    """The table as a Parquet file; equal tables give equal bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", store_schema=False)
    return sink.getvalue()


def from_bytes(data: bytes) -> pa.Table:
    """A Parquet file as a table.

    Raises:
        pyarrow.ArrowInvalid: not a Parquet file.
    """
    return pq.read_table(io.BytesIO(data))
