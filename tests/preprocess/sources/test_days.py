"""Days: as written or counted from dates, no codes among them, and none where they cannot be true."""

from datetime import datetime

import pytest

from preprocess.sources.days import believable, count_days, is_placeholder, read_times
from preprocess.sources.reconciliation import Reconciliation


def days(
    *rows: tuple[str, dict[str, str]], placeholder: bool = False
) -> tuple[dict[str, float], list[tuple[str, str]]]:
    account = Reconciliation()
    times = read_times(rows, where="sub-01_", account=account)
    counted = count_days(times, where="sub-01_", account=account)
    believed = believable(counted, times, placeholder=placeholder, where="sub-01", account=account)
    return believed, [(one.code, one.message) for one in account.remarks]


@pytest.mark.parametrize("column", ["day", "days_since_first", "days_since_baseline", "days"])
def test_days_are_taken_as_written(column: str) -> None:
    assert days(("a", {column: "0"}), ("b", {column: "203"}), ("c", {column: "n/a"})) == ({"a": 0, "b": 203}, [])


@pytest.mark.parametrize("day", [-4, -1, -30, 888])
def test_a_day_has_no_codes_for_missing(day: int) -> None:
    assert days(("a", {"day": str(day)}), ("b", {"day": "7"})) == ({"a": day, "b": 7}, [])


def test_a_day_that_looks_like_a_code_stays_and_is_reported() -> None:
    found, [(code, message)] = days(("a", {"day": "-99"}), ("b", {"day": "0"}))
    assert (found, code) == ({"a": -99, "b": 0}, "day_like_code")
    assert message == "sub-01_a: day -99 is read as a day; write n/a if it stands for a missing one"


def test_a_day_more_than_a_century_off_is_no_day() -> None:
    found, [(code, message)] = days(("a", {"day": "-39520"}), ("b", {"day": "0"}))
    assert (found, code) == ({"b": 0}, "day_implausible")
    assert "sub-01_a: day -39520 is more than 36525 days (a century) from the first" in message


@pytest.mark.parametrize("cell", ["d0129", "12,5", "one"])
def test_a_day_that_is_no_number_is_reported(cell: str) -> None:
    found, [(code, message)] = days(("a", {"day": cell}))
    assert (found, code) == ({}, "not_a_day")
    assert message == f"sub-01_a: day {cell!r} is not a number of days; write one, such as 365"


def test_dates_are_counted_from_the_first() -> None:
    found, remarks = days(
        ("b", {"acq_time": "2020-07-21T08:00:00"}),
        ("a", {"acq_time": "2020-01-01T23:00:00.123456Z"}),
        ("c", {"date": "2020-01-01"}),
    )
    assert found == {"a": 0, "b": 202, "c": 0}  # 2020 was a leap year
    assert remarks == []


@pytest.mark.parametrize("year", [1800, 1890, 1902, 1924])
def test_shifted_years_are_dates(year: int) -> None:
    rows = ("a", {"acq_time": f"{year}-01-01"}), ("b", {"acq_time": f"{year}-03-01T00:00:00"})
    assert days(*rows)[0] == {"a": 0, "b": (datetime(year, 3, 1) - datetime(year, 1, 1)).days}


def test_a_visit_with_only_a_date_is_counted_from_a_visit_with_both() -> None:
    rows = ("a", {"day": "10", "acq_time": "2020-01-11"}), ("b", {"day": "n/a", "acq_time": "2020-01-31"})
    assert days(*rows) == ({"a": 10, "b": 30}, [])


def test_days_and_dates_that_nothing_joins_are_not_joined() -> None:
    """Counted from its own first date, the second visit would be a rescan on day 0."""
    found, remarks = days(("a", {"day": "0"}), ("b", {"acq_time": "2020-07-21"}))
    assert found == {"a": 0}
    assert remarks == [
        ("days_unjoined", "sub-01_b: a date, but other visits have days; write days for all, or both for one")
    ]


def test_the_first_row_of_a_visit_that_says_anything_wins() -> None:
    rows = ("a", {"day": "n/a"}), ("a", {"day": "5"}), ("a", {"day": "6"}), ("", {"day": "1"})
    assert days(*rows)[0] == {"a": 5, "": 1}


