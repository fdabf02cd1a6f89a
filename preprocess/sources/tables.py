"""Clinical tables as they come: text to rows of cells, with a remark for everything that cannot be taken as it stands.

Tab-separated files follow BIDS and are not quoted: a lone quote mark is a character. Comma-separated files are quoted
as RFC 4180 says. Rows keep the number of their line.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field

from preprocess.sources.reconciliation import Reconciliation

MISSING = frozenset(
    {"", "n/a", "#n/a", "na", "n.a.", "nan", "none", "null", ".", "-", "--", "?", "unknown", "missing", "<na>", "nd"}
)
DAY_COLUMNS = ("day", "days_since_first", "days_since_baseline", "days")
TIME_COLUMNS = ("acq_time", "acquisition_time", "acquisition_date", "date")
NAME_COLUMNS = frozenset(
    {"participant_id", "session_id", "subject_id", "path", "run", "modality", "filename", "scanner", "site"}
)
KNOWN_COLUMNS = NAME_COLUMNS | {*DAY_COLUMNS, *TIME_COLUMNS}
"""Headings with a meaning of their own, found in any case and with spaces; every other one may be a score."""


class _Tabs(csv.excel_tab):
    """Tab-separated values as BIDS has them: a quote mark is a character like any other."""

    quoting = csv.QUOTE_NONE


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: its number in the file, and its cells by heading."""

    line: int
    cells: dict[str, str]

    def get(self, column: str) -> str:
        """The cell, or an empty text where there is no such column."""
        return self.cells.get(column, "")


@dataclass(slots=True)
class Table:
    """A table that was read.

    Attributes:
        name: what messages call it.
        columns: its headings, as they are used.
        rows: its lines.
        torn: lines with more cells than headings: which cell belongs where is not known.
    """

    name: str
    columns: tuple[str, ...] = ()
    rows: list[Row] = field(default_factory=list)
    torn: list[int] = field(default_factory=list)


class TableError(ValueError):
    """The text is no table; the message says why and what to do."""


def read_table(name: str, text: str, account: Reconciliation, *, loses_scans: bool = False) -> Table:
    """Read a table with a heading line.

    Args:
        name: its file name; one that ends in `.csv` is comma-separated, every other one tab-separated.
        text: its content.
        account: gets a remark for each heading or line that is not used as it stands.
        loses_scans: whether a line names a scan, which is left out with it.

    Raises:
        TableError: no table can be made of the text.
    """
    if "\0" in text.lstrip().partition("\n")[0]:
        raise TableError("holds NUL bytes, so it is not UTF-8 text; save the table as UTF-8")
    lines = _lines(name, text)
    first = next(lines, None)
    if first is None:
        return Table(name)
    index_of = _headings(name, first[1], account)
    table = Table(name, tuple(index_of))
    num_headings = len(first[1])
    for line, cells in lines:
        if not any(cells):
            continue
        if any(cells[num_headings:]):
            table.torn.append(line)
            shown = _short(" ".join(cells[num_headings:]))
            message = (
                f"{name} line {line}: {len(cells)} cells under {num_headings} headings ({shown!r} is too much); the "
                "line is not used: write numbers with a point, or put quotes around a cell with a comma"
            )
            account.add("surplus_cells", f"{name} line {line}", message, leaves_out=loses_scans)
            continue
        if len(cells) < num_headings:
            message = f"{name} line {line}: {len(cells)} cells under {num_headings} headings; the rest is read as empty"
            account.add("row_short", f"{name} line {line}", message)
        padded = [*cells, *[""] * (num_headings - len(cells))]
        table.rows.append(Row(line, {column: padded[index] for column, index in index_of.items()}))
    _say_unheaded(name, first[1], text, account)
    return table


def _lines(name: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and stripped cells of each line; a quoted cell of a CSV file may run over several lines."""
    # newline=None: old Mac line ends (\r alone) are ends too.
    source = io.StringIO(text, newline=None)
    reader = csv.reader(source, csv.excel if name.lower().endswith(".csv") else _Tabs, strict=True)
    while True:
        begun = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            message = f"line {begun} cannot be read ({error}); close its quote marks, or save the table again"
            raise TableError(message) from error
        yield begun, [_bare(cell) for cell in cells]


def _bare(cell: str) -> str:
    """The cell without blanks around it, and without the quotes that spreadsheets put around cells of a TSV file."""
    cell = cell.strip()
    return cell[1:-1].strip() if len(cell) > 1 and cell[0] == cell[-1] == '"' else cell


def _headings(name: str, cells: list[str], account: Reconciliation) -> dict[str, int]:
    """Where each column stands: known ones under their own name, however they are spelt."""
    index_of: dict[str, int] = {}
    for index, heading in enumerate(cells):
        plain = "_".join(heading.lower().replace("-", " ").split())
        column = plain if plain in KNOWN_COLUMNS else heading
        if not column:
            continue
        if column in index_of:
            where = f"{name} column {index + 1}"
            message = f"{where}: {heading!r} is a heading given twice; the first is used, rename or remove this one"
            account.add("heading_repeated", where, message)
            continue
        index_of[column] = index
    return index_of


def _say_unheaded(name: str, headings: list[str], text: str, account: Reconciliation) -> None:
    """A column without a heading is not used; tabs at the ends of lines make empty ones, which are not worth a word."""
    unheaded = [index for index, heading in enumerate(headings) if not heading]
    if not unheaded:
        return
    filled = {index for _, cells in _lines(name, text) for index in unheaded if index < len(cells) and cells[index]}
    for index in sorted(filled):
        where = f"{name} column {index + 1}"
        account.add("heading_empty", where, f"{where}: no heading, so the column is not used; give it one")


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:37]}..."
