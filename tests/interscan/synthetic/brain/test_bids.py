"""The text files: parsed again, they say what the plan said."""

import csv
import datetime
import io
import json

import pytest

from interscan.synthetic.brain.bids import image_path, text_files
from interscan.synthetic.brain.plan import describe_brain_cohort

_PLAN = describe_brain_cohort(num_subjects=6, num_visits=2, seed=9)
_VOLUMES = {(s.subject_id, v.session_id): 1000.0 * s.number + v.day for s in _PLAN for v in s.sessions}
_FILES = text_files(_PLAN, _VOLUMES, num_visits=2)


def _rows(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(_FILES[name]), delimiter="\t", strict=True))


def test_what_makes_the_cohort_complete_comes_last() -> None:
    assert list(_FILES)[-2:] == ["truth.tsv", "dataset_description.json"]


def test_participants_are_those_of_the_plan() -> None:
    rows = _rows("participants.tsv")
    assert [row["participant_id"] for row in rows] == [s.subject_id for s in _PLAN]
    assert [int(row["age"]) for row in rows] == [s.age for s in _PLAN]
    assert {row["site"] for row in rows} <= {"alder", "birch"}


def test_each_visit_of_a_cohort_that_ages_has_an_age_of_its_own() -> None:
    aged = text_files(_PLAN, _VOLUMES, num_visits=2, ageing=True)
    for subject in _PLAN:
        name = f"{subject.subject_id}/{subject.subject_id}_sessions.tsv"
        assert "age" not in _FILES[name]
        ages = [float(row["age"]) for row in csv.DictReader(io.StringIO(aged[name]), delimiter="\t", strict=True)]
        assert ages == pytest.approx([subject.age + v.day / 365.25 for v in subject.sessions], abs=0.005)


def test_sessions_and_scans_say_day_score_and_scanner() -> None:
    for subject in _PLAN:
        rows = _rows(f"{subject.subject_id}/{subject.subject_id}_sessions.tsv")
        said = [(r["session_id"], int(r["days_since_first"]), int(r["mmse"])) for r in rows]
        assert said == [(v.session_id, v.day, v.mmse) for v in subject.sessions]
        for session in subject.sessions:
            stem = f"{subject.subject_id}_{session.session_id}"
            folder = f"{subject.subject_id}/{session.session_id}"
            (scan,) = _rows(f"{folder}/{stem}_scans.tsv")
            assert f"{folder}/{scan['filename']}" == image_path(subject, session)
            assert scan["scanner"] == session.machine.name
            days = datetime.datetime.fromisoformat(scan["acq_time"]) - datetime.datetime(1901, 1, 1)
            assert days.days == session.day
            sidecar = json.loads(_FILES[f"{folder}/anat/{stem}_T1w.json"])
            assert sidecar["MagneticFieldStrength"] == session.machine.field_tesla
            assert sidecar["Manufacturer"] == session.machine.manufacturer
            assert sidecar["ManufacturersModelName"] == session.machine.model


def test_truth_has_a_row_per_session_and_na_where_there_is_nothing_to_say() -> None:
    rows = {(row["subject_id"], row["session_id"]): row for row in _rows("truth.tsv")}
    assert len(rows) == sum(len(s.sessions) for s in _PLAN)
    for subject in _PLAN:
        for session in subject.sessions:
            row = rows[subject.subject_id, session.session_id]
            assert row["rescan_of"] == (session.rescan_of or "n/a")
            assert row["trajectory"] == subject.trajectory
            assert int(row["day"]) == session.day
            assert int(row["mmse"]) == session.mmse
            assert abs(float(row["atrophy"]) - session.atrophy) < 1e-5
            assert abs(float(row["mmse_true"]) - session.mmse_true) < 1e-4
            assert float(row["ventricle_mm3"]) == _VOLUMES[subject.subject_id, session.session_id]


def test_a_score_or_day_of_zero_is_written_as_zero() -> None:
    assert _rows("truth.tsv")[0]["day"] == "0"


def test_the_description_says_bids_and_the_truth_is_ignored_by_validators() -> None:
    description = json.loads(_FILES["dataset_description.json"])
    assert description["BIDSVersion"] == "1.10.0"
    assert description["Name"]
    assert _FILES[".bidsignore"].split() == ["truth.tsv"]
    assert "6 subjects at 2 visits" in _FILES["README"]
