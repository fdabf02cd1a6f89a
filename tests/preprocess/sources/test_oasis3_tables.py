"""Both releases of OASIS-3's tables: known by their columns, joined by person and day, odd rows named."""

import pytest

from preprocess.sources.oasis3_tables import Clinical, read_clinical
from tests.support.studies import (
    B4_HEADINGS,
    D1_HEADINGS,
    ENTRY_HEADINGS,
    OASIS3_ENTRY,
    OLD_HEADINGS,
    b4,
    old,
    table,
)
from tests.support.study_tables import read_texts


def clinical(**tables: str) -> tuple[Clinical, dict[str, list[str]]]:
    return read_texts(read_clinical, tables)


def test_the_newer_release_gives_visits_scores_and_the_age_at_entry() -> None:
    rows = [b4("OAS30001", "0339", 28, 0.5, 1.5, **{"age at visit": 66.1})]
    found, said = clinical(b4=table(B4_HEADINGS, rows), demo=table(ENTRY_HEADINGS, OASIS3_ENTRY[:1]))
    (visit,) = found.visits
    assert (visit.subject, visit.visit, visit.day) == ("OAS30001", "d0339", 339)
    assert visit.scores == {"mmse": 28.0, "cdr": 0.5, "cdr_sb": 1.5}
    assert found.entry_ages == {"OAS30001": 65.2}
    assert said == {}


def test_without_demographics_the_age_is_counted_from_a_visit() -> None:
    found, _ = clinical(b4=table(B4_HEADINGS, [b4("OAS30001", 731, 28, 0, 0, **{"age at visit": 67})]))
    assert found.entry_ages["OAS30001"] == pytest.approx(67 - 731 / 365.25)


def test_the_older_release_is_one_sheet_keyed_by_its_label() -> None:
    found, said = clinical(adrc=table(OLD_HEADINGS, [old("OAS30001", 0, 29, 0, 0), old("OAS30001", 339, 28, 0.5, 1)]))
    assert [(visit.day, visit.scores["cdr_sb"]) for visit in found.visits] == [(0, 0.0), (339, 1.0)]
    assert found.entry_ages == {"OAS30001": 70.5}
    assert said == {}


def test_of_both_releases_the_newer_is_used_and_the_older_named() -> None:
    found, said = clinical(
        old=table(OLD_HEADINGS, [old("OAS30001", 0, 1, 3, 18)]), new=table(B4_HEADINGS, [b4("OAS30001", 0, 29, 0, 0)])
    )
    assert [visit.scores["mmse"] for visit in found.visits] == [29.0]
    assert said["releases_mixed"] == [
        "old.csv: of the older release, beside new.csv of the newer; give it alone to --tables to use it"
    ]


@pytest.mark.parametrize(
    ("boxes", "diagnosis"),
    [
        ({"NORMCOG": 1}, "normal cognition"),
        ({"DEMENTED": 1, "PROBAD": 1}, "AD dementia"),
        ({"DEMENTED": 1, "alzdis": 1, "alzdisif": 1}, "AD dementia"),
        ({"DEMENTED": 1}, "other dementia"),
        ({"NORMCOG": 0, "DEMENTED": 0, "MCIAMEM": 1}, "mild cognitive impairment"),
        ({}, ""),
    ],
)
def test_diagnoses_of_both_versions_of_the_form_are_read(boxes: dict[str, int], diagnosis: str) -> None:
    row = {"OASISID": "OAS30001", "days_to_visit": "0", **boxes}
    found, _ = clinical(d1=table(D1_HEADINGS, [row]))
    assert [visit.diagnosis for visit in found.visits] == [diagnosis]


def test_rows_that_cannot_be_are_named_and_not_used() -> None:
    rows = [
        b4("OAS30001", -39520, 29, 0, 0, **{"age at visit": -47}),
        b4("OAS30001", 5, 29, 0, 0, **{"age at visit": -47}),
        b4("sub-1", 0, 29, 0, 0),
        b4("OAS30002", 7, 29, 0, 0),
        b4("OAS30002", 7, 28, 0, 0),
    ]
    found, said = clinical(b4=table(B4_HEADINGS, rows))
    assert [(visit.subject, visit.scores) for visit in found.visits] == [("OAS30002", {"cdr": 0.0, "cdr_sb": 0.0})]
    assert {code: len(messages) for code, messages in said.items()} == {
        "row_implausible": 2, "bad_id": 1, "duplicate_visit": 1,
    }  # fmt: skip


def test_a_table_that_is_none_of_them_is_passed_over_by_name() -> None:
    found, said = clinical(a3=table(("OASISID", "days_to_visit", "MOMAGE"), [{"OASISID": "OAS30001"}]))
    assert found.visits == []
    assert said["table_not_read"] == [
        "a3.csv: no table that is read here (columns: OASISID, days_to_visit, MOMAGE); nothing to do unless it holds "
        "scores"
    ]
