"""index.parquet: what every row holds, as an Arrow table; pure conversions, no network."""

import hashlib
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass
from operator import attrgetter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from preprocess.schema import (
    COHORT_COLUMN,
    INDEX_COLUMNS,
    OUTCOME_PREFIX,
    PREPARATION,
    PREPARATION_COLUMN,
    SUPERSEDED_COLUMN,
    TISSUE,
    TISSUE_COLUMN,
)
from preprocess.types import Finding, Preparation, TissueFit


@dataclass(frozen=True, slots=True)
class IndexRecord:
    """One scan's row in the store; the columns of `schema.INDEX_COLUMNS`, plus a fit and outcomes by name."""

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
    cohort: str = ""
    tissue: TissueFit | None = None
    superseded_by: int | None = None
    preparation: Preparation | None = None

    @property
    def name(self) -> str:
        """What messages call the scan, for example `sub-03_ses-02_T1w`."""
        return "_".join(part for part in (self.subject_id, self.session_id, self.run, self.modality) if part)

    @property
    def full_name(self) -> str:
        """The name with its cohort's in front, for stores that hold several: `IXI/sub-03_ses-02_T1w`."""
        return f"{self.cohort}/{self.name}" if self.cohort else self.name

    @property
    def person(self) -> str:
        """The subject, distinct from those of all other cohorts; see `person_of`."""
        return person_of(self.cohort, self.subject_id)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "IndexRecord":
        """The inverse of `to_dict`, also after a trip through JSON."""
        findings = tuple(Finding(**finding) for finding in values["findings"])
        placed = {name: tuple(values[name]) for name in ("spacing_mm", "affine")}
        tissue = values.get("tissue")  # stores of recipes without a fit have no such column
        fit = None if tissue is None else TissueFit(**{k: _hashable(v) for k, v in tissue.items()})
        steps = values.get("preparation")
        prepared = None if steps is None else Preparation(**steps)
        return cls(**{**values, **placed, "findings": findings, "tissue": fit, "preparation": prepared})


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def person_of(cohort: str, subject_id: str) -> str:
    """One name a person: `COHORT/SUBJECT`, or the subject alone in a cohort without a name.

    The cohort comes first always, not only in a store of several, so that a second cohort changes no earlier split. Up
    to the first slash it is the cohort: slashes of its own name are written `%2F`, and an id with a slash of a cohort
    without a name begins with one. So no two people have one name.
    """
    if not cohort:
        return f"/{subject_id}" if "/" in subject_id else subject_id
    return f"{cohort.replace('%', '%25').replace('/', '%2F')}/{subject_id}"


def person_digest(person: str) -> str:
    """What stands in a store for a person who was deleted: enough to know the name again, and not the name."""
    return hashlib.sha256(f"forgotten person: {person}".encode()).hexdigest()


def subject_of(person: str) -> str:
    """The subject's id within its cohort."""
    return person.partition("/")[2] if "/" in person else person


def naming(records: Iterable[IndexRecord]) -> Callable[[IndexRecord], str]:
    """How messages call the scans of a store: with the cohort in front where it holds more than one."""
    several = len({record.cohort for record in records}) > 1
    return attrgetter("full_name" if several else "name")


def listed(names: Sequence[str], *, shown: int = 3) -> str:
    """The first names, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def to_table(records: Iterable[IndexRecord]) -> pa.Table:
    """Records as a table, ordered by row and modality; one `outcome.` column for each score that occurs."""
    ordered = sorted(records, key=attrgetter("row", "modality"))
    names = sorted({name for record in ordered for name in record.outcomes})
    # Column by column: records as dictionaries would take six times as long.
    columns = {
        name: pa.array([_plain(getattr(record, name)) for record in ordered], type=kind) for name, kind in INDEX_COLUMNS
    }
    if any(record.tissue is not None for record in ordered):
        # Only then: the index of a store without fits stays what it was, byte for byte.
        columns[TISSUE_COLUMN] = pa.array([record.tissue and asdict(record.tissue) for record in ordered], type=TISSUE)
    if any(record.superseded_by is not None for record in ordered):
        columns[SUPERSEDED_COLUMN] = pa.array([record.superseded_by for record in ordered], type=pa.int64())
    if any(record.preparation is not None for record in ordered):
        steps = [record.preparation and asdict(record.preparation) for record in ordered]
        columns[PREPARATION_COLUMN] = pa.array(steps, type=PREPARATION)
    for name in names:
        columns[OUTCOME_PREFIX + name] = pa.array([record.outcomes.get(name) for record in ordered], type=pa.float64())
    return pa.table(columns)


def from_table(table: pa.Table) -> list[IndexRecord]:
    """The inverse of `to_table`."""
    scores = {name: table[name].to_pylist() for name in table.column_names if name.startswith(OUTCOME_PREFIX)}
    columns = {name: table[name].to_pylist() for name in table.column_names if name not in scores}
    names, records = list(columns), []
    known = [(name.removeprefix(OUTCOME_PREFIX), values) for name, values in scores.items()]
    for index, values in enumerate(zip(*columns.values(), strict=True)):
        outcomes = {name: score[index] for name, score in known if score[index] is not None}
        records.append(IndexRecord.from_dict({**dict(zip(names, values, strict=True)), "outcomes": outcomes}))
    return records


def _plain(value: Any) -> Any:
    """Findings as dictionaries, everything else as it is."""
    return [asdict(one) for one in value] if value and isinstance(value, tuple) and is_dataclass(value[0]) else value


def to_bytes(table: pa.Table) -> bytes:
    """The table as a Parquet file; equal tables give equal bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", store_schema=False)
    return sink.getvalue()


def from_bytes(data: bytes) -> pa.Table:
    """A Parquet file as a table; one of the time before cohorts had names gets the empty name.

    Raises:
        pyarrow.ArrowInvalid: not a Parquet file.
    """
    table = pq.read_table(io.BytesIO(data))
    if COHORT_COLUMN in table.column_names:
        return table
    unnamed = pa.array([""] * len(table), type=pa.string())
    return table.append_column(COHORT_COLUMN, unnamed)
