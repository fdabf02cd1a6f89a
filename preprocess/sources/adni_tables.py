"""Clinical tables of ADNI: visits with scores, dates from ADNIMERGE or REGISTRY, ages, image ids and quality control.

A table is known by its columns, since names carry dates and were changed. Rows of one person (RID) and visit code are
one visit. VISCODE is by phase and VISCODE2 common to all, so the second is taken where a table has both; the code joins
rows of tables and checks dates, and never joins a scan, which its date does.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from preprocess.sources.clinical import DAYS_OF_A_YEAR, ClinicalRow, ClinicalVisit, to_visits
from preprocess.sources.reconciliation import Reconciliation
from preprocess.sources.scores import number
from preprocess.sources.sentinels import Choice
from preprocess.sources.study_tables import StudyTable, not_known, pass_over_table
from preprocess.sources.tables import Row

SCORES = {
    "mmse": ("mmse", "mmscore"),
    "cdr": ("cdglobal",),
    "cdr_sb": ("cdrsb",),
    "adas13": ("adas13", "total13"),
    "abeta": ("abeta",),
    "tau": ("tau",),
    "ptau": ("ptau",),
}
"""Scores by the headings that hold them: ADNIMERGE's, and those of the tables that it was made of."""
DIAGNOSES = {"cn": "normal", "mci": "mild cognitive impairment", "dementia": "dementia"}
_SCORE_HEADINGS = frozenset(heading for headings in SCORES.values() for heading in headings)
_KEYS = frozenset({"rid", "ptid", "viscode", "viscode2", "examdate"})
_USED = {
    "visits": {*_KEYS, *_SCORE_HEADINGS, "age", "dx", "imageuid"},
    "registry": set(_KEYS),
    "quality": {"rid", "loniimage", "seriesquality"},
}
_NO_VISITS = frozenset({"f", "uns1", "nv"})
_BASELINE = re.compile(r"bl|sc|scmri|m0+", re.IGNORECASE)
"""Screening comes weeks before the baseline, and its MRI is the baseline's."""
_MONTHS = re.compile(r"m(\d+)", re.IGNORECASE)
_DAYS_OF_A_MONTH = DAYS_OF_A_YEAR / 12
_SLACK_DAYS = 183
_FAILED = 4
_PTID = re.compile(r"\d{3}_S_(\d{4,5})")


@dataclass(frozen=True, slots=True)
class Rating:
    """What quality control says of an image: the row, the person in it, and whether the image failed."""

    where: str
    person: str
    is_failed: bool


@dataclass(slots=True)
class Clinical:
    """What the tables say.

    Attributes:
        visits: those of all people, by person (`RID 413`); `day` is a proleptic ordinal and never stored.
        birth: ordinal of the day on which a person was 0, by person.
        images: person and visit code by image id; empty where no table has IMAGEUID.
        ratings: by image id what the study's quality control says.
        people: everybody whom a table of visits or REGISTRY names.
        has_images: whether a table names images at all.
    """

    visits: list[ClinicalVisit] = field(default_factory=list)
    birth: dict[str, float] = field(default_factory=dict)
    images: dict[str, tuple[str, str]] = field(default_factory=dict)
    ratings: dict[str, Rating] = field(default_factory=dict)
    people: set[str] = field(default_factory=set)
    has_images: bool = False


@dataclass(slots=True)
class _Gathered:
    rows: list[ClinicalRow] = field(default_factory=list)
    dates: dict[tuple[str, str], float] = field(default_factory=dict)
    registered: list[tuple[str, str, str]] = field(default_factory=list)
    ages: dict[str, tuple[float, str]] = field(default_factory=dict)


def read_clinical(tables: Sequence[StudyTable], account: Reconciliation, choice: Choice) -> Clinical:
    """Put the tables together.

    Args:
        tables: everything that was read.
        account: gets a remark for each table, row, column and cell that is not used; no message holds a date.
        choice: what the user says about codes for missing scores.
    """
    clinical, gathered = Clinical(), _Gathered()
    for sort in ("visits", "registry", "quality", ""):
        # ADNIMERGE, which has the most columns, first: it gives a visit its date.
        for table in sorted((one for one in tables if _sort_of(one) == sort), key=lambda one: -len(one.headings)):
            if sort == "":
                pass_over_table(table, "table_not_read", not_known(table), account)
                continue
            table.say_unused(_USED[sort], account)
            for row in table.rows:
                if sort == "quality":
                    _take_quality(table, row, clinical)
                else:
                    _take_visit(table, row, sort, clinical, gathered, account)
    rows = [
        ClinicalRow(
            row.where, row.table, row.subject, row.visit,
            gathered.dates.get((row.subject, row.visit)) if row.day is None else row.day, row.cells, row.diagnosis,
        )
        for row in gathered.rows
    ]  # fmt: skip
    undated = {(row.subject, row.visit) for row in gathered.rows if row.day is None}
    for where, rid, code in gathered.registered:
        if (rid, code) not in undated:
            message = f"{where}: {rid} {code}: no visit with scores waits for its date; nothing to do"
            account.add("date_not_needed", where, message)
    clinical.visits = to_visits(rows, account, choice)
    _add_births(clinical, gathered, account)
    _say_against_codes(clinical.visits, account)
    return clinical


