"""Clinical visits of a study: rows to visits, and the nearest visit to each session of scans. Pure.

Scores of rows about one visit are put together; what they contradict each other in stays empty. A session takes the
scores of the nearest visit of the same person within the window, the earlier of two equally near ones. Each session
without a visit, and each visit without a session, is named with its reason.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from preprocess.sources.reconciliation import Reconciliation
from preprocess.sources.scores import Source, read_scores
from preprocess.sources.sentinels import FAR, HIGH, NEAR, Choice
from preprocess.sources.tables import MISSING

LIMITS: Mapping[str, tuple[float, float]] = {
    "mmse": (0, 30),
    "cdr": (0, 3),
    "cdr_sb": (0, 18),
    "adas13": (0, 85),
    "abeta": (0, float("inf")),
    "tau": (0, float("inf")),
    "ptau": (0, float("inf")),
}
"""Least and greatest value of each score that studies give, in points of its scale (biomarkers in pg/ml)."""
_UDS_CODES = frozenset({8.0, 9.0, 95.0, 96.0, 97.0, 98.0})
"""Forms of the Uniform Data Set write 8, 88 or 888 for not applicable and 95 to 98 for why a test was not done."""
_CODES = NEAR | FAR | HIGH | _UDS_CODES
DAYS_OF_A_YEAR = 365.25


@dataclass(frozen=True, slots=True)
class ClinicalRow:
    """One line of a table about one visit.

    Attributes:
        where: table and line, as messages name it.
        table: its table.
        subject: the person, as the study's scans call it.
        visit: what the study calls the visit, such as `d0339` or `m06`.
        day: on the study's own clock, the same as that of its scans; None where the table does not say.
        cells: scores under the names of `LIMITS`.
        diagnosis: as written; empty where there is none.
    """

    where: str
    table: str
    subject: str
    visit: str
    day: float | None
    cells: Mapping[str, str] = field(default_factory=dict)
    diagnosis: str = ""


@dataclass(frozen=True, slots=True)
class ClinicalVisit:
    """One visit of one person, as `ClinicalRow`, with its scores as numbers; `where` names all rows about it."""

    where: str
    subject: str
    visit: str
    day: float | None
    scores: Mapping[str, float]
    diagnosis: str = ""


@dataclass(frozen=True, slots=True)
class Imaged:
    """A session of scans: what messages call it, whose it is, and its day on the study's clock."""

    name: str
    subject: str
    day: float | None


def to_visits(rows: Sequence[ClinicalRow], account: Reconciliation, choice: Choice) -> list[ClinicalVisit]:
    """Visits by subject and visit code, in the order of the rows.

    Args:
        rows: lines of all tables; the first about a visit that has a day gives it.
        account: gets a remark for each row and cell that is not used.
        choice: what the user says about codes; codes outside a score's range are missing without it.
    """
    groups: dict[tuple[str, str], list[ClinicalRow]] = defaultdict(list)
    for row in rows:
        groups[row.subject, row.visit].append(row)
    merged = [_merged(group, account) for group in groups.values()]
    declared = {
        (column, code) for column, (least, most) in LIMITS.items() for code in _CODES if not least <= code <= most
    }
    known = Choice(choice.missing | (declared - choice.kept), choice.kept)
    scores = read_scores([Source(one.where, one.table, one.cells) for one in merged], account, known)
    return [
        ClinicalVisit(row.where, row.subject, row.visit, row.day, _in_range(row, found, account), row.diagnosis)
        for row, found in zip(merged, scores, strict=True)
    ]


def _merged(rows: Sequence[ClinicalRow], account: Reconciliation) -> ClinicalRow:
    """All rows about one visit as one; cells that differ stay empty."""
    first = rows[0]
    cells = dict(first.cells)
    day, diagnosis = first.day, first.diagnosis
    seen, where = {first.table}, first.where
    contradicted: set[str] = set()
    for row in rows[1:]:
        said = {column: cell for column, cell in row.cells.items() if cell.lower() not in MISSING}
        differing = [
            column for column, cell in said.items() if cells.get(column, "").lower() not in {*MISSING, cell.lower()}
        ]
        new = {column: cell for column, cell in said.items() if cells.get(column, "").lower() in MISSING}
        is_new = bool(new) or (day is None and row.day is not None) or (not diagnosis and bool(row.diagnosis))
        again = f"{row.where}: {row.subject} {row.visit} again (first in {first.where})"
        if differing:
            names = ", ".join(sorted(differing))
            account.add("duplicate_visit", row.where, f"{again}, with another {names}; left empty: delete one")
        elif not is_new:
            remedy = "delete it" if row.table in seen else "nothing to do"
            account.add("duplicate_row", row.where, f"{again}, and nothing new; {remedy}")
        # A cell that rows contradict each other in stays empty, and another row does not fill it again.
        contradicted |= set(differing)
        cells |= {column: cell for column, cell in new.items() if column not in contradicted}
        cells |= dict.fromkeys(contradicted, "")
        where += f" and {row.where}"
        seen.add(row.table)
        day = row.day if day is None else day
        diagnosis = diagnosis or row.diagnosis
    return replace(first, where=where, cells=cells, day=day, diagnosis=diagnosis)


