"""Which row every scan gets, decided before any work starts; a pure function of what was found and what is stored."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from preprocess.errors import StoreError
from preprocess.forms import ArrayForm
from preprocess.index import IndexRecord
from preprocess.types import Scan

SCANS_PER_TASK = 8


@dataclass(frozen=True, slots=True)
class Claim:
    """A scan and the row it will fill."""

    row: int
    scan: Scan
    source_name: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of one run.

    Attributes:
        num_rows: length of the arrays' first axis when the run is done.
        kept: records of earlier runs; their voxels stay, their labels follow the source's tables.
        tasks: groups of claims, each done by one worker and recorded by one object.
        digest: names the plan; a run that finds records of the same digest goes on from them.
        forms: of the array modalities in `tasks`, found by reading; see `preprocess.forms`.
    """

    num_rows: int
    kept: tuple[IndexRecord, ...]
    tasks: tuple[tuple[Claim, ...], ...]
    digest: str
    forms: Mapping[str, ArrayForm] = field(default_factory=dict)


def make_plan(
    scans: Sequence[tuple[Scan, str, int]],
    stored: Sequence[IndexRecord],
    fingerprint: str,
    *,
    retry_left_out: bool = False,
) -> Plan:
    """Give every scan a row: known visits keep theirs, new ones follow, visits of one subject side by side.

    Args:
        scans: each scan with its name relative to the source and its size in bytes.
        stored: the store's index, empty for a new store.
        fingerprint: of the recipe.
        retry_left_out: try scans again that were left out before, because the limits have changed since.

    Raises:
        StoreError: a stored scan's source has another size now; overwriting it would change rows under a training run.
    """
    known = {(record.subject_id, record.session_id, record.run, record.modality): record for record in stored}
    rows = {(record.subject_id, record.session_id, record.run): record.row for record in stored}
    new: list[tuple[Scan, str, int]] = []
    kept = dict(known)
    for scan, source_name, num_bytes in scans:
        record = known.get((*scan.visit, scan.modality))
        if record is None:
            new.append((scan, source_name, num_bytes))
        elif record.source_bytes == num_bytes and (record.present or not retry_left_out):
            kept[*scan.visit, scan.modality] = _with_labels_of(record, scan)
        else:
            if record.present:  # only its size can have changed
                raise StoreError(
                    f"{record.name}: the source has {num_bytes} bytes, {record.source_bytes} when it was stored; "
                    "preprocess the changed cohort into a new store"
                )
            # Left out before, and replaced or judged by other limits since: another chance, in its own row.
            del kept[*scan.visit, scan.modality]
            new.append((scan, source_name, num_bytes))
    next_row = 1 + max(rows.values(), default=-1)
    for visit in sorted({_order(scan) for scan, _, _ in new}):
        identity = (visit[0], visit[2], visit[3])
        if identity not in rows:
            rows[identity] = next_row
            next_row += 1
    claims = sorted(
        (Claim(rows[scan.visit], scan, source_name) for scan, source_name, _ in new),
        key=lambda claim: (claim.row, claim.scan.modality),
    )
    tasks = tuple(tuple(claims[start : start + SCANS_PER_TASK]) for start in range(0, len(claims), SCANS_PER_TASK))
    sizes = {source_name: num_bytes for _, source_name, num_bytes in new}
    # Rows and labels belong to the name: records of a run that was cut off before a table was corrected would carry
    # the old labels, and, where days moved, another scan's row.
    work = [[claim.row, claim.source_name, sizes[claim.source_name], _labels(claim.scan)] for claim in claims]
    named = json.dumps([fingerprint, next_row, len(kept), work]).encode()
    return Plan(next_row, tuple(kept.values()), tasks, hashlib.sha256(named).hexdigest()[:16])


def _with_labels_of(record: IndexRecord, scan: Scan) -> IndexRecord:
    """The stored row with today's tables: scores and days are often corrected after the scans were stored."""
    return replace(record, day=scan.day, site=scan.site, scanner=scan.scanner, outcomes=dict(scan.outcomes))


def _labels(scan: Scan) -> list[object]:
    return [scan.name, scan.day, scan.site, scan.scanner, sorted(scan.outcomes.items())]


def _order(scan: Scan) -> tuple[str, float, str, str]:
    """Subjects together, their visits by day; visits without a day last."""
    return (scan.subject_id, float("inf") if scan.day is None else scan.day, scan.session_id, scan.run)
