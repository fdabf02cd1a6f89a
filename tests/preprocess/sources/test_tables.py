"""Tables as they come: cells stay under their headings, and what cannot is reported with its line."""

import pytest

from preprocess.sources.reconciliation import Reconciliation
from preprocess.sources.tables import TableError, read_table


def read(text: str, name: str = "t.tsv") -> tuple[list[dict[str, str]], list[tuple[str, str]]]:
    account = Reconciliation()
    table = read_table(name, text, account)
    return [row.cells for row in table.rows], [(one.code, one.message) for one in account.remarks]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_read_alike_with_any_line_end(end: str) -> None:
    text = end.join(["subject_id, score ", "sub-01, 27 ", "", "sub-02,28"]) + end
    rows, remarks = read(text, "t.csv")
    assert rows == [{"subject_id": "sub-01", "score": "27"}, {"subject_id": "sub-02", "score": "28"}]
    assert remarks == []
    assert read("") == ([], [])


def test_a_lone_quote_mark_in_a_tsv_file_is_a_character() -> None:
    rows, remarks = read('id\tnote\tmmse\n1\t"tall\t27\n2\t5\' 3"\t28\n3\t"quoted"\t29\n')
    assert rows == [
        {"id": "1", "note": '"tall', "mmse": "27"},
        {"id": "2", "note": "5' 3\"", "mmse": "28"},
        {"id": "3", "note": "quoted", "mmse": "29"},
    ]
    assert remarks == []


def test_a_quoted_comma_in_a_csv_file_is_part_of_its_cell_and_an_open_quote_is_reported() -> None:
    assert read('id,mmse\n1,"27,5"\n', "t.csv")[0] == [{"id": "1", "mmse": "27,5"}]
    with pytest.raises(TableError, match=r"line 2 cannot be read .* close its quote marks"):
        read('id,note\n1,"open\n2,x\n', "t.csv")


def test_a_decimal_comma_makes_a_surplus_cell_and_its_line_is_not_used() -> None:
    rows, [(code, message)] = read("id,mmse,cdr\n1,27,5,0\n2,28,1\n", "t.csv")
    assert rows == [{"id": "2", "mmse": "28", "cdr": "1"}]
    assert code == "surplus_cells"
    assert message == (
        "t.csv line 2: 4 cells under 3 headings ('0' is too much); the line is not used: write numbers with a point, "
        "or put quotes around a cell with a comma"
    )


def test_tabs_at_the_ends_of_lines_are_nothing_and_a_short_line_is_reported() -> None:
    rows, remarks = read("id\tmmse\t\n1\t27\t\t\t\n2\n")
    assert rows == [{"id": "1", "mmse": "27"}, {"id": "2", "mmse": ""}]
    assert remarks == [("row_short", "t.tsv line 3: 1 cells under 3 headings; the rest is read as empty")]


def test_known_headings_are_found_in_any_spelling_and_others_stay_as_written() -> None:
    rows, remarks = read("Participant_ID\tSession ID\t MMSE \tAcq_Time\n1\t2\t27\t2020-01-01\n")
    assert rows == [{"participant_id": "1", "session_id": "2", "MMSE": "27", "acq_time": "2020-01-01"}]
    assert remarks == []


def test_headings_given_twice_or_not_at_all_are_told() -> None:
    rows, remarks = read("\tid\tmmse\tmmse\n0\ta\t27\t3\n")
    assert rows == [{"id": "a", "mmse": "27"}]
    assert remarks == [
        (
            "heading_repeated",
            "t.tsv column 4: 'mmse' is a heading given twice; the first is used, rename or remove this one",
        ),
        ("heading_empty", "t.tsv column 1: no heading, so the column is not used; give it one"),
    ]


def test_wide_characters_are_no_table_and_a_nul_in_a_cell_is_only_a_cell() -> None:
    with pytest.raises(TableError, match="NUL bytes"):
        read("i\0d\0\n\0")
    assert read("id\npath\0x\n")[0] == [{"id": "path\0x"}]
