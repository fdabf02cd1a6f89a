"""ADNI's tables: visits by person and code, dates from REGISTRY, ages, images, quality control; odd rows named."""

from datetime import date

import pytest

from preprocess.sources.adni_tables import Clinical, is_same_visit, read_clinical, visit_code, years_at
from tests.support.studies import (
    ADNI_MMSE,
    ADNI_QUALITY,
    ADNI_REGISTRY,
    ADNIMERGE_HEADINGS,
    MMSE_HEADINGS,
    QUALITY_HEADINGS,
    REGISTRY_HEADINGS,
    merged,
    table,
)
from tests.support.study_tables import read_texts


def clinical(**tables: str) -> tuple[Clinical, dict[str, list[str]]]:
    return read_texts(read_clinical, tables)


def of_merge(*rows: dict[str, object]) -> tuple[Clinical, dict[str, list[str]]]:
    return clinical(ADNIMERGE=table(ADNIMERGE_HEADINGS, rows))


def test_adnimerge_gives_visits_images_and_the_age_on_every_day() -> None:
    found, said = of_merge(
        merged("002_S_0413", "bl", "2006-05-19", 29, 0, IMAGEUID="45126.0"),
        merged("002_S_0413", "m06", "2006-11-15", 28, 0.5),
    )
    assert [(visit.subject, visit.visit, dict(visit.scores)) for visit in found.visits] == [
        ("RID 413", "bl", {"mmse": 29.0, "cdr_sb": 0.0}),
        ("RID 413", "m06", {"mmse": 28.0, "cdr_sb": 0.5}),
    ]
    assert found.images == {"I45126": ("RID 413", "bl")}
    later = date(2007, 5, 19).toordinal()
    assert years_at(found.birth["RID 413"], later) == pytest.approx(76.3 + 365 / 365.25)
    assert said == {}


def test_dates_come_from_registry_where_a_form_has_none() -> None:
    found, said = clinical(MMSE=table(MMSE_HEADINGS, ADNI_MMSE), REGISTRY=table(REGISTRY_HEADINGS, ADNI_REGISTRY))
    days = {visit.subject: visit.day for visit in found.visits}
    assert days["RID 10029"] == date(2023, 3, 10).toordinal()
    assert days["RID 10030"] is None
    assert len(said["visit_code_unknown"]) == 2


def test_viscode2_is_believed_before_viscode() -> None:
    row = {"RID": 413, "VISCODE": "v06", "VISCODE2": "M12", "EXAMDATE": "2007-05-01", "MMSCORE": 28}
    found, said = clinical(MMSE=table(MMSE_HEADINGS, [row]))
    assert [visit.visit for visit in found.visits] == ["m12"]
    assert said == {}


def test_codes_are_compared_as_the_study_means_them() -> None:
    assert (visit_code(" M6 "), visit_code("BL"), visit_code("4_sc")) == ("m06", "bl", "4_sc")
    assert is_same_visit("sc", "bl")
    assert is_same_visit("scmri", "m00")
    assert not is_same_visit("m06", "bl")


def test_codes_for_missing_bounds_and_codes_of_no_visit_are_named() -> None:
    found, said = of_merge(
        merged("002_S_0413", "bl", "2006-05-19", -4, -1, ABETA=">1700", TAU=212.1),
        merged("002_S_0413", "f", "2006-04-19", 29, ""),
        merged("002_S_0413", "nv", "2006-04-19", 29, ""),
    )
    assert [dict(visit.scores) for visit in found.visits] == [{"tau": 212.1}]
    assert {code: len(messages) for code, messages in said.items()} == {"not_a_visit": 2, "sentinel": 2, "censored": 1}


def test_a_date_far_from_its_code_is_said_without_the_date() -> None:
    _, said = of_merge(
        merged("002_S_0413", "bl", "2006-05-19", 29, 0), merged("002_S_0413", "m12", "2009-05-29", 28, 0)
    )
    assert said["days_against_labels"] == [
        "ADNIMERGE.csv line 3: m12 lies 1106 days after bl; the date is believed, correct it or the code"
    ]


def test_rows_that_cannot_be_used_are_named() -> None:
    found, said = of_merge(
        merged("002_S_0413", "m06", "19.05.2006", 29, 0),
        {"PTID": "somebody", "VISCODE": "bl", "EXAMDATE": "2006-05-19", "MMSE": 30},
    )
    assert [visit.day for visit in found.visits] == [None]
    assert said["not_a_date"] == ["ADNIMERGE.csv line 2: EXAMDATE is no ISO date; write YYYY-MM-DD"]
    assert said["bad_id"] == ["ADNIMERGE.csv line 3: RID and PTID name nobody, or two people; correct it"]
    assert said["age_unanchored"] == [
        "ADNIMERGE.csv line 2: an age at baseline, but RID 413 has no dated row bl: ages at scans stay unknown; supply "
        "the row"
    ]


def test_only_a_rating_of_4_fails_an_image() -> None:
    found, _ = clinical(qc=table(QUALITY_HEADINGS, ADNI_QUALITY))
    assert {image: rating.is_failed for image, rating in found.ratings.items()} == {
        "I14033": True, "I14032": False, "I23456": False,
    }  # fmt: skip


def test_a_table_that_is_none_of_them_is_passed_over_by_name() -> None:
    _, said = clinical(MRILIST=table(("TYPE", "SUBJECT"), []))
    assert said["table_not_read"][0].startswith("MRILIST.csv: no table that is read here (columns: TYPE, SUBJECT)")
