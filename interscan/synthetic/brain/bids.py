"""The text files of a synthetic brain cohort as BIDS 1.10 lays them out, and the truth beside them.

Pure: a plan goes in, relative paths and their text come out, in the order in which they are to be written.
"""

import datetime
import json
from collections.abc import Mapping, Sequence

from interscan.synthetic.brain.plan import PlannedSession, PlannedSubject

_README = """Synthetic longitudinal brain cohort
===================================

Analytic head phantoms, not people. T1w pictures of {num_subjects} subjects at {num_visits} visits, some scanned twice
on one day (`ses-02r` repeats `ses-02`). `truth.tsv` holds the trajectory, true atrophy (0 to 1), true and observed
score and the true volume of the lateral ventricles of every session. `mmse` is made from atrophy plus noise; nobody
was examined. The scanner of each picture stands in the `scans.tsv` of its session. Dates are invented, and before
1925 as BIDS asks of shifted dates.
"""


def image_path(subject: PlannedSubject, session: PlannedSession) -> str:
    """Where a session's picture lies, relative to the root."""
    stem = f"{subject.subject_id}_{session.session_id}"
    return f"{subject.subject_id}/{session.session_id}/anat/{stem}_T1w.nii.gz"


def age_at(subject: PlannedSubject, session: PlannedSession) -> float:
    """Years at a visit."""
    return subject.age + session.day / 365.25


def text_files(
    plan: Sequence[PlannedSubject],
    ventricle_mm3: Mapping[tuple[str, str], float],
    *,
    num_visits: int,
    ageing: bool = False,
) -> dict[str, str]:
    """All text files of the cohort.

    Args:
        plan: the subjects.
        ventricle_mm3: true volume by (subject_id, session_id).
        num_visits: visits per subject, for the README.
        ageing: whether sessions.tsv gives the age in years at each visit, as heads that age need.

    Returns:
        Text by path relative to the root; `truth.tsv` and `dataset_description.json` come last.
    """
    files = {
        ".bidsignore": "truth.tsv\n",
        "README": _README.format(num_subjects=len(plan), num_visits=num_visits),
        "participants.tsv": _table(
            ("participant_id", "age", "sex", "site"), [(s.subject_id, s.age, s.sex, s.site) for s in plan]
        ),
    }
    for subject in plan:
        name = subject.subject_id
        ages = [(f"{age_at(subject, session):.2f}",) if ageing else () for session in subject.sessions]
        files[f"{name}/{name}_sessions.tsv"] = _table(
            ("session_id", "days_since_first", "mmse", *(("age",) if ageing else ())),
            [(s.session_id, s.day, s.mmse, *age) for s, age in zip(subject.sessions, ages, strict=True)],
        )
        for session in subject.sessions:
            files |= _session_files(subject, session)
    files["truth.tsv"] = _truth(plan, ventricle_mm3)
    description = {
        "Name": "Synthetic longitudinal brain cohort",
        "BIDSVersion": "1.10.0",
        "DatasetType": "raw",
        "License": "CC0",
    }
    files["dataset_description.json"] = _json(description)
    return files


def _session_files(subject: PlannedSubject, session: PlannedSession) -> dict[str, str]:
    picture = image_path(subject, session)
    folder = f"{subject.subject_id}/{session.session_id}"
    first = datetime.datetime(1901, 1, 1, 10)
    start = first + datetime.timedelta(days=session.day, minutes=40 if session.rescan_of else 0)
    sidecar = {
        "Modality": "MR",
        "Manufacturer": session.machine.manufacturer,
        "ManufacturersModelName": session.machine.model,
        "MagneticFieldStrength": session.machine.field_tesla,
    }
    scans = _table(
        ("filename", "acq_time", "scanner"),
        [(picture.removeprefix(f"{folder}/"), start.isoformat(), session.machine.name)],
    )
    return {
        picture.replace(".nii.gz", ".json"): _json(sidecar),
        f"{folder}/{subject.subject_id}_{session.session_id}_scans.tsv": scans,
    }


def _truth(plan: Sequence[PlannedSubject], ventricle_mm3: Mapping[tuple[str, str], float]) -> str:
    columns = (
        "subject_id",
        "session_id",
        "day",
        "trajectory",
        "atrophy",
        "mmse_true",
        "mmse",
        "scanner",
        "rescan_of",
        "ventricle_mm3",
    )
    rows = [
        (
            subject.subject_id,
            session.session_id,
            session.day,
            subject.trajectory,
            f"{session.atrophy:.5f}",
            f"{session.mmse_true:.4f}",
            session.mmse,
            session.machine.name,
            session.rescan_of,
            f"{ventricle_mm3[subject.subject_id, session.session_id]:.1f}",
        )
        for subject in plan
        for session in subject.sessions
    ]
    return _table(columns, rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Tab-separated text; an empty cell is `n/a`, as BIDS says."""
    lines = ["\t".join(columns), *("\t".join(str(cell) or "n/a" for cell in row) for row in rows)]
    return "\n".join(lines) + "\n"


def _json(content: Mapping[str, object]) -> str:
    return json.dumps(content, indent=2) + "\n"
