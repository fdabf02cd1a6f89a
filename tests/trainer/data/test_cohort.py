"""The cohort holds present scans only, ordered by acquisition day whatever the files are called."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from preprocess.equal_content import equal_scans, persons_together
from preprocess.errors import StoreError
from preprocess.index import IndexRecord
from preprocess.store import Store
from tests.support.cohorts import MODALITY, TinyScan, default_scans, write_store
from tests.support.stores import with_index
from tests.support.visits import ARRAYS, TinyVisit, default_visits, write_visits
from trainer.data.cohort import read_cohort, read_visits


def test_a_scan_that_was_left_out_is_not_in_the_cohort(tmp_path: Path) -> None:
    scans = default_scans()
    cohort = read_cohort(write_store(tmp_path, scans), MODALITY, "mmse")
    assert len(cohort) == sum(scan.present for scan in scans)
    assert not any("left-out" in session for session in cohort.sessions)


def test_visits_are_ordered_by_day_where_names_are_in_reverse_order(tmp_path: Path) -> None:
    cohort = read_cohort(write_store(tmp_path), MODALITY, "mmse")
    indices = cohort.indices_by_subject["sub-01"]
    assert cohort.days_N[indices].tolist() == [0.0, 365.0, 730.0]
    assert [cohort.sessions[index] for index in indices] == ["ses-03", "ses-02", "ses-01"]


def test_each_index_holds_the_row_day_score_and_scanner_of_one_scan(tmp_path: Path) -> None:
    scans = default_scans()
    cohort = read_cohort(write_store(tmp_path, scans), MODALITY, "mmse")
    for index, row in enumerate(cohort.rows_N):
        scan = scans[row]
        assert cohort.subject_ids[index] == scan.subject_id
        assert cohort.scanners[index] == scan.scanner
        assert cohort.sessions[index] == "_".join(filter(None, (scan.session_id, scan.run)))
        expected = [np.nan if value is None else value for value in (scan.day, scan.score)]
        np.testing.assert_array_equal([cohort.days_N[index], cohort.scores_N[index]], expected)


def test_scans_without_a_day_follow_those_with_one(tmp_path: Path) -> None:
    scans = [TinyScan("s", "a", None, 1.0), TinyScan("s", "b", 3.0, 1.0), TinyScan("s", "c", -1.0, 1.0)]
    cohort = read_cohort(write_store(tmp_path, scans), MODALITY, "mmse")
    assert cohort.sessions == ("c", "b", "a")


def test_a_part_keeps_order_and_holds_only_the_subjects_requested(tmp_path: Path) -> None:
    cohort = read_cohort(write_store(tmp_path), MODALITY, "mmse")
    part = cohort.of_subjects({"sub-03", "sub-01", "nobody"})
    assert list(part.indices_by_subject) == ["sub-01", "sub-03"]
    assert part.subject_codes_N.tolist() == [0, 0, 0, 1, 1, 1]
    expected = [
        row for row, subject in zip(cohort.rows_N, cohort.subject_ids, strict=True) if subject in part.subject_ids
    ]
    assert part.rows_N.tolist() == expected


def test_scored_drops_the_scans_without_a_score_and_nothing_else(tmp_path: Path) -> None:
    cohort = read_cohort(write_store(tmp_path), MODALITY, "mmse")
    assert len(cohort.scored()) == len(cohort) - 1
    assert not np.isnan(cohort.scored().scores_N).any()


def test_an_outcome_that_is_not_there_is_unknown_for_everybody(tmp_path: Path) -> None:
    cohort = read_cohort(write_store(tmp_path), MODALITY, "cdr")
    assert len(cohort) > 0
    assert np.isnan(cohort.scores_N).all()


def test_a_store_without_any_scores_can_be_read(tmp_path: Path) -> None:
    cohort = read_cohort(write_store(tmp_path, default_scans(with_scores=False)), MODALITY, "mmse")
    assert len(cohort) > 0
    assert np.isnan(cohort.scores_N).all()


def test_a_store_whose_scans_were_all_left_out_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path, [TinyScan("s", "a", 0.0, 1.0, present=False)])
    with pytest.raises(StoreError, match="every T1w scan was left out"):
        read_cohort(store, MODALITY, "mmse")


def test_an_unknown_modality_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no modality 'T2w'; the store has T1w"):
        read_cohort(write_store(tmp_path), "T2w", "mmse")


def test_a_visit_is_there_once_with_the_modalities_it_has(tmp_path: Path) -> None:
    visits = [*default_visits(), TinyVisit("sub-none", 1.0, frozenset(), left_out=frozenset({"SC"}))]
    cohort = read_visits(write_visits(tmp_path, visits), tuple(ARRAYS), "impaired")
    assert cohort.subject_ids == tuple(visit.subject_id for visit in visits[:-1])
    assert cohort.rows_N.tolist() == list(range(len(visits) - 1))
    expected = [[name in visit.has for name in ARRAYS] for visit in visits[:-1]]
    np.testing.assert_array_equal(cohort.present_NM, expected)
    np.testing.assert_array_equal(cohort.scores_N, [visit.impaired for visit in visits[:-1]])
    part = cohort.of_subjects({"sub-03", "sub-05"})
    np.testing.assert_array_equal(part.present_NM, [expected[3], expected[5]])


def test_a_visit_without_one_of_the_modalities_requested_counts_only_where_it_has_another(tmp_path: Path) -> None:
    visits = [TinyVisit("a", 1.0, frozenset({"SC"})), TinyVisit("b", 0.0, frozenset({"FC", "clinical"}))]
    store = write_visits(tmp_path, visits)
    assert read_visits(store, ("SC",), "impaired").subject_ids == ("a",)
    both = read_visits(store, ("FC", "SC"), "impaired")
    np.testing.assert_array_equal(both.present_NM, [[False, True], [True, False]])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("day", 90.0, "a ses-01: its modalities have day 0, 90; a visit has one"),
        ("outcomes", {"impaired": 0.0}, "a ses-01: its modalities have impaired 0, 1; a visit has one"),
        ("row", 1, "a ses-01: its modalities have row 0, 1; a visit has one"),
    ],
)
def test_modalities_of_a_visit_that_contradict_each_other_are_refused(
    tmp_path: Path, field: str, value: object, message: str
) -> None:
    store = write_visits(tmp_path, [TinyVisit("a", 1.0, frozenset({"SC", "FC"}))])
    first, second = store.records
    changed = with_index(store, [first, replace(second, **{field: value})])
    with pytest.raises(StoreError, match=message):
        read_visits(changed, ("SC", "FC"), "impaired")


def test_a_modality_that_nobody_has_is_refused(tmp_path: Path) -> None:
    visits = [TinyVisit("a", 1.0, frozenset({"FC"}), left_out=frozenset({"SC"}))]
    with pytest.raises(StoreError, match=r"every SC scan was left out; .* data\.modalities"):
        read_visits(write_visits(tmp_path, visits), ("SC", "FC"), "impaired")


def with_equal(store: Store, *groups: Sequence[int]) -> Store:
    """The store, the rows of each group with the content of its first."""
    records = list(store.records)
    for first, *others in groups:
        for row in others:
            records[row] = replace(records[row], content_sha256=records[first].content_sha256)
    return with_index(store, records)


def test_a_copy_of_a_visit_is_no_visit_and_its_original_stays(tmp_path: Path) -> None:
    """Else it is a pair without change, or a rescan without noise."""
    scans = [TinyScan("a", f"s{day}", float(day), 1.0) for day in (0, 90, 180)] + [TinyScan("b", "s0", 0.0, 1.0)]
    cohort = read_cohort(with_equal(write_store(tmp_path, scans), (2, 0)), MODALITY, "mmse")
    assert cohort.sessions == ("s0", "s90", "s0")
    assert cohort.together == ()
    assert cohort.note == (
        "2 scans of 1 person have equal content (1 different); each content is used once, and these persons are kept "
        "on one side of the split"
    )


def test_people_who_share_a_scan_stay_together_and_only_one_of_them_has_it(tmp_path: Path) -> None:
    scans = [TinyScan(who, f"s{day}", float(day), 1.0) for who in "abc" for day in (0, 90)]
    cohort = read_cohort(with_equal(write_store(tmp_path, scans), (0, 3)), MODALITY, "mmse")
    held = list(zip(cohort.subject_ids, cohort.sessions, strict=True))
    assert held == [("a", "s0"), ("a", "s90"), ("b", "s0"), ("c", "s0"), ("c", "s90")]
    assert cohort.together == (frozenset("ab"),)
    assert cohort.group_of == {"a": "a", "b": "a", "c": "c"}
    assert cohort.subject_codes_N.tolist() == [0, 0, 0, 1, 1]
    assert cohort.of_subjects({"b", "c"}).group_of == {"b": "a", "c": "c"}


def test_copies_in_another_modality_keep_people_together_too(tmp_path: Path) -> None:
    visits = [TinyVisit(name, 1.0, frozenset({"SC", "FC"})) for name in "abc"]
    store = with_equal(write_visits(tmp_path, visits), (1, 3))  # rows of FC and SC in turn: the SC of a and b
    assert read_cohort(store, "FC", "impaired").together == (frozenset("ab"),)
    both = read_visits(store, ("FC", "SC"), "impaired")
    assert both.together == (frozenset("ab"),)
    np.testing.assert_array_equal(both.present_NM, [[True, True], [True, False], [True, True]])


def test_equal_ids_of_two_cohorts_are_two_people(tmp_path: Path) -> None:
    scans = [TinyScan("sub-01", f"s{day}", float(day), 1.0) for day in (0, 90)]
    store = write_store(tmp_path, scans)
    first, second = store.records
    cohort = read_cohort(with_index(store, [first, replace(second, cohort="south/east")]), MODALITY, "mmse")
    assert cohort.subject_ids == ("south%2Feast/sub-01", "sub-01") == cohort.labels
    assert cohort.of_subjects({"sub-01"}).labels == ("sub-01",)
    assert cohort.of_subjects({"south%2Feast/sub-01"}).labels == ("sub-01",)


@pytest.mark.parametrize(
    ("run", "acquisition"),
    [("", ""), ("2", ""), ("run-02", ""), ("acq-mprage_run-1", "acq-mprage"), ("zone-left", "zone-left"), ("L2", "L2")],
)
def test_an_acquisition_is_the_run_without_the_number_of_a_repeat(tmp_path: Path, run: str, acquisition: str) -> None:
    cohort = read_cohort(write_store(tmp_path, [TinyScan("s", "a", 0.0, 1.0, run=run)]), MODALITY, "mmse")
    assert cohort.acquisitions == (acquisition,)


def test_the_columns_say_what_the_records_say(tmp_path: Path) -> None:
    """Order, names and copies by the plain way: records one after another."""
    draws = np.random.default_rng(5)
    scans = [
        TinyScan(
            f"s{draws.integers(6)}",
            f"v{number}",
            None if draws.random() < 0.2 else float(draws.integers(4)),
            None if draws.random() < 0.2 else float(draws.integers(30)),
            run=("", "2", "acq-b_run-1")[draws.integers(3)],
            scanner=("", "A", "B")[draws.integers(3)],
            present=draws.random() > 0.1,
        )
        for number in range(60)
    ]
    store = write_store(tmp_path, scans)
    records = [
        replace(record, cohort=("", "x", "y/z")[draws.integers(3)], content_sha256=f"{draws.integers(40):064d}")
        for record in store.records
    ]
    cohort = read_cohort(with_index(store, records), MODALITY, "mmse")

    def place(record: IndexRecord) -> tuple[str, float, str, str]:
        return (record.person, np.inf if record.day is None else record.day, record.session_id, record.run)

    seen: set[str] = set()
    first = []
    for record in sorted((record for record in records if record.present), key=place):
        if record.content_sha256 not in seen:
            first.append(record)
        seen.add(record.content_sha256)
    assert cohort.rows_N.tolist() == [record.row for record in first]
    assert cohort.subject_ids == tuple(record.person for record in first)
    assert cohort.sessions == tuple("_".join(filter(None, (record.session_id, record.run))) for record in first)
    assert cohort.scanners == tuple(record.scanner for record in first)
    np.testing.assert_array_equal(cohort.days_N, [np.nan if one.day is None else one.day for one in first])
    np.testing.assert_array_equal(cohort.scores_N, [one.outcomes.get("mmse", np.nan) for one in first])
    assert cohort.together == persons_together(equal_scans(records, store.manifest.arrays))
