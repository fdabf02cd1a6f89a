"""Clinical visits: rows about one visit put together, and the nearest visit to each session, against a plain loop."""

from hypothesis import given
from hypothesis import strategies as st

from preprocess.sources.clinical import (
    ClinicalRow,
    ClinicalVisit,
    Imaged,
    nearest_visits,
    say_diagnoses,
    to_visits,
)
from preprocess.sources.reconciliation import Reconciliation
from preprocess.sources.sentinels import Choice, read_choice


def row(line: int, visit: str = "d0000", day: float | None = 0, table: str = "t.csv", **cells: str) -> ClinicalRow:
    return ClinicalRow(f"{table} line {line}", table, "A", visit, day, cells)


def seen(visit: str, day: float | None, subject: str = "A", **scores: float) -> ClinicalVisit:
    return ClinicalVisit(f"t.csv {subject} {visit}", subject, visit, day, scores or {"mmse": 29.0})


def said(account: Reconciliation) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in account.remarks:
        found.setdefault(one.code, []).append(one.message)
    return found


def test_rows_of_two_tables_about_one_visit_become_one() -> None:
    account = Reconciliation()
    (visit,) = to_visits([row(2, mmse="29", cdr=""), row(3, day=None, table="u.csv", cdr="0.5")], account, Choice())
    assert (visit.day, visit.scores) == (0, {"mmse": 29.0, "cdr": 0.5})
    assert said(account) == {}


def test_what_rows_about_one_visit_contradict_each_other_in_stays_empty() -> None:
    account = Reconciliation()
    rows = [row(2, mmse="29", cdr="0"), row(3, mmse="28", cdr="0"), row(4, "d0009", 9, mmse="20"), row(5, "d0009", 9)]
    assert [visit.scores for visit in to_visits(rows, account, Choice())] == [{"cdr": 0.0}, {"mmse": 20.0}]
    assert said(account) == {
        "duplicate_visit": [
            "t.csv line 3: A d0000 again (first in t.csv line 2), with another mmse; left empty: delete one"
        ],
        "duplicate_row": ["t.csv line 5: A d0009 again (first in t.csv line 4), and nothing new; delete it"],
    }


def test_a_third_row_does_not_settle_what_two_rows_contradict_each_other_in() -> None:
    account = Reconciliation()
    (visit,) = to_visits([row(2, mmse="29"), row(3, mmse="28"), row(4, mmse="28")], account, Choice())
    assert visit.scores == {}
    assert visit.where == "t.csv line 2 and t.csv line 3 and t.csv line 4"


def test_a_row_of_another_table_with_nothing_new_is_counted_too() -> None:
    account = Reconciliation()
    to_visits([row(2, mmse="29"), row(7, table="u.csv", mmse="29")], account, Choice())
    assert said(account) == {
        "duplicate_row": ["u.csv line 7: A d0000 again (first in t.csv line 2), and nothing new; nothing to do"]
    }


def test_codes_outside_a_scale_are_missing_and_other_values_outside_it_are_named() -> None:
    account = Reconciliation()
    cells = [("-4", "0"), ("97", "9"), ("31", "3"), ("8", "0.5")]
    rows = [row(n, f"v{n}", n, mmse=mmse, cdr=cdr) for n, (mmse, cdr) in enumerate(cells, start=2)]
    assert [visit.scores for visit in to_visits(rows, account, Choice())] == [
        {"cdr": 0.0}, {}, {"cdr": 3.0}, {"mmse": 8.0, "cdr": 0.5},
    ]  # fmt: skip
    assert sorted(one.message.split(" read")[0] for one in account.remarks if one.code == "sentinel") == [
        "cdr: 9", "mmse: -4", "mmse: 97",
    ]  # fmt: skip
    assert said(account)["score_implausible"] == [
        "t.csv line 4: mmse 31 is not between 0 and 30; left empty, correct it"
    ]


def test_the_user_decides_what_is_missing() -> None:
    kept = to_visits([row(2, mmse="8")], Reconciliation(), read_choice(["mmse=8"], []))
    assert kept[0].scores == {}


