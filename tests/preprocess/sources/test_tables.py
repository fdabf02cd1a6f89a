"""Clinical tables as they come: what is a number, what is missing, and what is noted instead of guessed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.sources.tables import days, number, outcomes, read_rows


@pytest.mark.parametrize(
    "cell", ["", "n/a", "N/A", ".", "NaN", "None", "-", "-99", "-99.0", "-999", "-4", "inf", "1e400"]
)
def test_what_says_missing_is_missing(cell: str) -> None:
    assert number(cell) is None


@pytest.mark.parametrize(("cell", "value"), [("27", 27.0), ("27.5", 27.5), ("0", 0.0), ("1e1", 10.0), ("-1", -1.0)])
def test_numbers_are_numbers(cell: str, value: float) -> None:
    assert number(cell) == value


@given(st.floats(min_value=0, allow_infinity=False))
def test_every_score_that_is_not_negative_survives(value: float) -> None:
    assert number(repr(value)) == value


def test_only_numeric_cells_are_scores_and_odd_ones_are_noted() -> None:
    row = {
        **{"session_id": "ses-01", "site": "7", "scanner": "3", "day": "180", "acq_time": "2020-01-01"},
        **{
            "mmse": "27",
            "age": "90-92",
            "moca": "<5",
            "cdr": "0,5",
            "faq": "-99",
            "gds": ".",
            "sex": "F",
            "apoe": "n/a",
        },
    }
    notes: list[str] = []
    assert outcomes(row, where="sub-01_ses-01", notes=notes) == {"mmse": 27.0}
    assert notes == [
        "sub-01_ses-01: age '90-92' is not a score and is left empty; correct the table",
        "sub-01_ses-01: moca '<5' is not a score and is left empty; correct the table",
        "sub-01_ses-01: cdr '0,5' is not a score and is left empty; correct the table",
        "sub-01_ses-01: faq '-99' is not a score and is left empty; correct the table",
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_rows_read_alike_with_any_line_end(end: str) -> None:
    text = end.join(["subject_id, score ", "sub-01, 27 ", "sub-02,28,surplus", "sub-03"])
    assert read_rows(text, ",") == [
        {"subject_id": "sub-01", "score": "27"},
        {"subject_id": "sub-02", "score": "28"},
        {"subject_id": "sub-03", "score": ""},
    ]
    assert read_rows("", ",") == []


def _days(*rows: tuple[str, dict[str, str]]) -> tuple[dict[str, float], list[str]]:
    notes: list[str] = []
    return days(rows, where="sub-01_", notes=notes), notes


@pytest.mark.parametrize("column", ["day", "days_since_first", "days_since_baseline", "days"])
def test_days_are_taken_as_written(column: str) -> None:
    assert _days(("a", {column: "0"}), ("b", {column: "203"}), ("c", {column: "n/a"})) == ({"a": 0, "b": 203}, [])


def test_dates_are_counted_from_the_first() -> None:
    found, notes = _days(
        ("b", {"acq_time": "2020-07-21T08:00:00"}),
        ("a", {"acq_time": "2020-01-01T23:00:00Z"}),
        ("c", {"date": "2020-01-01"}),
    )
    assert found == {"a": 0, "b": 202, "c": 0}  # 2020 was a leap year
    assert notes == []


def test_a_visit_with_only_a_date_is_counted_from_a_visit_with_both() -> None:
    found, notes = _days(
        ("a", {"day": "10", "acq_time": "2020-01-11"}), ("b", {"day": "n/a", "acq_time": "2020-01-31"})
    )
    assert found == {"a": 10, "b": 30}
    assert notes == []


def test_days_and_dates_that_nothing_joins_are_not_joined() -> None:
    """Counted from its own first date, the second visit would be a rescan on day 0."""
    found, notes = _days(("a", {"day": "0"}), ("b", {"acq_time": "2020-07-21"}))
    assert found == {"a": 0}
    assert notes == ["sub-01_b: a date, but other visits have days; write days for all, or both for one"]


def test_the_first_row_of_a_visit_that_says_anything_wins() -> None:
    assert _days(("a", {"day": "n/a"}), ("a", {"day": "5"}), ("a", {"day": "6"}), ("", {"day": "1"}))[0] == {
        "a": 5,
        "": 1,
    }


def test_an_unreadable_date_is_noted() -> None:
    found, notes = _days(("a", {"acq_time": "21/07/2020"}))
    assert found == {}
    assert notes == ["sub-01_a: acq_time '21/07/2020' is not an ISO date; write YYYY-MM-DD"]
