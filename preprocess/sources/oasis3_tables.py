"""Clinical tables of OASIS-3 in both releases: visits with scores and diagnoses, and ages at entry.

The newer release has one table a form: UDSb4 (MMSE, CDR), UDSd1 (diagnoses) and demographics (age at entry), keyed by
OASISID and days_to_visit. The older one has a single sheet, ADRC_ADRCCLINICALDATA. Rows are joined by person and day,
since the form in a session's label is often another one.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from preprocess.sources.clinical import DAYS_OF_A_YEAR, ClinicalRow, ClinicalVisit, to_visits
from preprocess.sources.reconciliation import Reconciliation
from preprocess.sources.scores import number
from preprocess.sources.sentinels import Choice
from preprocess.sources.study_tables import StudyTable, not_known, pass_over_table
from preprocess.sources.tables import Row

_AD, _NORMAL, _OTHER, _UNCERTAIN = "AD dementia", "normal", "other dementia", "uncertain dementia"
_MCI = "mild cognitive impairment"
DIAGNOSES = MappingProxyType(
    {
        "cognitively normal": _NORMAL,
        "no dementia": _NORMAL,
        "normal cognition": _NORMAL,
        "ad dementia": _AD,
        "ad dem w/cvd contribut": _AD,
        "ad dem w/cvd not contrib": _AD,
        "ad dem w/depresss- contribut": _AD,
        "ad dem w/depresss- not contribut": _AD,
        "ad dem w/oth (list b) not contrib": _AD,
        "ad dem w/pdi after ad dem contribut": _AD,
        "ad dem w/pdi after ad dem not contrib": _AD,
        "ad dem visuospatial- prior": _AD,
        "ad dem language dysf prior": _AD,
        "ad dem cannot be primary": _OTHER,
        "vascular demt- primary": _OTHER,
        "frontotemporal demt. prim": _OTHER,
        "dlbd- primary": _OTHER,
        "dementia/pd- primary": _OTHER,
        "other dementia": _OTHER,
        "uncertain dementia": _UNCERTAIN,
        "uncertain- possible ntd dem": _UNCERTAIN,
        "unc: ques. impairment": _UNCERTAIN,
        "0.5 in memory only": _UNCERTAIN,
        "mild cognitive impairment": _MCI,
    }
)
"""Spellings of dx1 that are understood, in small letters, and what is reported of them. The column has no MCI: that is
UDSd1's. `AD dem cannot be primary` says that it is not AD."""
_SCORES = {"mmse": "mmse", "cdr": "cdrtot", "cdr_sb": "cdrsum"}
_OLD_SCORES = {"mmse": "mmse", "cdr": "cdr", "cdr_sb": "sumbox"}
_KEYS = ("oasisid", "daystovisit", "oasissessionlabel")
_OLD_KEY = "adrcadrcclinicaldataid"
_D1_AD = ("probad", "possad", "alzdis", "alzdisif")
"""Visits of the form's version 3 fill alzdis and alzdisif and no longer the first two."""
_D1_MCI = ("mciamem", "mciaplus", "mcinon1", "mcinon2")
_LABEL = re.compile(r"(OAS3\d{4})_\w+_d(\d{4,5})")
_SUBJECT = re.compile(r"OAS3\d{4}")
_LATEST_DAY = 36525


@dataclass(slots=True)
class Clinical:
    """What the tables say: visits, by person the age in years on day 0 and the row about the entry, and all people."""

    visits: list[ClinicalVisit] = field(default_factory=list)
    entries: dict[str, str] = field(default_factory=dict)
    entry_ages: dict[str, float] = field(default_factory=dict)
    people: set[str] = field(default_factory=set)


def read_clinical(tables: Sequence[StudyTable], account: Reconciliation, choice: Choice) -> Clinical:
    """Put the tables together.

    Args:
        tables: everything that was read.
        account: gets a remark for each table, row, column and cell that is not used.
        choice: what the user says about codes for missing scores.
    """
    rows: list[ClinicalRow] = []
    ages: list[ClinicalRow] = []
    people: set[str] = set()
    newer = [table for table in tables if _form_of(table) == "b4"]
    for form in ("b4", "d1", "entry", "old", ""):
        for table in (one for one in tables if _form_of(one) == form):
            if form == "":
                pass_over_table(table, "table_not_read", not_known(table), account)
            elif form == "old" and newer:
                why = f"of the older release, beside {newer[0].name} of the newer; give it alone to --tables to use it"
                pass_over_table(table, "releases_mixed", why, account)
            else:
                people |= _read(table, form, rows, ages, account)
    visits = to_visits(rows, account, choice)
    clinical = Clinical(
        [_without_age(visit) for visit in visits], {row.subject: row.where for row in ages}, people=people
    )
    for visit in visits:
        if "age" in visit.scores and visit.day is not None:
            clinical.entry_ages.setdefault(visit.subject, visit.scores["age"] - visit.day / DAYS_OF_A_YEAR)
    for visit in to_visits(ages, account, choice):
        clinical.entry_ages |= {visit.subject: visit.scores["age"]} if "age" in visit.scores else {}
    return clinical


