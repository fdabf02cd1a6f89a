"""Cells to outcome scores: which are numbers, which say missing, which are codes for it, and a remark for the others.

Codes are recognised column by column over all rows that are read together (`sentinels`), so one table's -4 is a value
and another's is a code. Every cell that is left empty, and every column that is not kept, is entered into the account.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from preprocess.sources.reconciliation import Reconciliation
from preprocess.sources.sentinels import Choice, codes_in
from preprocess.sources.tables import KNOWN_COLUMNS, MISSING

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_BOUND = re.compile(r"(?:[<>≤≥]=?|>=|<=)\s*[\d.]+|[\d.]+\s*\+", re.ASCII)
_DECIMAL_COMMA = re.compile(r"([+-]?\d+),(\d+)", re.ASCII)
_DATE_LIKE = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}", re.ASCII)
_OLDEST = 130
"""Years; nobody was ever older."""


@dataclass(frozen=True, slots=True)
class Source:
    """One row that may hold scores: what messages call it, the table it is from, and its cells."""

    where: str
    table: str
    cells: Mapping[str, str]


def number(cell: str) -> float | None:
    """The cell as a number; None where it is none, or not finite."""
    if not _NUMBER.fullmatch(cell):
        return None
    value = float(cell)
    return value if math.isfinite(value) else None


def read_scores(rows: Sequence[Source], account: Reconciliation, choice: Choice) -> list[dict[str, float]]:
    """The scores of each row; absent ones are left out.

    Args:
        rows: all rows of one sort, such as all sessions of a data set; codes are recognised over all of them.
        account: gets a remark for each cell that should be a number and is not, each code and each column without any.
        choice: what the user says about codes.
    """
    scores: list[dict[str, float]] = [{} for _ in rows]
    by_column: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for index, row in enumerate(rows):
        for column, cell in row.cells.items():
            if column not in KNOWN_COLUMNS and cell.lower() not in MISSING:
                by_column[column].append((index, cell))
    for column, cells in by_column.items():
        numbers = {index: value for index, cell in cells if (value := number(cell)) is not None}
        codes = codes_in(column, list(numbers.values()), choice)
        for index, value in numbers.items():
            if value in codes:
                continue
            if column.lower().startswith("age") and not 0 <= value <= _OLDEST:
                message = f"{rows[index].where}: {column} {value:g} is not between 0 and {_OLDEST}; correct the table"
                account.add("age_implausible", f"{rows[index].where} {column}", message)
                continue
            scores[index][column] = value
        _say_codes(column, Counter(value for value in numbers.values() if value in codes), account)
        _say_rest(column, [(rows[index], cell) for index, cell in cells if index not in numbers], numbers, account)
    return scores


def _say_codes(column: str, codes: Counter[float], account: Reconciliation) -> None:
    for code, count in sorted(codes.items()):
        rows = "1 row" if count == 1 else f"{count} rows"
        remedy = f"if it is a score, give --not-missing {column}={code:g}"
        account.add("sentinel", column, f"{column}: {code:g} read as missing in {rows}; {remedy}", count=count)


def _say_rest(
    column: str, cells: Sequence[tuple[Source, str]], numbers: Mapping[int, float], account: Reconciliation
) -> None:
    """Cells that are no numbers: named one by one in a column of numbers, the column named once in one of words."""
    odd = [(row, cell) for row, cell in cells if numbers or _should_be_number(cell)]
    for row, cell in odd:
        code, why = _fault(cell)
        account.add(code, f"{row.where} {column}", f"{row.where}: {column} {cell[:40]!r} {why}")
    if cells and not odd:
        row, cell = cells[0]
        tables = sorted({row.table for row, _ in cells})
        more = f" and {len(tables) - 1} more tables" if len(tables) > 1 else ""
        message = f"{tables[0]}{more}: column {column!r} holds no numbers ({cell[:40]!r}) and is not kept as a score"
        account.add("column_ignored", column, message)


def _should_be_number(cell: str) -> bool:
    return any(char.isdigit() for char in cell) and not cell[0].isalpha() and not _DATE_LIKE.match(cell)


def _fault(cell: str) -> tuple[str, str]:
    if _BOUND.fullmatch(cell):
        return "censored", "is a bound and not a score, and is left empty; write a number if one may stand for it"
    if comma := _DECIMAL_COMMA.fullmatch(cell):
        whole = f" (or {comma[1]}{comma[2]})" if len(comma[2]) == 3 else ""
        return "not_a_number", f"is not a score and is left empty; write {comma[1]}.{comma[2]}{whole}"
    return "not_a_number", "is not a score and is left empty; correct the table"
