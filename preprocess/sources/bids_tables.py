"""What the tables of a BIDS folder say of its scans: days, sites, scanners and scores, and which rows fit none.

participants.tsv has a row a subject, `sub-*_sessions.tsv` a row a session, `*_scans.tsv` a row a file. Every table is
read once, rows are matched to scans by `ids`, and codes of scores are recognised over all rows of one sort.
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from preprocess.file_types import without_ending
from preprocess.sources.days import Times, believable, count_days, is_placeholder, read_times
from preprocess.sources.ids import Matched, match_rows
from preprocess.sources.listing import TextError, read_text
from preprocess.sources.names import BidsName
from preprocess.sources.reconciliation import Reconciliation
from preprocess.sources.scores import Source, read_scores
from preprocess.sources.sentinels import Choice
from preprocess.sources.tables import KNOWN_COLUMNS, MISSING, Row, Table, TableError, read_table
from preprocess.storage import Location

PARTICIPANTS = "participants.tsv"
_Cells = dict[str, str]
_Session = tuple[str, str]
"""Subject and session."""


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is a scan, and what its path says."""

    name: str
    path: BidsName


@dataclass(slots=True)
class BidsTables:
    """Names of the tables of a data set: of its participants, and by subject those of sessions and of scans."""

    participants: str = ""
    sessions: dict[str, str] = field(default_factory=dict)
    scans: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def take(self, name: str, account: Reconciliation) -> bool:
        """Remember a table; one that lies where none is read is named. False for other files."""
        subject, slash, rest = name.partition("/")
        base = name.rpartition("/")[2].lower()
        if name == PARTICIPANTS:
            self.participants = name
        elif subject.startswith("sub-") and slash and base.endswith("_scans.tsv"):
            self.scans[subject].append(name)
        elif subject.startswith("sub-") and rest == f"{subject}_sessions.tsv":
            self.sessions[subject] = name
        elif base.endswith(("sessions.tsv", "scans.tsv")) or (base.startswith("participants.") and base[13:] != "json"):
            where_read = "participants.tsv, sub-*/sub-*_sessions.tsv or *_scans.tsv in a subject's folder"
            account.pass_over("table_not_read", name, f"tables are read from {where_read} only; move or save it there")
        elif subject == "phenotype" and base.endswith(".tsv"):
            account.pass_over("table_not_read", name, "phenotype tables are not read; put scores into sessions.tsv")
        else:
            return False
        return True


@dataclass(slots=True)
class Facts:
    """What the tables say.

    Attributes:
        personal: scores by subject.
        sites: by subject.
        scores: by subject and session.
        scanners: by subject and session.
        days: by subject and session.
        scans: cells of scans.tsv by file name.
    """

    personal: dict[str, dict[str, float]] = field(default_factory=dict)
    sites: dict[str, str] = field(default_factory=dict)
    scores: dict[_Session, dict[str, float]] = field(default_factory=dict)
    scanners: dict[_Session, str] = field(default_factory=dict)
    days: dict[_Session, float] = field(default_factory=dict)
    scans: dict[str, _Cells] = field(default_factory=dict)


def read_facts(
    source: Location,
    tables: BidsTables,
    found: Sequence[Found],
    names: Mapping[str, int],
    modalities: Sequence[str],
    account: Reconciliation,
    choice: Choice,
) -> Facts:
    """Read all tables and match them to the scans.

    Args:
        source: the data set.
        tables: names of its tables.
        found: its scans.
        names: all of its files.
        modalities: what was requested; messages say which scan a row lacks.
        account: gets a remark for each row and cell that is not used, and for each scan without a row.
        choice: what the user says about codes for missing scores.
    """
    facts = Facts()
    requested = " or ".join(modalities)
    by_subject: dict[str, list[Found]] = defaultdict(list)
    for one in found:
        by_subject[one.path.subject_id].append(one)
    visits = _participants(source, tables.participants, by_subject, requested, account, choice, facts)
    sessions: dict[_Session, _Cells] = {}
    scan_tables = Unused()
    names_of: dict[str, list[str]] = defaultdict(list)
    for name in names:
        names_of[name.partition("/")[0]].append(name)
    for subject, scans in by_subject.items():
        sessions |= _sessions(source, tables, subject, scans, visits.get(subject, []), requested, account)
        for name in tables.scans.pop(subject, []):
            _scan_rows(source, name, subject, scans, names_of[subject], account, facts, scan_tables)
    for subject, name in tables.sessions.items():
        if subject not in by_subject:
            account.others.append(name)
    account.others += [name for rest in tables.scans.values() for name in rest]
    scan_tables.say(account)
    rows = [Source("_".join(key), "sessions.tsv", cells) for key, cells in sessions.items()]
    facts.scores = dict(zip(sessions, read_scores(rows, account, choice), strict=True))
    facts.scanners = {key: cells.get("scanner", "") for key, cells in sessions.items()}
    _days(by_subject, sessions, facts, account)
    return facts