def _sort_of(table: StudyTable) -> str:
    if table.has("loniimage", "seriesquality"):
        return "quality"
    if not table.has_any(("rid", "ptid")) or not table.has_any(("viscode", "viscode2")):
        return ""
    if table.has_any(_SCORE_HEADINGS):
        return "visits"
    return "registry" if table.has("examdate") else ""


def _take_visit(
    table: StudyTable, row: Row, sort: str, clinical: Clinical, gathered: _Gathered, account: Reconciliation
) -> None:
    where = table.where(row)
    rid = _rid(table, row)
    code = visit_code(table.cell(row, "viscode2") or table.cell(row, "viscode"))
    if not rid:
        account.add("bad_id", where, f"{where}: RID and PTID name nobody, or two people; correct it")
        return
    clinical.people.add(rid)
    if code in _NO_VISITS or not code:
        message = f"{where}: {rid}: {code or 'no code'} stands for no visit; nothing to do"
        account.add("not_a_visit", where, message)
        return
    day = _date(table, row, account)
    if sort == "registry":
        gathered.registered.append((where, rid, code))
        if day is not None:
            gathered.dates.setdefault((rid, code), day)
        return
    if not _BASELINE.fullmatch(code) and not _MONTHS.fullmatch(code):
        message = f"{where}: {code} is a code of one phase; joined by its date, supply VISCODE2 to have it checked"
        account.add("visit_code_unknown", where, message)
    if day is not None:
        gathered.dates.setdefault((rid, code), day)
    cells = {score: table.cell(row, *headings) for score, headings in SCORES.items() if table.has_any(headings)}
    gathered.rows.append(ClinicalRow(where, table.name, rid, code, day, cells, table.cell(row, "dx")))
    age = number(table.cell(row, "age"))
    if age is not None and age > 0:
        gathered.ages.setdefault(rid, (age, where))
    clinical.has_images |= table.has("imageuid")
    image = number(table.cell(row, "imageuid"))  # a float such as 45126.0, where another row has none
    if image is not None and image > 0:
        clinical.images[f"I{image:.0f}"] = (rid, code)


def _rid(table: StudyTable, row: Row) -> str:
    """The person's number, which is the last part of the PTID too; empty where there is none, or two that differ."""
    rid = number(table.cell(row, "rid"))
    found = _PTID.fullmatch(table.cell(row, "ptid"))
    said = {int(found[1])} if found else set()
    if rid is not None and rid == int(rid) and rid > 0:
        said.add(int(rid))
    return f"RID {said.pop()}" if len(said) == 1 else ""


def visit_code(written: str) -> str:
    """The code in small letters, months with two digits: `M6` is `m06`."""
    code = written.strip().lower()
    months = _MONTHS.fullmatch(code)
    return f"m{int(months[1]):02d}" if months else code


def is_same_visit(one: str, other: str) -> bool:
    """Whether two codes stand for one visit: screening, month 0 and baseline do."""
    return one == other or bool(_BASELINE.fullmatch(one) and _BASELINE.fullmatch(other))


def _date(table: StudyTable, row: Row, account: Reconciliation) -> float | None:
    cell = table.cell(row, "examdate")
    if not cell:
        return None
    try:
        return float(datetime.fromisoformat(cell).date().toordinal())
    except ValueError:
        where = table.where(row)
        account.add("not_a_date", f"{where} EXAMDATE", f"{where}: EXAMDATE is no ISO date; write YYYY-MM-DD")
        return None


def _take_quality(table: StudyTable, row: Row, clinical: Clinical) -> None:
    image = table.cell(row, "loniimage").upper()
    image = image if image.startswith("I") else f"I{image}"
    is_failed = number(table.cell(row, "seriesquality")) == _FAILED
    # One failure is enough, however often the image was rated.
    if is_failed or image not in clinical.ratings:
        clinical.ratings[image] = Rating(table.where(row), _rid(table, row), is_failed)


def _add_births(clinical: Clinical, gathered: _Gathered, account: Reconciliation) -> None:
    """ADNIMERGE has the age at baseline in every row; with the baseline's date it is an age on every day."""
    baseline = {
        visit.subject: visit.day for visit in clinical.visits if visit.visit in ("bl", "m00") and visit.day is not None
    }
    for rid, (age, where) in gathered.ages.items():
        if rid in baseline:
            clinical.birth[rid] = baseline[rid] - age * DAYS_OF_A_YEAR
        else:
            message = f"{where}: an age at baseline, but {rid} has no dated row bl: ages at scans stay unknown"
            account.add("age_unanchored", where, f"{message}; supply the row")


def _say_against_codes(visits: Sequence[ClinicalVisit], account: Reconciliation) -> None:
    """Visits whose date lies half a year or more from the month that their code says; the date is believed."""
    begins = {visit.subject: visit.day for visit in visits if visit.visit == "bl" and visit.day is not None}
    for visit in visits:
        months = _MONTHS.fullmatch(visit.visit)
        if visit.day is None or months is None or visit.subject not in begins:
            continue
        gap = visit.day - begins[visit.subject]
        if abs(gap - int(months[1]) * _DAYS_OF_A_MONTH) > _SLACK_DAYS:
            message = (
                f"{visit.where}: {visit.visit} lies {gap:g} days after bl; the date is believed, correct it or the code"
            )
            account.add("days_against_labels", visit.where, message)


def years_at(birth: float, ordinal: float) -> float:
    """Age in years on a day."""
    return (ordinal - birth) / DAYS_OF_A_YEAR
