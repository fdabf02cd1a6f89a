"""Tables of a study, beside its scans or in a folder of their own, known by their headings and not by their names.

Releases rename their tables and put dates into the names, so a table is what its columns say. Headings are compared
without case, blanks and underscores.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from preprocess.errors import UsageError
from preprocess.sources.files import Files, list_files
from preprocess.sources.listing import Listing, TextError, read_text
from preprocess.sources.reconciliation import Reconciliation
from preprocess.sources.sentinels import Choice
from preprocess.sources.tables import MISSING, Row, TableError, read_table
from preprocess.storage import Location
from preprocess.types import Kind

TABLE_ENDINGS = (".csv", ".tsv")
_SPREADSHEETS = (".xlsx", ".xls", ".ods", ".rda", ".rdata", ".sas7bdat", ".sav")


@dataclass(frozen=True, slots=True)
class StudyDownload:
    """A study's folder, and what was asked of it.

    Attributes:
        root: the folder.
        files: what lies in it.
        modalities: BIDS suffixes to keep.
        kinds: kinds of the modalities that are no volumes.
        choice: what the user says about codes for missing scores.
        tables: folder of the clinical tables, or one of them; those among the scans when None.
        window_days: greatest distance of a visit from its scan in days.
    """

    root: Location
    files: Files
    modalities: Sequence[str]
    kinds: Mapping[str, Kind]
    choice: Choice
    tables: str | None
    window_days: float


@dataclass(frozen=True, slots=True)
class StudyTable:
    """A table that was read.

    Attributes:
        name: what messages call it.
        headings: heading by its plain form, such as `daystovisit` for `days_to_visit`.
        rows: its lines.
    """

    name: str
    headings: Mapping[str, str]
    rows: Sequence[Row]

    def cell(self, row: Row, *plain: str) -> str:
        """The first of these columns that says anything in a row; empty where none does."""
        cells = (row.get(self.headings[one]) for one in plain if one in self.headings)
        return next((cell for cell in cells if cell.lower() not in MISSING), "")

    def where(self, row: Row) -> str:
        """What messages call a row."""
        return f"{self.name} line {row.line}"

    def has(self, *plain: str) -> bool:
        """Whether all of these columns are there."""
        return all(one in self.headings for one in plain)

    def has_any(self, plain: Collection[str]) -> bool:
        """Whether one of these columns is there."""
        return any(one in self.headings for one in plain)

    def say_unused(self, used: Collection[str], account: Reconciliation) -> None:
        """Name each column that nothing uses."""
        for plain, heading in self.headings.items():
            if plain not in used:
                message = f"{self.name}: column {heading!r} is not used; a table of scans can hold it as a score"
                account.add("column_not_used", f"{self.name} {heading}", message)


def plain_heading(heading: str) -> str:
    """A heading in small letters and digits alone."""
    return re.sub(r"[^a-z0-9]", "", heading.lower())


def read_study_tables(listing: Listing, beside: Sequence[str], tables: str | None) -> list[StudyTable]:
    """Read all tables of a study; one that cannot be read is named.

    Args:
        listing: what the study's folder of scans holds.
        beside: names of tables among the scans.
        tables: folder of the tables, or one table; those beside the scans alone when None.

    Raises:
        UsageError: no such folder or table.
        StorageError: the bucket refuses.
    """
    found = []
    account = listing.account
    for place, name, label in _places(listing, beside, tables):
        try:
            table = read_table(label, read_text(place, name), account)
        except (TextError, TableError) as error:
            account.pass_over("table_unreadable", label, str(error))
            continue
        account.read.add(label)
        found.append(StudyTable(label, {plain_heading(one): one for one in table.columns}, table.rows))
    if not found:
        message = "no table of the study is there, so scans have no scores; give its folder with --tables"
        account.add("tables_missing", "--tables", message)
    return found


def pass_over_table(table: StudyTable, code: str, why: str, account: Reconciliation) -> None:
    """Account for a table that was looked at and is not used."""
    account.read.discard(table.name)
    account.pass_over(code, table.name, why)


def not_known(table: StudyTable) -> str:
    """Why a table that has none of the columns that are looked for is not used."""
    shown = ", ".join(table.headings.values())[:80]
    return f"no table that is read here (columns: {shown}); nothing to do unless it holds scores"


def _places(listing: Listing, beside: Sequence[str], tables: str | None) -> Iterator[tuple[Location, str, str]]:
    """Where each table lies: folder, name there, and what messages call it."""
    account = listing.account
    root = listing.root
    if tables is not None and tables.lower().endswith(TABLE_ENDINGS):
        folder, slash, name = tables.rpartition("/")
        place = Location(folder or slash or ".")
        if not place.exists(name):
            raise UsageError(f"{tables}: no such table; check the path")
        for one in beside:
            if root.key(one) != place.key(name):
                account.pass_over(
                    "table_not_read", one, f"--tables names another one ({name}); name the folder of both"
                )
        yield place, name, next((one for one in beside if root.key(one) == place.key(name)), name)
        return
    yield from ((root, name, name) for name in beside)
    if tables is None:
        return
    place = Location(tables)
    files = list_files(place)
    if not files.sizes:
        raise UsageError(f"{tables}: no such folder of tables, or an empty one; check the path")
    if place.key("").startswith(f"{root.key('').rstrip('/')}/") or place.key("") == root.key(""):
        return  # its tables lie among the scans and were listed there
    for lost in files.unlisted:
        account.pass_over(lost.code, lost.name, lost.why)
    for name in files.sizes:
        if name.lower().endswith(TABLE_ENDINGS):
            yield place, name, name
        elif name.lower().endswith(_SPREADSHEETS):
            account.pass_over("table_not_read", name, "a spreadsheet or an archive of R; save it as CSV")
        else:
            account.others.append(name)