def _table(source: Location, name: str, key: str, account: Reconciliation) -> Table:
    """A table with its key column; an empty one, and a remark, where it cannot be used."""
    try:
        table = read_table(name, read_text(source, name), account)
    except (TextError, TableError) as error:
        account.pass_over("table_unreadable", name, str(error))
        return Table(name)
    if table.columns and key not in table.columns:
        shown = ", ".join(table.columns)[:80]
        account.pass_over(
            "table_unreadable", name, f"no column {key} (columns: {shown}); save it tab-separated, with one"
        )
        return Table(name)
    account.read.add(name)
    return table


def _participants(
    source: Location,
    name: str,
    by_subject: Mapping[str, Sequence[Found]],
    requested: str,
    account: Reconciliation,
    choice: Choice,
    facts: Facts,
) -> dict[str, list[Row]]:
    """Fill sites and personal scores; returns rows that name a session too, by subject."""
    if not name:
        return {}
    table = _table(source, name, "participant_id", account)
    if not table.rows:
        return {}
    visits: dict[str, list[Row]] = defaultdict(list)
    own = [row for row in table.rows if row.get("session_id").lower() in MISSING]
    of_visits: dict[str, list[Row]] = defaultdict(list)
    for row in table.rows:
        if row.get("session_id").lower() not in MISSING:
            of_visits[row.get("participant_id")].append(row)
    named = {row.get("participant_id") for row in own}
    # One row stands for all visits of a person while the person is looked for.
    matched = match_rows(
        [*own, *(_constant(rows) for cell, rows in of_visits.items() if cell not in named)],
        by_subject,
        column="participant_id",
        prefix="sub-",
        table=name,
        account=account,
    )
    for subject, cells in matched.cells.items():
        visits[subject] = of_visits.get(cells["participant_id"], [])
        facts.sites[subject] = cells.get("site", "")
    _say_unmatched(matched, name, "participant_id", requested, account)
    for subject in by_subject:
        if subject not in matched.cells:
            account.add("scan_without_row", subject, f"{subject}: not in {name}; add a row to give it scores")
    rows = [Source(subject, name, cells) for subject, cells in matched.cells.items()]
    rows += [Source(f"{name} line {row.line}", name, row.cells) for row in matched.unmatched]
    scores = read_scores(rows, account, choice)
    facts.personal = dict(zip(matched.cells, scores, strict=False))
    return visits


def _constant(rows: Sequence[Row]) -> Row:
    """The first of several rows with only those cells that are the same in all of them."""
    first = rows[0]
    same = {name: cell for name, cell in first.cells.items() if all(row.get(name) == cell for row in rows)}
    return Row(first.line, same)


def _sessions(
    source: Location,
    tables: BidsTables,
    subject: str,
    scans: Sequence[Found],
    visits: Sequence[Row],
    requested: str,
    account: Reconciliation,
) -> dict[_Session, _Cells]:
    ids = dict.fromkeys(one.path.session_id for one in scans)
    name = tables.sessions.get(subject, "")
    found: dict[_Session, _Cells] = {}
    for table, rows in (
        (PARTICIPANTS, visits),
        (name, _table(source, name, "session_id", account).rows if name else []),
    ):
        if not rows:
            continue
        matched = match_rows(rows, ids, column="session_id", prefix="ses-", table=table, account=account)
        _say_unmatched(matched, table, "session_id", requested, account)
        for session in ids:
            if session in matched.cells:
                found[subject, session] = {**found.get((subject, session), {}), **matched.cells[session]}
            elif session:
                one = f"{subject}_{session}"
                account.add("scan_without_row", one, f"{one}: not in {table}; add a row to give it a day and scores")
    return found


def _say_unmatched(matched: Matched, table: str, column: str, requested: str, account: Reconciliation) -> None:
    for row in matched.unmatched:
        where = f"{table} line {row.line}"
        account.add("row_without_scan", where, f"{where}: {column} {row.get(column)[:40]} has no {requested} scan here")


@dataclass(slots=True)
class Unused:
    """Columns of scans.tsv that nothing uses, each with one table that has it."""

    columns: dict[str, str] = field(default_factory=dict)

    def say(self, account: Reconciliation) -> None:
        """One remark for each column of all these tables."""
        for column, table in self.columns.items():
            message = f"{table}: column {column!r} is not used; scores belong into sessions.tsv"
            account.add("column_ignored", column, message)


