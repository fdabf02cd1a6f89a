"""Tables of a study: found beside the scans and in a folder of their own, known by their headings."""

from pathlib import Path

import pytest

from preprocess.errors import UsageError
from preprocess.sources.listing import Listing
from preprocess.sources.study_tables import StudyTable, read_study_tables
from preprocess.storage import Location
from tests.support.studies import put


def read(root: Path, beside: list[str], tables: Path | None) -> tuple[list[StudyTable], Listing]:
    listing = Listing(Location(str(root)))
    return read_study_tables(listing, beside, None if tables is None else str(tables)), listing


def test_headings_are_known_in_any_spelling(tmp_path: Path) -> None:
    put(tmp_path, "a.csv", "\ufeffOASIS ID,Days_to_Visit\nOAS30001,0339\n")
    (table,), listing = read(tmp_path, ["a.csv"], None)
    assert table.has("oasisid", "daystovisit")
    assert table.cell(table.rows[0], "nothing", "daystovisit") == "0339"
    table.say_unused({"oasisid"}, listing.account)
    assert [one.message for one in listing.account.remarks] == [
        "a.csv: column 'Days_to_Visit' is not used; a table of scans can hold it as a score"
    ]


def test_everything_in_the_folder_of_tables_is_accounted_for(tmp_path: Path) -> None:
    for name, text in {
        "a.csv": "x\n1\n",
        "b.tsv": "x\n1\n",
        "c.xlsx": "PK",
        "d.pdf": "%PDF",
        "e.csv": 'x\n"1\n',
    }.items():
        put(tmp_path / "tables", name, text)
    found, listing = read(tmp_path / "scans", [], tmp_path / "tables")
    account = listing.account
    assert [table.name for table in found] == ["a.csv", "b.tsv"]
    assert account.read == {"a.csv", "b.tsv"}
    assert account.others == ["d.pdf"]
    assert [(one.code, one.name) for one in account.remarks] == [
        ("table_not_read", "c.xlsx"),
        ("table_unreadable", "e.csv"),
    ]


def test_one_table_is_read_alone_and_the_others_are_named(tmp_path: Path) -> None:
    for name in ("0AS_data_files/a.csv", "0AS_data_files/b.csv"):
        put(tmp_path, name, "x\n1\n")
    beside = ["0AS_data_files/a.csv", "0AS_data_files/b.csv"]
    found, listing = read(tmp_path, beside, tmp_path / "0AS_data_files" / "b.csv")
    assert [table.name for table in found] == ["0AS_data_files/b.csv"]
    assert [one.name for one in listing.account.part("passed_over")] == ["0AS_data_files/a.csv"]


def test_a_folder_of_tables_among_the_scans_is_read_once(tmp_path: Path) -> None:
    put(tmp_path, "tables/a.csv", "x\n1\n")
    found, _ = read(tmp_path, ["tables/a.csv"], tmp_path / "tables")
    assert [table.name for table in found] == ["tables/a.csv"]


def test_no_table_at_all_is_said(tmp_path: Path) -> None:
    found, listing = read(tmp_path, [], None)
    assert found == []
    assert [one.code for one in listing.account.remarks] == ["tables_missing"]


@pytest.mark.parametrize("name", ["none", "none.csv"])
def test_tables_that_are_not_there_are_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"no such (folder of tables|table).*check the path"):
        read(tmp_path, [], tmp_path / name)
