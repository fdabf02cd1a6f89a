"""Cells to scores: numbers are kept, and every cell and column that is not is in the account, once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.sources.reconciliation import Reconciliation
from preprocess.sources.scores import Source, number, read_scores
from preprocess.sources.sentinels import Choice

NOTHING = Choice()


def read(*rows: dict[str, str], choice: Choice = NOTHING) -> tuple[list[dict[str, float]], list[tuple[str, str]]]:
    account = Reconciliation()
    sources = [Source(f"row {index}", "t.tsv", row) for index, row in enumerate(rows)]
    return read_scores(sources, account, choice), [(one.code, one.message) for one in account.remarks]


@pytest.mark.parametrize(
    ("cell", "value"),
    [("27", 27.0), ("27.5", 27.5), ("0", 0.0), ("1e1", 10.0), ("-1", -1.0), (".5", 0.5), ("+3.", 3.0)],
)
def test_numbers_are_numbers(cell: str, value: float) -> None:
    assert number(cell) == value


@pytest.mark.parametrize("cell", ["", "n/a", "1_000", "inf", "nan", "1e400", "27,5", "٣", "0x10", "−4", "1 000"])
def test_nothing_else_is_a_number(cell: str) -> None:
    assert number(cell) is None


@given(st.floats(allow_infinity=False, allow_nan=False))
def test_every_finite_number_survives(value: float) -> None:
    assert number(repr(value)) == value


def test_names_and_days_are_no_scores_and_missing_cells_are_no_remark() -> None:
    row = {"session_id": "7", "site": "7", "scanner": "3", "day": "180", "acq_time": "2020-01-01", "run": "1"}
    scores, remarks = read({**row, "mmse": "27", "gds": ".", "apoe": "#N/A", "faq": "Unknown"})
    assert scores == [{"mmse": 27.0}]
    assert remarks == []


@pytest.mark.parametrize(
    ("cell", "code", "why"),
    [
        ("90-92", "not_a_number", "is not a score and is left empty; correct the table"),
        ("27,5", "not_a_number", "is not a score and is left empty; write 27.5"),
        ("1,234", "not_a_number", "is not a score and is left empty; write 1.234 (or 1234)"),
        ("refused", "not_a_number", "is not a score and is left empty; correct the table"),
        (">1700", "censored", "is a bound and not a score, and is left empty; write a number if one may stand for it"),
        ("< 8", "censored", "is a bound and not a score"),
        ("89+", "censored", "is a bound and not a score"),
    ],
)
def test_a_cell_that_is_no_number_among_numbers_is_named(cell: str, code: str, why: str) -> None:
    scores, [(found, message)] = read({"abeta": cell}, {"abeta": "900"})
    assert (scores, found) == ([{}, {"abeta": 900.0}], code)
    assert message.startswith(f"row 0: abeta {cell!r} {why}")


def test_a_column_of_words_is_named_once_and_a_column_of_nothing_not_at_all() -> None:
    scores, remarks = read({"sex": "F", "born": "1950-01-01", "x": ""}, {"sex": "M", "born": "1951-02-03", "x": "n/a"})
    assert scores == [{}, {}]
    assert remarks == [
        ("column_ignored", "t.tsv: column 'sex' holds no numbers ('F') and is not kept as a score"),
        ("column_ignored", "t.tsv: column 'born' holds no numbers ('1950-01-01') and is not kept as a score"),
    ]


def test_codes_are_counted_by_column_and_value_with_the_way_to_keep_them() -> None:
    rows = [{"mmse": cell, "z": cell} for cell in ("29", "-4", "-4", "28")]
    rows.append({"mmse": "30", "z": "-1.5"})
    scores, remarks = read(*rows)
    assert [row.get("mmse") for row in scores] == [29, None, None, 28, 30]
    assert [row.get("z") for row in scores] == [29, -4, -4, 28, -1.5]
    assert remarks == [("sentinel", "mmse: -4 read as missing in 2 rows; if it is a score, give --not-missing mmse=-4")]


def test_an_age_that_nobody_reaches_is_named_and_left_empty() -> None:
    scores, remarks = read({"age": "-47"}, {"age": "71"}, {"age": "310"})
    assert scores == [{}, {"age": 71.0}, {}]
    assert [code for code, _ in remarks] == ["age_implausible"] * 2
    assert remarks[0][1] == "row 0: age -47 is not between 0 and 130; correct the table"
