"""Clinical tables as they come: TSV and CSV cells to numbers, with a note for each cell that is not one."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from datetime import datetime

MISSING = {"", "n/a", "na", "nan", "none", "null", ".", "-"}
_SENTINELS = {-99.0, -999.0, -9999.0, -4.0}
"""Codes for `not known`: -99 and its kin are common, -4 is ADNI's. No outcome score of this field is negative."""
_PLAIN_COLUMNS = {
    "participant_id",
    "session_id",
    "subject_id",
    "path",
    "run",
    "modality",
    "filename",
    "scanner",
    "site",
}
DAY_COLUMNS = ("day", "days_since_first", "days_since_baseline", "days")
TIME_COLUMNS = ("acq_time", "acquisition_time", "acquisition_date", "date")


def read_rows(text: str, delimiter: str) -> list[dict[str, str]]:
    """Rows of a table with a heading line; cells stripped, surplus cells dropped."""
    # newline=None: old Mac line ends (\r alone) are ends too.
    reader = csv.DictReader(io.StringIO(text, newline=None), delimiter=delimiter)
    return [{key.strip(): (value or "").strip() for key, value in row.items() if key} for row in reader]


def number(cell: str) -> float | None:
    """The cell as a number; None where it says missing, holds a sentinel such as -99, or is no finite number."""
    if cell.lower() in MISSING:
        return None
    try:
        value = float(cell)
    except ValueError:
        return None
    return None if not math.isfinite(value) or value in _SENTINELS else value


def outcomes(row: Mapping[str, str], *, where: str, notes: list[str]) -> dict[str, float]:
    """All numeric columns of a row that are neither names nor days; cells that should be numbers but are not are noted.

    Args:
        row: cells by column.
        where: what notes call the row.
        notes: appended to.
    """
    scores = {}
    for column, cell in row.items():
        if column in _PLAIN_COLUMNS or column in DAY_COLUMNS or column in TIME_COLUMNS:
            continue
        value = number(cell)
        if value is not None:
            scores[column] = value
        elif cell.lower() not in MISSING and any(char.isdigit() for char in cell) and not cell[0].isalpha():
            notes.append(f"{where}: {column} {cell!r} is not a score and is left empty; correct the table")
    return scores


def days(rows: Iterable[tuple[str, Mapping[str, str]]], *, where: str = "", notes: list[str]) -> dict[str, float]:
    """Acquisition days by key: as written, or counted from dates.

    Where the table writes days for some visits and only dates for others, the dates are counted from a visit that has
    both; without such a visit they stay unknown, since nothing says on which day the first date lies.

    Args:
        rows: key and cells of all rows of one subject; of several rows with one key the first that says anything wins.
        where: put in front of the key in notes.
        notes: appended to.
    """
    known: dict[str, float] = {}
    dates: dict[str, datetime] = {}
    for key, row in rows:
        written = next((value for column in DAY_COLUMNS if (value := number(row.get(column, ""))) is not None), None)
        if written is not None:
            known.setdefault(key, written)
        date = _date(row, f"{where}{key}", notes)
        if date is not None:
            dates.setdefault(key, date)
    waiting = [key for key in dates if key not in known]
    if not waiting:
        return known
    anchor = next((key for key in dates if key in known), None)
    if anchor is None and known:
        notes.append(f"{where}{waiting[0]}: a date, but other visits have days; write days for all, or both for one")
        return known
    zero, zero_day = (dates[anchor], known[anchor]) if anchor is not None else (min(dates.values()), 0.0)
    return {**{key: zero_day + (dates[key].date() - zero.date()).days for key in waiting}, **known}


def _date(row: Mapping[str, str], where: str, notes: list[str]) -> datetime | None:
    for column in TIME_COLUMNS:
        cell = row.get(column, "")
        if cell.lower() in MISSING:
            continue
        try:
            return datetime.fromisoformat(cell).replace(tzinfo=None)
        except ValueError:
            notes.append(f"{where}: {column} {cell!r} is not an ISO date; write YYYY-MM-DD")
            return None
    return None
