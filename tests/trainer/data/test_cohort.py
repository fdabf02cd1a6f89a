"""The cohort holds present scans only, ordered by acquisition day whatever the files are called."""

from pathlib import Path

import numpy as np
import pytest

from preprocess.errors import StoreError
from tests.support.cohorts import MODALITY, TinyScan, default_scans, write_store
from trainer.data.cohort import read_cohort


def test_a_scan_that_was_left_out_is_not_in_the_cohort(tmp_path: Path) -> None:
    scans = default_scans()
    cohort = read_cohort(write_store(tmp_path, scans), MODALITY, "mmse")
    assert len(cohort) == sum(scan.present for scan in scans)
    assert not any("left-out" in session for session in cohort.sessions)


def test_visits_are_ordered_by_day_where_names_are_in_reverse_order(tmp_path: Path) -> None:
    cohort = read_cohort(write_store(tmp_path), MODALITY, "mmse")
    places = cohort.places_by_subject["sub-01"]
    assert cohort.days_N[places].tolist() == [0.0, 365.0, 730.0]
    assert [cohort.sessions[place] for place in places] == ["ses-03", "ses-02", "ses-01"]


def test_each_place_holds_the_row_day_score_and_scanner_of_one_scan(tmp_path: Path) -> None:
    scans = default_scans()
    cohort = read_cohort(write_store(tmp_path, scans), MODALITY, "mmse")
    for place, row in enumerate(cohort.rows_N):
        scan = scans[row]
        assert cohort.subject_ids[place] == scan.subject_id
        assert cohort.scanners[place] == scan.scanner
        assert cohort.sessions[place] == "_".join(filter(None, (scan.session_id, scan.run)))
        wanted = [np.nan if value is None else value for value in (scan.day, scan.score)]
        np.testing.assert_array_equal([cohort.days_N[place], cohort.scores_N[place]], wanted)


def test_scans_without_a_day_follow_those_with_one(tmp_path: Path) -> None:
    scans = [TinyScan("s", "a", None, 1.0), TinyScan("s", "b", 3.0, 1.0), TinyScan("s", "c", -1.0, 1.0)]
    cohort = read_cohort(write_store(tmp_path, scans), MODALITY, "mmse")
    assert cohort.sessions == ("c", "b", "a")


def test_a_part_keeps_order_and_holds_only_the_subjects_asked_for(tmp_path: Path) -> None:
    cohort = read_cohort(write_store(tmp_path), MODALITY, "mmse")
    part = cohort.of_subjects({"sub-03", "sub-01", "nobody"})
    assert list(part.places_by_subject) == ["sub-01", "sub-03"]
    assert part.subject_codes_N.tolist() == [0, 0, 0, 1, 1, 1]
    wanted = [
        row for row, subject in zip(cohort.rows_N, cohort.subject_ids, strict=True) if subject in part.subject_ids
    ]
    assert part.rows_N.tolist() == wanted


def test_scored_drops_the_scans_without_a_score_and_nothing_else(tmp_path: Path) -> None:
    cohort = read_cohort(write_store(tmp_path), MODALITY, "mmse")
    assert len(cohort.scored()) == len(cohort) - 1
    assert not np.isnan(cohort.scored().scores_N).any()


def test_an_unknown_outcome_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no outcome 'cdr' in the index; it has mmse; set outcome\.name"):
        read_cohort(write_store(tmp_path), MODALITY, "cdr")


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