def test_bounds_stay_empty_and_are_named() -> None:
    account = Reconciliation()
    rows = [row(2, "a", 0, abeta=">1700", tau="<80"), row(3, "b", 9, abeta="812.3", tau="212")]
    assert [visit.scores for visit in to_visits(rows, account, Choice())] == [{}, {"abeta": 812.3, "tau": 212.0}]
    assert len(said(account)["censored"]) == 2


@given(
    days=st.lists(st.integers(0, 40), min_size=1, max_size=4, unique=True),
    visit_days=st.lists(st.integers(0, 40), min_size=1, max_size=5, unique=True),
    window=st.integers(0, 20),
)
def test_each_session_takes_what_a_plain_loop_finds_and_everything_else_is_named(
    days: list[int], visit_days: list[int], window: int
) -> None:
    account = Reconciliation()
    visits = [seen(f"d{day}", day) for day in visit_days]
    taken = nearest_visits([Imaged(f"s{day}", "A", day) for day in days], visits, window_days=window, account=account)
    expected = {}
    for day in days:
        best = None
        for visit_day in sorted(visit_days):
            if abs(visit_day - day) <= window and (best is None or abs(visit_day - day) < abs(best - day)):
                best = visit_day
        if best is not None:
            expected[f"s{day}"] = f"d{best}"
    assert {name: visit.visit for name, visit in taken.items()} == expected
    codes = {(one.code, one.name) for one in account.remarks}
    assert {f"s{day}" for day in days} - expected.keys() == {n for code, n in codes if code == "no_visit_in_window"}
    unused = {f"t.csv A d{day}" for day in visit_days} - {f"t.csv A {visit}" for visit in expected.values()}
    assert unused == {name for code, name in codes if code == "row_without_scan"}


def test_of_two_equally_near_visits_the_earlier_is_taken_and_said() -> None:
    account = Reconciliation()
    taken = nearest_visits([Imaged("s", "A", 10)], [seen("d20", 20), seen("d0", 0)], window_days=90, account=account)
    assert taken["s"].visit == "d0"
    assert said(account)["visit_tie"] == [
        "s: visits d0 and d20 are both 10 days away; d0 is taken, delete the row that is not meant"
    ]


def test_visits_of_others_without_scores_and_without_a_date_are_never_taken_and_named_with_their_reason() -> None:
    account = Reconciliation()
    visits = [
        seen("d9", 9, "B"), ClinicalVisit("t.csv line 3", "A", "d10", 10, {}), seen("f", None), seen("d400", 400),
    ]  # fmt: skip
    sessions = [Imaged("a", "A", 10), Imaged("c", "C", 9), Imaged("undated", "A", None)]
    assert nearest_visits(sessions, visits, window_days=90, account=account) == {}
    assert said(account) == {
        "visit_without_scores": ["t.csv line 3: A d10 has no score that is used; fill it in"],
        "visit_undated": ["t.csv A f: A f has no date, so no scan is near; supply it"],
        "no_visit_in_window": [
            "a: the nearest visit (d400) is 390 days away, more than 90; kept without scores: raise --window-days to "
            "take it"
        ],
        "scan_without_row": ["c: no visit with scores of C in the tables; add one"],
        "row_without_scan": [
            "t.csv B d9: B d9: no scan of this person here",
            "t.csv A d400: A d400: no scan of this person within 90 days",
        ],
    }


def test_a_diagnosis_is_counted_and_an_unknown_spelling_is_not_guessed() -> None:
    account = Reconciliation()
    texts = ["AD Dementia", "ad  dementia", "retarAD demion", ".", "AD dem cannot be primary"]
    visits = [ClinicalVisit("t", "A", "d", 0, {}, text) for text in texts]
    groups = {"ad dementia": "AD dementia", "ad dem cannot be primary": "other dementia"}
    say_diagnoses(visits, groups, "dx1", account)
    assert [(one.code, one.name, one.count) for one in account.remarks] == [
        ("unknown_diagnosis", "retarAD demion", 1),
        ("diagnosis", "AD dementia", 2),
        ("diagnosis", "other dementia", 1),
    ]