def _scan_rows(
    source: Location,
    table_name: str,
    subject: str,
    scans: Sequence[Found],
    names: Sequence[str],
    account: Reconciliation,
    facts: Facts,
    unused: Unused,
) -> None:
    """Fill the cells of one scans.tsv; its names are relative to its folder, and are found in other spellings too."""
    table = _table(source, table_name, "filename", account)
    if not table.rows:
        return
    folder = table_name.rpartition("/")[0]
    for column in table.columns:
        if column not in KNOWN_COLUMNS:
            unused.columns.setdefault(column, table_name)
    there = set(names)
    loose: dict[str, list[str]] = defaultdict(list)
    for name in names:
        loose[_bare_path(name)].append(name)
    rows_of: dict[str, list[Row]] = defaultdict(list)
    for row in table.rows:
        cell = row.get("filename")
        where = f"{table_name} line {row.line}"
        if cell.lower() in MISSING:
            account.add("empty_key", where, f"{where}: no filename; the line is passed over")
            continue
        path = cell.replace("\\", "/").removeprefix("bids::").lstrip("/")
        path = "/".join(part for part in path.split("/") if part != ".")
        paths = [one for one in (f"{folder}/{path}", path, f"{subject}/{path}") if one in there]
        fits = loose[_bare_path(f"{folder}/{path}")] or loose[_bare_path(path)]
        if paths:
            rows_of[paths[0]].append(row)
        elif len(fits) == 1:
            message = f"{where}: {cell} is read as {fits[0]}, the only file that fits; correct the table"
            account.add("ids_read_as", where, message)
            rows_of[fits[0]].append(row)
        else:
            account.add("row_without_scan", where, f"{where}: {cell[:120]} is not there")
    # Every file has a row of its own, so rows match by equality from here on.
    renamed = [Row(row.line, {**row.cells, "filename": name}) for name, rows in rows_of.items() for row in rows]
    matched = match_rows(renamed, rows_of, column="filename", prefix="", table=table_name, account=account)
    facts.scans.update(matched.cells)
    for one in scans:
        if one.name.startswith(f"{folder}/") and one.name not in matched.cells:
            account.add("scan_without_row", one.name, f"{one.name}: not in {table_name}; add a row")


def _bare_path(name: str) -> str:
    return f"{name.rpartition('/')[0]}/{without_ending(name)}".lower()


def _days(
    by_subject: Mapping[str, Sequence[Found]],
    sessions: Mapping[_Session, _Cells],
    facts: Facts,
    account: Reconciliation,
) -> None:
    """The session's own table first; where it is silent, the acquisition time of its scans."""
    times: dict[str, Times] = {}
    for subject, scans in by_subject.items():
        ids = dict.fromkeys(scan.path.session_id for scan in scans)
        rows = [(session, sessions[subject, session]) for session in ids if (subject, session) in sessions]
        rows += [(scan.path.session_id, facts.scans[scan.name]) for scan in scans if scan.name in facts.scans]
        times[subject] = read_times(rows, where=f"{subject}_", account=account)
    placeholder = is_placeholder([one.dates for one in times.values()])
    for subject, one in times.items():
        known = count_days(one, where=f"{subject}_", account=account)
        believed = believable(known, one, placeholder=placeholder, where=subject, account=account)
        facts.days |= {(subject, session): day for session, day in believed.items()}


def sidecar_scanner(source: Location, name: str, names: Mapping[str, int], account: Reconciliation) -> str:
    """Maker and model from the scan's JSON sidecar; empty where there is none."""
    folder = name.rpartition("/")[0]
    sidecar = f"{folder}/{without_ending(name)}.json"
    return scanner_of(source, sidecar, account) if sidecar in names else ""


def scanner_of(source: Location, sidecar: str, account: Reconciliation, *, label: str = "") -> str:
    """Maker and model as a sidecar gives them; empty, with a remark, where it cannot be read.

    Args:
        source: the folder that it lies below.
        sidecar: its name there.
        account: gets the remark.
        label: what messages call it; its name when empty.
    """
    label = label or sidecar
    account.read.add(label)
    try:
        fields = json.loads(read_text(source, sidecar))
        fault = "" if isinstance(fields, dict) else f"a {type(fields).__name__}"
    except (TextError, json.JSONDecodeError, RecursionError) as error:
        fault = str(error)
    if fault:
        message = f"{label}: not a JSON object of fields ({fault}), so the scanner is unknown; mend it"
        account.add("sidecar_unreadable", label, message)
        return ""
    return " ".join(str(fields[key]) for key in ("Manufacturer", "ManufacturersModelName") if fields.get(key))
