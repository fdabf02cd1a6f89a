"""Which row every scan gets, decided before any work starts; a pure function of what was found and what is stored."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from operator import attrgetter

from preprocess.errors import StoreError
from preprocess.forms import ArrayForm
from preprocess.index import IndexRecord, listed
from preprocess.types import Finding, Scan

SCANS_PER_TASK = 8
Identity = tuple[str, str, str, str, str]
"""Cohort, subject, session, run and modality: two files of one identity would be the same scan."""
_Visit = tuple[str, str, str, str]
"""Cohort, subject, session and run: what one row stands for."""
Found = tuple[Scan, str, int]
"""A scan, its name relative to the source, and its size in bytes."""


def identity_of(scan: Scan | IndexRecord) -> Identity:
    """What makes a found and a stored scan the same one."""
    return (scan.cohort, scan.subject_id, scan.session_id, scan.run, scan.modality)


_MODALITY, _RUN, _SESSION, _SUBJECT, _COHORT = map(
    attrgetter, ("modality", "run", "session_id", "subject_id", "cohort")
)
_NEVER = float("inf")
"""Day of visits without one, which come last; one object for all."""


@dataclass(frozen=True, slots=True)
class Reread:
    """What the files of stored scans hold today, as `preprocess.recheck` read them.

    Attributes:
        changed: scans whose file holds other bytes than when it was stored.
        mended: scans that were left out, of an unchanged file, and would be kept today.
        findings: what is wrong today with each of the other scans that were left out.
    """

    changed: frozenset[Identity] = frozenset()
    mended: frozenset[Identity] = frozenset()
    findings: Mapping[Identity, tuple[Finding, ...]] = field(default_factory=dict)


AS_STORED = Reread()
"""Nothing changed."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A scan and the row it will fill.

    Attributes:
        row: its row in the store.
        scan: what is read.
        source_name: its name relative to the source.
        num_bytes: size of its file, or of its files together; 0 where the source does not say.
    """

    row: int
    scan: Scan
    source_name: str
    num_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """The work of one run.

    Attributes:
        num_rows: length of the arrays' first axis when the run is done.
        kept: records of earlier runs; their voxels stay, their labels follow the source's tables.
        tasks: groups of claims, each done by one worker and recorded by one object.
        digest: names the plan; a run that finds records of the same digest goes on from them.
        forms: forms of the array modalities in `tasks`, found by reading; see `preprocess.forms`.
        gone: stored scans of this cohort whose file the source no longer has; they stay in the store.
        notes: one line for each remark about the source as a whole.
        superseded: scans of visits that changed at the source, as they were stored; their rows stay and are marked, and
            what the files hold now gets new rows.
    """

    num_rows: int
    kept: tuple[IndexRecord, ...]
    tasks: tuple[tuple[Claim, ...], ...]
    digest: str
    forms: Mapping[str, ArrayForm] = field(default_factory=dict)
    gone: tuple[IndexRecord, ...] = ()
    notes: tuple[str, ...] = ()
    superseded: tuple[IndexRecord, ...] = ()


def make_plan(
    scans: Sequence[Found],
    stored: Sequence[IndexRecord],
    fingerprint: str,
    *,
    reread: Reread = AS_STORED,
    is_by_person: bool = False,
) -> Plan:
    """Give every scan a row: known visits keep theirs, new ones follow, visits of one subject side by side.

    A visit of which a file changed gets a new row, for all its modalities: the old row stays as it is under whoever
    trains on it, and its records are marked.

    Args:
        scans: each scan with its name relative to the source and its size in bytes.
        stored: the store's index, empty for a new store.
        fingerprint: fingerprint of the recipe.
        reread: which stored scans changed at their source, and which of those left out could be kept now.
        is_by_person: whether the voxels of a scan depend on the person's other scans: then one task does all scans of a
            person, and a scan that is new or changed gives all visits of the person new rows.

    Raises:
        StoreError: a changed visit lacks a scan at its source that the store has of it.
    """
    current = [record for record in stored if record.superseded_by is None]
    kept = {identity_of(record): record for record in current}
    rows = {_visit(record): record.row for record in current}
    renewed = {_visit(record) for record in current if record.present and identity_of(record) in reread.changed}
    if is_by_person:
        renewed |= _of_the_same_people(current, scans, kept.keys() - reread.changed - reread.mended)
    _require_whole([record for record in current if record.present and _visit(record) in renewed], scans)
    new: list[Found] = []
    for found in scans:
        scan = found[0]
        identity = identity_of(scan)
        if identity in kept and identity not in reread.changed | reread.mended and _visit(scan) not in renewed:
            kept[identity] = _as_today(kept[identity], scan, reread.findings.get(identity))
        else:
            # Left out before, and replaced or judged otherwise since: another chance, in its own row.
            if _visit(scan) not in renewed:
                kept.pop(identity, None)
            new.append(found)
    for visit in renewed:
        del rows[visit]
    first_row = 1 + max((record.row for record in stored), default=-1)
    claims, next_row = _claimed(new, rows, first_row)
    superseded = tuple(record for record in kept.values() if _visit(record) in renewed)
    later = {visit: claim.row for claim in claims if (visit := _visit(claim.scan)) in renewed} if renewed else {}
    for record in superseded:
        kept[identity_of(record)] = _marked(record, later[_visit(record)], "person" if is_by_person else "visit")
    tasks = tuple(_by_person(claims) if is_by_person else _by_number(claims))
    # Rows and labels belong to the name: records of a run that was cut off before a table was corrected would carry
    # the old labels, and, where days moved, another scan's row.
    work = ([claim.row, claim.source_name, claim.num_bytes, _labels(claim.scan)] for claim in claims)
    past = [record for record in stored if record.superseded_by is not None]
    digest = _digest([fingerprint, next_row, len(kept) + len(past)], work)
    records = sorted((*past, *kept.values()), key=lambda record: (record.row, record.modality))
    return Plan(next_row, tuple(records), tasks, digest, superseded=tuple(one for one in superseded if one.present))


def _of_the_same_people(
    current: Sequence[IndexRecord], scans: Sequence[Found], as_stored: Set[Identity]
) -> set[tuple[str, str, str, str]]:
    """Stored visits of all people of whom a scan is to be read."""
    touched = {(scan.cohort, scan.subject_id) for scan, _, _ in scans if identity_of(scan) not in as_stored}
    return {_visit(one) for one in current if one.present and (one.cohort, one.subject_id) in touched}


def _by_number(claims: Sequence[Claim]) -> Iterator[tuple[Claim, ...]]:
    for start in range(0, len(claims), SCANS_PER_TASK):
        yield tuple(claims[start : start + SCANS_PER_TASK])


def _by_person(claims: Sequence[Claim]) -> Iterator[tuple[Claim, ...]]:
    """Whole people, as many as have the usual number of scans; one person of more is a task of their own."""
    people: dict[tuple[str, str], list[Claim]] = {}
    for claim in claims:  # a person's rows need not be neighbours: visits that were left out keep theirs
        people.setdefault((claim.scan.cohort, claim.scan.subject_id), []).append(claim)
    task: list[Claim] = []
    for person in people.values():
        if task and len(task) + len(person) > SCANS_PER_TASK:
            yield tuple(task)
            task = []
        task += person
    if task:
        yield tuple(task)


def _claimed(new: list[Found], rows: Mapping[_Visit, int], next_row: int) -> tuple[list[Claim], int]:
    """Rows for new scans: that of their visit where it has one, else the next, person by person and day by day.

    A million scans are sorted and numbered in one pass, without a key or an entry for each that would outweigh them.

    Args:
        new: scans, sorted here.
        rows: those of visits that have one.
        next_row: the first that is free.

    Returns:
        A claim for each scan, by row and modality, and the first row that is free then.
    """
    # One sort a field, the last first, since each leaves equals in order.
    for field_of in (_MODALITY, _RUN, _SESSION, _day_or_last, _SUBJECT, _COHORT):
        new.sort(key=lambda found, field_of=field_of: field_of(found[0]))  # type: ignore[misc]
    claims: list[Claim] = []
    person, mine = ("", ""), dict[_Visit, int]()
    for scan, source_name, num_bytes in new:
        visit = _visit(scan)
        if visit[:2] != person:
            person, mine = visit[:2], {}
        row = rows.get(visit, mine.get(visit, -1))
        if row < 0:
            row = mine[visit] = next_row
            next_row += 1
        claims.append(Claim(row, scan, source_name, num_bytes))
    claims.sort(key=attrgetter("scan.modality"))
    claims.sort(key=attrgetter("row"))
    return claims, next_row


def _digest(head: list[object], work: Iterable[object]) -> str:
    """Names a list of work: of the JSON text of all, without holding it, since that of a million scans is large."""
    digest = hashlib.sha256(f"{json.dumps(head)[:-1]}, [".encode())
    for number, one in enumerate(work):
        digest.update(f"{', ' if number else ''}{json.dumps(one)}".encode())
    digest.update(b"]]")
    return digest.hexdigest()[:16]


def _require_whole(stored: Sequence[IndexRecord], scans: Sequence[Found]) -> None:
    """Refuse to give a visit a new row that would lack a modality which the old one has."""
    found = {identity_of(scan) for scan, _, _ in scans}
    missing = [record.name for record in stored if identity_of(record) not in found]
    if missing:
        raise StoreError(
            f"{listed(missing)}: no longer at the source, while another scan of the visit (of the person, where visits "
            "are registered together) is new or has other content than when it was stored; put the file back, or "
            "preprocess into a new store"
        )


def _marked(record: IndexRecord, row: int, unit: str) -> IndexRecord:
    """The record of a scan whose file changed; whoever looks for present scans passes it over."""
    message = (
        f"{record.name}: its file, or another one of the {unit}, changed at the source; row {row} has what it holds"
    )
    finding = Finding("superseded", message)
    return replace(record, present=False, superseded_by=row, findings=(*record.findings, finding))


def _as_today(record: IndexRecord, scan: Scan, findings: tuple[Finding, ...] | None) -> IndexRecord:
    """The stored row with today's tables and findings: scores and days are often corrected after scans were stored."""
    labels = replace(record, day=scan.day, site=scan.site, scanner=scan.scanner, outcomes=dict(scan.outcomes))
    return labels if findings is None else replace(labels, findings=findings)


def _labels(scan: Scan) -> list[object]:
    return [scan.cohort, scan.name, scan.day, scan.site, scan.scanner, sorted(scan.outcomes.items())]


def _visit(scan: Scan | IndexRecord) -> _Visit:
    """What one row of the store stands for."""
    return (scan.cohort, scan.subject_id, scan.session_id, scan.run)


def _day_or_last(scan: Scan) -> float:
    return _NEVER if scan.day is None else scan.day
