"""BIDS folders: identity from names, days and scores from tables, order by day and never by file name."""

from pathlib import Path

import pytest

from preprocess.sources import Listing, list_scans
from preprocess.types import Scan


def listed(root: Path, *modalities: str) -> tuple[dict[str, Scan], Listing]:
    listing = list_scans(str(root), modalities or ("T1w",))
    return {name: scan for scan, name, _ in listing.scans}, listing


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in {"dataset_description.json": "{}", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def scans_of(root: Path, *modalities: str) -> dict[str, Scan]:
    return listed(root, *modalities)[0]


def test_subject_session_and_run_come_from_the_name(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz": "12345",
            "sub-01/ses-b/anat/sub-01_ses-b_acq-fast_run-1_T1w.nii": "",
            "sub-01/ses-b/anat/sub-01_ses-b_acq-fast_run-2_T1w.nii": "",
            "sub-01/ses-b/anat/sub-01_ses-b_T2w.nii.gz": "",
            "sourcedata/sub-01/sub-01_T1w.nii.gz": "",
            "derivatives/sub-01/sub-01_T1w.nii.gz": "",
            "sub-01_T1w.nii.gz": "",
        },
    )
    scans, listing = listed(tmp_path)
    assert {scan.visit for scan in scans.values()} == {
        ("sub-01", "ses-a", ""),
        ("sub-01", "ses-b", "acq-fast_run-1"),
        ("sub-01", "ses-b", "acq-fast_run-2"),
    }
    assert listing.other_modalities == {"T2w"}
    scan, name, size = listing.scans[0]
    assert (scan.uri, name, size) == (str(tmp_path / name), "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz", 5)
    assert {scan.modality for scan in scans_of(tmp_path, "T1w", "T2w").values()} == {"T1w", "T2w"}


def test_without_session_folders_the_session_is_empty_and_without_the_entity_it_is_the_folder(tmp_path: Path) -> None:
    put(tmp_path, {"sub-01/anat/sub-01_T1w.nii": "", "sub-02/ses-9/anat/sub-02_T1w.nii": ""})
    assert [scan.visit[:2] for scan in scans_of(tmp_path).values()] == [("sub-01", ""), ("sub-02", "ses-9")]


def test_days_come_from_the_sessions_table_else_from_acquisition_times(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            **{f"sub-01/ses-0{n}/anat/sub-01_ses-0{n}_T1w.nii": "" for n in (1, 2)},
            "sub-01/sub-01_sessions.tsv": "session_id\tdays_since_first\tmmse\nses-01\t0\t29\nses-02\t203\t-99\n",
            **{f"sub-02/ses-0{n}/anat/sub-02_ses-0{n}_T1w.nii": "" for n in (1, 2)},
            "sub-02/ses-01/sub-02_ses-01_scans.tsv": (
                "filename\tacq_time\nanat/sub-02_ses-01_T1w.nii\t2021-03-01T10:00:00\n"
            ),
            "sub-02/ses-02/sub-02_ses-02_scans.tsv": (
                "filename\tacq_time\nanat/sub-02_ses-02_T1w.nii\t2020-03-01T09:00:00\n"
            ),
            "sub-03/anat/sub-03_T1w.nii": "",
            "sub-03/sub-03_scans.tsv": "filename\tacq_time\nanat/sub-03_T1w.nii\t2021-03-01\n",
            "sub-04/anat/sub-04_T1w.nii": "",
        },
    )
    scans = scans_of(tmp_path)
    days = {(scan.subject_id, scan.session_id): scan.day for scan in scans.values()}
    assert days == {
        ("sub-01", "ses-01"): 0,
        ("sub-01", "ses-02"): 203,
        ("sub-02", "ses-01"): 365,  # the visit called first was the later one
        ("sub-02", "ses-02"): 0,
        ("sub-03", ""): 0,
        ("sub-04", ""): None,
    }
    assert [scan.outcomes for scan in scans.values()][:2] == [{"mmse": 29.0}, {}]


def test_a_session_without_a_day_is_not_made_a_rescan_of_the_first(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            **{f"sub-01/ses-0{n}/anat/sub-01_ses-0{n}_T1w.nii": "" for n in (1, 2)},
            "sub-01/sub-01_sessions.tsv": "session_id\tday\nses-01\t0\nses-02\tn/a\n",
            "sub-01/ses-02/sub-01_ses-02_scans.tsv": "filename\tacq_time\nanat/sub-01_ses-02_T1w.nii\t2021-03-01\n",
        },
    )
    scans, listing = listed(tmp_path)
    assert [scan.day for scan in scans.values()] == [0, None]
    assert listing.notes == ["sub-01_ses-02: a date, but other visits have days; write days for all, or both for one"]


def test_site_scanner_and_scores_come_from_all_tables_the_visits_own_first(tmp_path: Path) -> None:
    put(
        tmp_path,
        {
            "participants.tsv": (
                "participant_id\tsite\tage\tmmse\tsex\nsub-01\tnorth\t71\t30\tF\nsub-02\tsouth\t90-92\t.\tM\n"
            ),
            "sub-01/ses-01/anat/sub-01_ses-01_T1w.nii": "",
            "sub-01/sub-01_sessions.tsv": "session_id\tmmse\tscanner\nses-01\t27\tPrisma\n",
            "sub-02/anat/sub-02_T1w.nii.gz": "",
            "sub-02/anat/sub-02_T1w.json": '{"Manufacturer": "GE", "ManufacturersModelName": "Signa"}',
            "sub-03/anat/sub-03_T1w.nii.gz": "",
            "sub-03/anat/sub-03_T1w.json": "{not json",
            "sub-04/anat/sub-04_T1w.nii.gz": "",
            "sub-04/anat/sub-04_T1w.json": "[1]",
        },
    )
    scans, listing = listed(tmp_path)
    first, second, third, fourth = scans.values()
    assert (first.site, first.scanner, first.outcomes) == ("north", "Prisma", {"age": 71.0, "mmse": 27.0})
    assert (second.site, second.scanner, second.outcomes) == ("south", "GE Signa", {})
    assert (third.scanner, fourth.scanner) == ("", "")
    bad_number, *bad_sidecars = listing.notes
    assert bad_number == "sub-02: age '90-92' is not a score and is left empty; correct the table"
    assert [note.split(": not a JSON")[0] for note in bad_sidecars] == [
        "sub-03/anat/sub-03_T1w.json",
        "sub-04/anat/sub-04_T1w.json",
    ]


def test_a_table_that_is_not_utf_8_is_noted(tmp_path: Path) -> None:
    put(tmp_path, {"sub-01/anat/sub-01_T1w.nii": ""})
    (tmp_path / "participants.tsv").write_bytes("participant_id\tage\nsub-01\t70\n".encode("utf-16"))
    scans, listing = listed(tmp_path)
    assert len(scans) == 1
    assert listing.notes == ["participants.tsv: not UTF-8 text and passed over; save the table as UTF-8"]


@pytest.mark.real_data
def test_the_real_cohort_lists_its_days(real_data: Path) -> None:
    scans = scans_of(real_data / "mri_longitudinal")
    days = [(scan.subject_id, scan.session_id, scan.day) for scan in scans.values()]
    assert days == [
        ("sub-01", "ses-01", 0),
        ("sub-01", "ses-02", 203),
        ("sub-12", "ses-01", 0),
        ("sub-12", "ses-02", 81),
    ]