def _without_age(visit: ClinicalVisit) -> ClinicalVisit:
    return replace(visit, scores={name: value for name, value in visit.scores.items() if name != "age"})


def _form_of(table: StudyTable) -> str:
    """Which form a table is, by its columns; empty for none that is read."""
    if table.has(_OLD_KEY):
        return "old"
    if not table.has("oasisid"):
        return ""
    if not table.has_any(_KEYS[1:]):
        return "entry" if table.has("ageatentry") else ""
    if table.has_any(_SCORES.values()):
        return "b4"
    return "d1" if table.has_any(("normcog", "demented")) else ""


def _read(
    table: StudyTable, form: str, rows: list[ClinicalRow], ages: list[ClinicalRow], account: Reconciliation
) -> set[str]:
    """Add a table's rows; returns everybody whom it names."""
    people: set[str] = set()
    said_ages: set[tuple[str, str]] = set()
    flags = {"normcog", "demented", *_D1_AD, *_D1_MCI}
    used = {
        "b4": {*_KEYS, *_SCORES.values(), "ageatvisit", "dx1"},
        "d1": {*_KEYS, *flags},
        "entry": {"oasisid", "ageatentry"},
        "old": {_OLD_KEY, "subject", *_OLD_SCORES.values(), "ageatentry", "dx1"},
    }
    table.say_unused(used[form], account)
    for row in table.rows:
        if form == "entry":
            subject = table.cell(row, "oasisid")
            if _known_subject(table, row, subject, account):
                people.add(subject)
                ages.append(_row(table, row, subject, None, {"age": table.cell(row, "ageatentry")}, ""))
            continue
        subject, day = _key(table, row, form)
        if not _known_subject(table, row, subject, account):
            continue
        people.add(subject)
        if not _plausible(table, row, subject, day, account):
            continue
        if form == "d1":
            rows.append(_row(table, row, subject, day, {}, _diagnosis(table, row)))
            continue
        columns = _OLD_SCORES if form == "old" else _SCORES
        cells = {score: table.cell(row, column) for score, column in columns.items()}
        if form == "old":
            entry = _row(table, row, subject, None, {"age": table.cell(row, "ageatentry")}, "")
            # Each visit repeats it; only another age of the same person is worth a remark.
            if (subject, entry.cells["age"]) not in said_ages:
                said_ages.add((subject, entry.cells["age"]))
                ages.append(entry)
        else:
            cells["age"] = table.cell(row, "ageatvisit")
        rows.append(_row(table, row, subject, day, cells, table.cell(row, "dx1")))
    return people


def _row(
    table: StudyTable, row: Row, subject: str, day: float | None, cells: dict[str, str], diagnosis: str
) -> ClinicalRow:
    visit = "entry" if day is None else f"d{day:04.0f}"
    return ClinicalRow(table.where(row), table.name, subject, visit, day, cells, diagnosis)


def _key(table: StudyTable, row: Row, form: str) -> tuple[str, float | None]:
    """Person and day; the day of the label where the row has no other."""
    label = _LABEL.fullmatch(table.cell(row, _OLD_KEY if form == "old" else "oasissessionlabel"))
    subject = table.cell(row, "subject" if form == "old" else "oasisid") or (label[1] if label else "")
    # `339` in some forms and `0339` in others are one day.
    day = number(table.cell(row, "daystovisit"))
    return subject, float(label[2]) if day is None and label else day


def _known_subject(table: StudyTable, row: Row, subject: str, account: Reconciliation) -> bool:
    if _SUBJECT.fullmatch(subject):
        return True
    where = table.where(row)
    message = f"{where}: {subject[:40]!r} is no person of OASIS-3 (OAS3 and four digits); correct it"
    account.add("bad_id", where, message)
    return False


def _plausible(table: StudyTable, row: Row, subject: str, day: float | None, account: Reconciliation) -> bool:
    age = number(table.cell(row, "ageatvisit"))
    if day is not None and 0 <= day <= _LATEST_DAY and (age is None or age >= 0):
        return True
    where = table.where(row)
    shown = "no day" if day is None else f"day {day:g}" + ("" if age is None else f" at age {age:g}")
    message = f"{where}: {subject} {shown}: days count from the person's entry, 0 to {_LATEST_DAY}; correct the row"
    account.add("row_implausible", where, message)
    return False


def _diagnosis(table: StudyTable, row: Row) -> str:
    """What the boxes of UDSd1 say."""

    def ticked(*plain: str) -> bool:
        return any(number(table.cell(row, one)) == 1 for one in plain)

    if ticked("normcog"):
        return "normal cognition"
    if ticked("demented"):
        return _AD if ticked(*_D1_AD) else _OTHER
    return _MCI if ticked(*_D1_MCI) else ""