@pytest.mark.parametrize("cell", ["21/07/2020", "10:30:00", "2020-13-01", "yesterday"])
def test_an_unreadable_date_is_reported(cell: str) -> None:
    found, remarks = days(("a", {"acq_time": cell}))
    assert found == {}
    assert remarks == [("not_a_date", f"sub-01_a: acq_time {cell!r} is not an ISO date; write YYYY-MM-DD")]


@pytest.mark.parametrize(
    "rows",
    [
        (("ses-1", {"acq_time": "1925-01-01"}), ("ses-2", {"acq_time": "1925-01-01"})),
        (("ses-1", {"day": "0"}), ("ses-2", {"day": "0"})),
        (("ses-M00", {"day": "5"}), ("ses-M12", {"day": "5"}), ("ses-M24", {"day": "5"})),
    ],
)
def test_visits_that_all_lie_on_one_day_have_no_day(rows: tuple[tuple[str, dict[str, str]], ...]) -> None:
    found, remarks = days(*rows)
    assert found == {}
    assert "days_contradict" in {code for code, _ in remarks}
    message = next(message for code, message in remarks if code == "days_contradict")
    assert message.startswith(f"sub-01: all {len(rows)} sessions on ")
    assert "so they get no day" in message


@pytest.mark.parametrize(
    "rows",
    [
        (("ses-02", {"day": "0"}), ("ses-02r", {"day": "0"})),
        (("ses-test", {"day": "0"}), ("ses-retest", {"day": "0"})),
        (("ses-1", {"acq_time": "2020-01-01T10:00:00"}), ("ses-2", {"acq_time": "2020-01-01T10:40:00"})),
        (("ses-1", {"day": "0"}), ("ses-2", {"day": "0"}), ("ses-3", {"day": "90"})),
        (("ses-1", {"day": "0"}),),
    ],
)
def test_repeats_that_say_so_and_repeats_among_other_days_keep_theirs(
    rows: tuple[tuple[str, dict[str, str]], ...],
) -> None:
    found, remarks = days(*rows)
    assert len(found) == len(rows)
    assert remarks == []


def test_one_date_for_a_whole_data_set_is_a_placeholder_whatever_the_times_say() -> None:
    same = {"a": datetime(2000, 1, 1, 10), "b": datetime(2000, 1, 1, 11)}
    assert is_placeholder([same, same])
    assert is_placeholder([{key: value.replace(year=1925) for key, value in same.items()}])
    assert not is_placeholder([same])  # one person scanned twice on one day
    assert not is_placeholder([{"a": datetime(2000, 1, 1)}, {"a": datetime(2000, 1, 1)}])  # one visit each
    assert not is_placeholder([same, {"a": datetime(2000, 1, 2)}])
    rows = ("ses-1", {"acq_time": "1925-01-01T10:00:00"}), ("ses-2", {"acq_time": "1925-01-01T10:40:00"})
    found, [(code, message)] = days(*rows, placeholder=True)
    assert (found, code) == ({}, "days_contradict")
    assert "on 1925-01-01, like every scan of the data set" in message


@pytest.mark.parametrize(
    ("rows", "num_remarks"),
    [
        ((("ses-M00", {"day": "0"}), ("ses-M12", {"day": "370"})), 0),
        ((("ses-M00", {"day": "400"}), ("ses-M12", {"day": "0"})), 1),
        ((("ses-d0000", {"day": "0"}), ("ses-d0129", {"day": "129"})), 0),
        ((("ses-d0000", {"day": "0"}), ("ses-d0129", {"day": "10"})), 1),
        ((("ses-a", {"day": "9"}), ("ses-b", {"day": "1"})), 0),
    ],
)
def test_days_against_labels_are_reported_and_taken(
    rows: tuple[tuple[str, dict[str, str]], ...], num_remarks: int
) -> None:
    found, remarks = days(*rows)
    assert found == {key: float(row["day"]) for key, row in rows}
    assert [code for code, _ in remarks] == ["days_against_labels"] * num_remarks


def test_days_and_dates_that_differ_are_told() -> None:
    found, remarks = days(
        ("a", {"day": "0", "acq_time": "2020-01-01"}), ("b", {"day": "203", "acq_time": "2020-04-10"})
    )
    assert found == {"a": 0, "b": 203}
    assert remarks[0][0] == "days_contradict"
    assert "days say 203 after a, dates say 100" in remarks[0][1]