def _in_range(row: ClinicalRow, scores: Mapping[str, float], account: Reconciliation) -> dict[str, float]:
    kept = {}
    for column, value in scores.items():
        least, most = LIMITS.get(column, (float("-inf"), float("inf")))
        if least <= value <= most:
            kept[column] = value
            continue
        message = f"{row.where}: {column} {value:g} is not between {least:g} and {most:g}; left empty, correct it"
        account.add("score_implausible", f"{row.where} {column}", message)
    return kept


def nearest_visits(
    sessions: Sequence[Imaged], visits: Iterable[ClinicalVisit], *, window_days: float, account: Reconciliation
) -> dict[str, ClinicalVisit]:
    """The visit whose scores each session takes, by the session's name.

    Args:
        sessions: those that have scans.
        visits: those of all people; ones without a score are never taken.
        window_days: greatest distance between session and visit, in days.
        account: gets a remark for each session and each visit that is left alone, and for two equally near visits.
    """
    of_subject: dict[str, list[ClinicalVisit]] = defaultdict(list)
    scanned: dict[str, list[float | None]] = defaultdict(list)
    for session in sessions:
        scanned[session.subject].append(session.day)
    for visit in visits:
        if not visit.scores:
            message = f"{visit.where}: {visit.subject} {visit.visit} has no score that is used; fill it in"
            account.add("visit_without_scores", visit.where, message)
        elif visit.day is None:
            message = f"{visit.where}: {visit.subject} {visit.visit} has no date, so no scan is near; supply it"
            account.add("visit_undated", visit.where, message)
        else:
            of_subject[visit.subject].append(visit)
    taken: dict[str, ClinicalVisit] = {}
    for session in sessions:
        if session.day is None:
            continue
        own = of_subject.get(session.subject, [])
        if not own:
            message = f"{session.name}: no visit with scores of {session.subject} in the tables; add one"
            account.add("scan_without_row", session.name, message)
            continue
        near = _nearest(session, session.day, own, window_days, account)
        if near is not None:
            taken[session.name] = near
    used = {(visit.subject, visit.visit) for visit in taken.values()}
    for subject, own in of_subject.items():
        for visit in own:
            if (subject, visit.visit) not in used:
                why = _why_unused(visit, scanned.get(subject, []), window_days)
                account.add("row_without_scan", visit.where, f"{visit.where}: {subject} {visit.visit}: {why}")
    return taken


def _nearest(
    session: Imaged, day: float, own: Sequence[ClinicalVisit], window_days: float, account: Reconciliation
) -> ClinicalVisit | None:
    ordered = sorted(own, key=lambda visit: (_apart(visit, day), visit.day))
    first = ordered[0]
    apart = _apart(first, day)
    if apart > window_days:
        message = (
            f"{session.name}: the nearest visit ({first.visit}) is {apart:g} days away, more than {window_days:g}; "
            "kept without scores: raise --window-days to take it"
        )
        account.add("no_visit_in_window", session.name, message)
        return None
    if len(ordered) > 1 and _apart(ordered[1], day) == apart:
        message = (
            f"{session.name}: visits {first.visit} and {ordered[1].visit} are both {apart:g} days away; "
            f"{first.visit} is taken, delete the row that is not meant"
        )
        account.add("visit_tie", session.name, message)
    return first


def _apart(visit: ClinicalVisit, day: float) -> float:
    return float("inf") if visit.day is None else abs(visit.day - day)


def _why_unused(visit: ClinicalVisit, days: Sequence[float | None], window_days: float) -> str:
    if not days:
        return "no scan of this person here"
    if any(day is not None and _apart(visit, day) <= window_days for day in days):
        return "another visit is nearer to each scan within the window"
    return f"no scan of this person within {window_days:g} days"


def say_diagnoses(
    visits: Iterable[ClinicalVisit], groups: Mapping[str, str], column: str, account: Reconciliation
) -> None:
    """Report what is diagnosed at the visits of scans: a diagnosis is a word, and no score that can be kept.

    Args:
        visits: that gave scores to a session, each as often as it did.
        groups: what each spelling, in small letters, means.
        column: where it is written.
        account: gets a remark for each group, and for each spelling without one, which is never guessed.
    """
    spellings = Counter(visit.diagnosis for visit in visits if visit.diagnosis.lower() not in MISSING)
    by_group: Counter[str] = Counter()
    for text, count in sorted(spellings.items()):
        if group := groups.get(" ".join(text.lower().split()), ""):
            by_group[group] += count
        else:
            message = f"{column} {text[:60]!r} is no spelling that is known ({_sessions(count)}); it is not guessed"
            account.add("unknown_diagnosis", text, f"{message}: read it there", count=count)
    for group, count in sorted(by_group.items()):
        message = f"{column}: {group} at the visits of {_sessions(count)}; a diagnosis is no score and is not stored"
        account.add("diagnosis", group, message, count=count)


def _sessions(count: int) -> str:
    return "1 session" if count == 1 else f"{count} sessions"
