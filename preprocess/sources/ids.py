"""Which table row belongs to which subject or session: ids as written, without their prefix, in other case or padding.

A row is matched in the first of these ways that fits exactly one id; a match by case or padding is said, since 1 and 01
may be two people. What fits none, or several, stays unmatched, and is named. Pure.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from preprocess.sources.reconciliation import Reconciliation
from preprocess.sources.tables import MISSING, Row


@dataclass(slots=True)
class Matched:
    """What became of a table's rows.

    Attributes:
        cells: by id; of several rows that agree one, of several that differ what they agree on.
        row_of: the line of each id's row.
        unmatched: rows that fit no id.
    """

    cells: dict[str, dict[str, str]] = field(default_factory=dict)
    row_of: dict[str, int] = field(default_factory=dict)
    unmatched: list[Row] = field(default_factory=list)


def match_rows(
    rows: Sequence[Row], ids: Collection[str], *, column: str, prefix: str, table: str, account: Reconciliation
) -> Matched:
    """Find the id that each row is about.

    Args:
        rows: the rows of one table.
        ids: with their prefix.
        column: that holds the id.
        prefix: `sub-` or `ses-`; cells may lack it.
        table: what messages call the table.
        account: gets a remark for each way of reading ids that was needed, and for rows that contradict each other.
    """
    spelt: dict[str, dict[str, list[str]]] = {way: defaultdict(list) for way in ("case", "padding")}
    for one in ids:
        spelt["case"][_folded(one, prefix)].append(one)
        spelt["padding"][_unpadded(one, prefix)].append(one)
    matched = Matched()
    found: dict[str, list[Row]] = defaultdict(list)
    bare, loose = 0, []
    exact = {row.get(column) for row in rows} | {f"{prefix}{row.get(column)}" for row in rows}
    for row in rows:
        cell = row.get(column)
        if cell.lower() in MISSING:
            where = f"{table} line {row.line}"
            account.add("empty_key", where, f"{where}: no {column}; the line is passed over")
            continue
        if cell in ids:
            found[cell].append(row)
            continue
        if f"{prefix}{cell}" in ids:
            bare += 1
            found[f"{prefix}{cell}"].append(row)
            continue
        fits = spelt["case"][_folded(cell, prefix)] or spelt["padding"][_unpadded(cell, prefix)]
        # A row of the very spelling has the better claim; a second one in another spelling may be another person.
        if len(fits) == 1 and fits[0] not in exact:
            loose.append(f"{cell} as {fits[0]}")
            found[fits[0]].append(row)
        else:
            matched.unmatched.append(row)
    if bare:
        rows_are = "1 row is" if bare == 1 else f"{bare} rows are"
        account.add(
            "ids_read_as", table, f"{table}: {rows_are} without {prefix} in {column}, and read with it", count=bare
        )
    for text in loose:
        account.add(
            "ids_read_as", table, f"{table}: {column} {text}, the only one that fits; check that it is the same"
        )
    for one, about in found.items():
        matched.cells[one] = _agreed(about, one, column, table, account)
        matched.row_of[one] = about[0].line
    return matched


def _agreed(rows: Sequence[Row], one: str, column: str, table: str, account: Reconciliation) -> dict[str, str]:
    """The cells that all rows about one id agree on; an empty cell contradicts nothing."""
    cells = dict(rows[0].cells)
    differing = set()
    for row in rows[1:]:
        for name, cell in row.cells.items():
            if name == column or cell.lower() in MISSING:
                continue
            if cells.get(name, "").lower() in MISSING:
                cells[name] = cell
            elif cells[name] != cell:
                differing.add(name)
    for row in rows[1:]:
        where = f"{table} line {row.line}"
        if differing:
            names = ", ".join(sorted(differing))
            message = (
                f"{where}: {one} again (first in line {rows[0].line}), with another {names}; left empty: delete one"
            )
            account.add("duplicate_visit", where, message)
        else:
            message = f"{where}: {one} again (first in line {rows[0].line}), and nothing new; delete it"
            account.add("duplicate_row", where, message)
    return {name: "" if name in differing else cell for name, cell in cells.items()}


def _folded(text: str, prefix: str) -> str:
    return text.strip().lower().removeprefix(prefix)


def _unpadded(text: str, prefix: str) -> str:
    """Without leading zeros of its numbers: sub-01 and 1 alike, but 10 and 100 not."""
    return re.sub(r"(?<!\d)0+(?=\d)", "", _folded(text, prefix))
