"""Which row is whose: exact first, then without prefix, then by case or padding where one fits; never a guess."""

import pytest

from preprocess.sources.ids import Matched, match_rows
from preprocess.sources.reconciliation import Reconciliation
from preprocess.sources.tables import Row


def match(cells: list[str], ids: list[str], *others: dict[str, str]) -> tuple[Matched, list[tuple[str, str]]]:
    account = Reconciliation()
    rows = [Row(line, {"participant_id": cell}) for line, cell in enumerate(cells, start=2)]
    rows += [Row(len(rows) + line, cells) for line, cells in enumerate(others, start=2)]
    matched = match_rows(rows, ids, column="participant_id", prefix="sub-", table="p.tsv", account=account)
    return matched, [(one.code, one.message) for one in account.remarks]


@pytest.mark.parametrize("cell", ["sub-01", "01", "1", "001", "SUB-01", "Sub-1"])
def test_an_id_is_found_in_every_spelling_that_fits_one(cell: str) -> None:
    matched, remarks = match([cell], ["sub-01", "sub-10"])
    assert matched.row_of == {"sub-01": 2}
    assert matched.unmatched == []
    assert bool(remarks) == (cell != "sub-01")
    assert {code for code, _ in remarks} <= {"ids_read_as"}


def test_letters_are_ids_too() -> None:
    assert match(["OAS30001", "oas30002"], ["sub-OAS30001", "sub-OAS30002"])[0].row_of == {
        "sub-OAS30001": 2,
        "sub-OAS30002": 3,
    }


@pytest.mark.parametrize(
    ("cells", "ids", "unmatched"),
    [
        (["1"], ["sub-01", "sub-001"], ["1"]),  # two fit
        (["1", "01"], ["sub-01"], ["1"]),  # the exact one is the other row's
        (["1O"], ["sub-10"], ["1O"]),
        (["100"], ["sub-10"], ["100"]),
        (["A1"], ["sub-1"], ["A1"]),
    ],
)
def test_what_does_not_fit_exactly_one_is_named_and_not_guessed(
    cells: list[str], ids: list[str], unmatched: list[str]
) -> None:
    assert [row.get("participant_id") for row in match(cells, ids)[0].unmatched] == unmatched


def test_zero_padding_is_said() -> None:
    _, remarks = match(["1"], ["sub-01"])
    assert remarks == [
        ("ids_read_as", "p.tsv: participant_id 1 as sub-01, the only one that fits; check that it is the same")
    ]


def test_rows_about_one_id_give_what_they_agree_on() -> None:
    rows = [
        {"participant_id": "sub-01", "age": "70", "mmse": "27", "site": ""},
        {"participant_id": "01", "age": "70", "mmse": "28", "site": "north"},
    ]
    matched, remarks = match([], ["sub-01"], *rows)
    assert matched.cells == {"sub-01": {"participant_id": "sub-01", "age": "70", "mmse": "", "site": "north"}}
    assert (
        "duplicate_visit",
        "p.tsv line 3: sub-01 again (first in line 2), with another mmse; left empty: delete one",
    ) in remarks
    same = {"participant_id": "sub-01", "age": "70"}
    matched, remarks = match([], ["sub-01"], same, same)
    assert matched.cells["sub-01"] == same
    assert [code for code, _ in remarks] == ["duplicate_row"]


def test_a_row_without_an_id_is_reported() -> None:
    matched, remarks = match(["n/a", "sub-01"], ["sub-01"])
    assert matched.row_of == {"sub-01": 3}
    assert remarks == [("empty_key", "p.tsv line 2: no participant_id; the line is passed over")]
