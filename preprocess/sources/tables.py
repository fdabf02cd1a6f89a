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
    reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
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


def days(rows: Iterable[tuple[str, Mapping[str, str]]], *, notes: list[str]) -> dict[str, float]:
    """Acquisition days by key, counted from the subject's first visit where the table holds dates.

    Args:
        rows: key and cells of all rows of one subject.
        notes: appended to.
    """
    known: dict[str, float] = {}
    dates: dict[str, datetime] = {}
    for key, row in rows:
        for column in DAY_COLUMNS:
            value = number(row.get(column, ""))
            if value is not None:
                known[key] = value
                break
        else:
            for column in TIME_COLUMNS:
                cell = row.get(column, "")
                if cell.lower() in MISSING:
                    continue
                try:
                    dates[key] = datetime.fromisoformat(cell).replace(tzinfo=None)
                except ValueError:
                    notes.append(f"{key}: {column} {cell!r} is not an ISO date; write YYYY-MM-DD")
                break
    if dates:
        first = min(dates.values())
        for key, date in dates.items():
            known.setdefault(key, float((date.date() - first.date()).days))
    return known
