"""BIDS data sets with the irregularities that public examples have: each lists, with the right counts and days.

Built after the published examples (the names are those of the irregularity's source), since they are not at hand.
"""

from pathlib import Path

import pytest

from preprocess.sources import Listing, list_scans

Days = dict[str, float | None]


def listed(root: Path, files: dict[str, str]) -> Listing:
    for name, text in {"dataset_description.json": '{"Name": "x", "BIDSVersion": "1.9.0"}', **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return list_scans(str(root), ("T1w",))


def scans(*sessions: str, subject: str = "sub-01") -> dict[str, str]:
    return {f"{subject}/{one}/anat/{subject}_{one}_T1w.nii.gz": "" for one in sessions}


def times(*rows: tuple[str, str], head: str = "session_id\tacq_time", subject: str = "sub-01") -> dict[str, str]:
    lines = [head, *("\t".join(row) for row in rows)]
    return {f"{subject}/{subject}_sessions.tsv": "\n".join(lines) + "\n"}


def counts(listing: Listing) -> dict[str, int]:
    return {code: count for part in listing.account.counts().values() for code, count in part.items()}


@pytest.mark.parametrize(
    ("files", "days"),
    [
        pytest.param(
            {**scans("ses-01", "ses-02"), **times(("ses-01", "1880-01-01T10:00"), ("ses-02", "1802-01-01T10:00"))},
            {"ses-01": 28489.0, "ses-02": 0.0},
            id="synthetic: a session was shifted before the one that it follows",
        ),
        pytest.param(
            {**scans("ses-1", "ses-2"), **times(("ses-1", "1890-03-01"), ("ses-2", "1890-03-31"))},
            {"ses-1": 0.0, "ses-2": 30.0},
            id="years before 1925, date only",
        ),
        pytest.param(
            {**scans("ses-1", "ses-2"), **times(("ses-1", "n/a"), ("ses-2", "n/a"))},
            {"ses-1": None, "ses-2": None},
            id="eyetracking: acq_time n/a",
        ),
        pytest.param(
            {**scans("ses-1", "ses-2"),
             **times(("ses-1", "1925-01-01T00:00:00Z"), ("ses-2", "1925-02-01T00:00:00Z"),
                     head="\ufeffsession_id\tacq_time")},
            {"ses-1": 0.0, "ses-2": 31.0},
            id="ds000248: byte order mark, Z",
        ),
        pytest.param(
            {**scans("ses-1", "ses-2"),
             **times(("0", "ses-1", "2010-01-01"), ("1", "ses-2", "2011-01-01"), head="\tsession_id\tacq_time")},
            {"ses-1": 0.0, "ses-2": 365.0},
            id="an extra column with the number of the row",
        ),
        pytest.param(
            {**scans("ses-1", "ses-2"), **times(("ses-1", "1925-01-01T00:00:00"), ("ses-2", "1925-01-01T00:00:00"))},
            {"ses-1": None, "ses-2": None},
            id="bidscoin: one date for all",
        ),
        pytest.param(
            {**scans("ses-test", "ses-retest"), **times(("ses-test", "1900-01-01"), ("ses-retest", "1900-01-01"))},
            {"ses-test": 0.0, "ses-retest": 0.0},
            id="test and retest on one day",
        ),
        pytest.param(scans("ses-pre", "ses-post"), {"ses-pre": None, "ses-post": None}, id="labels carry no order"),
    ],
)  # fmt: skip
def test_days_are_those_of_the_table_or_none(files: dict[str, str], days: Days, tmp_path: Path) -> None:
    listing = listed(tmp_path, files)
    assert {scan.session_id: scan.day for scan, _, _ in listing.scans} == days
    assert listing.account.num_lost == 0


def test_a_contrast_that_only_one_session_has_is_listed_once(tmp_path: Path) -> None:
    listing = listed(tmp_path, {**scans("ses-1"), "sub-01/ses-2/func/sub-01_ses-2_task-rest_bold.nii.gz": ""})
    assert [scan.session_id for scan, _, _ in listing.scans] == ["ses-1"]
    assert counts(listing) == {"other_modality": 1}


@pytest.mark.parametrize(
    "entity", ["run-01 run-02", "acq-a acq-b", "chunk-1 chunk-2", "part-mag echo-2", "rec-a rec-b"]
)
def test_two_scans_of_one_session_are_told_apart_by_their_entities(entity: str, tmp_path: Path) -> None:
    names = {f"sub-01/ses-1/anat/sub-01_ses-1_{one}_T1w.nii.gz": "" for one in entity.split()}
    assert {scan.run for scan, _, _ in listed(tmp_path, names).scans} == set(entity.split())


def test_a_participant_without_images_is_named(tmp_path: Path) -> None:
    listing = listed(tmp_path, {**scans("ses-1"), "participants.tsv": "participant_id\tage\nsub-01\t50\nsub-02\t60\n"})
    assert counts(listing) == {"row_without_scan": 1}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("derivatives/fmriprep/sub-01/ses-1/anat/sub-01_ses-1_desc-preproc_T1w.nii.gz", "derivatives"),
        ("derivatives/sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz", "derivatives"),
        ("sub-01/ses-1/derivatives/sub-01_ses-1_T1w.nii.gz", "derivatives"),
        ("sourcedata/sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz", "sourcedata"),
        ("sub-01/ses-1/sourcedata/sub-01_ses-1_T1w.nii.gz", "sourcedata"),
        ("code/x_T1w.nii.gz", "code_folder"),
        ("sub-01/ses-1/anat/sub-01_ses-1_space-MNI152_T1w.nii.gz", "derived"),
        ("sub-01/ses-1/anat/sub-01_ses-1_desc-brain_T1w.nii.gz", "derived"),
        ("sub-01/ses-1/anat/sub-01_ses-1_label-GM_probseg.nii.gz", "derived"),
        ("sub-01/ses-1/anat/sub-01_ses-1_label-lesion_mask.nii.gz", "derived"),
        ("sub-01/ses-1/anat/sub-01_ses-1_desc-brain_mask.nii.gz", "derived"),
        ("sub-01/ses-1/anat/sub-01_ses-1_mod-T1w_defacemask.nii.gz", "derived"),
        ("sub-01/ses-1/anat/sub-01_ses-1_T1w_mask.nii.gz", "derived"),
        ("sub-01/ses-1/anat/sub-01_ses-1_from-T1w_to-MNI_mode-image_xfm.nii.gz", "derived"),
        ("sub-01/ses-1/anat/sub-01_ses-1_res-2_den-x_dseg.nii.gz", "derived"),
    ],
)
def test_derivatives_and_masks_are_passed_over_by_name(name: str, code: str, tmp_path: Path) -> None:
    listing = listed(tmp_path, {**scans("ses-1"), name: ""})
    assert [one.name for one in listing.account.remarks if one.code == code] == [name]
    assert len(listing.scans) == 1
    assert listing.account.num_lost == 0
