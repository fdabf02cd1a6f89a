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


def remarks(root: Path, files: dict[str, str]) -> tuple[list[str], dict[str, tuple[str, bool]]]:
    """Names of scans listed, and code and loss of all else by name."""
    put(root, files)
    scans, listing = listed(root)
    return sorted(scans), {one.name: (one.code, one.leaves_out) for one in listing.account.remarks}


GOOD = "sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz"


@pytest.mark.parametrize(
    ("name", "code", "lost"),
    [
        ("sub-01/ses-02/anat/sub-02_ses-02_T1w.nii.gz", "two_subjects", True),
        ("sub-01/ses-02/anat/sub-01_ses-03_T1w.nii.gz", "two_sessions", True),
        ("sub-01/ses-d0001/anat/sub-01_ses-d0129_T1w.nii.gz", "two_sessions", True),
        ("sub-01/sub-02/anat/sub-02_T1w.nii.gz", "two_subjects", True),
        ("sub-01/ses-02/anat/sub-01_ses-02_T1W.nii.gz", "suffix_case", True),
        ("sub-01/ses-02/anat/sub-01_ses-02_T1.nii.gz", "suffix_case", True),
        ("sub-01/ses-02/anat/sub-01_ses-02_MP2RAGE.nii.gz", "other_modality", False),
        ("sub-01/ses-02/anat/sub-01_ses-02_T1w.mgz", "unread_format", True),
        ("sub-01/ses-02/anat/sub-01_ses-02_T1w.img", "unread_format", True),
        ("sub-01/ses-02/anat/sub-01_ses-02_T1w.hdr", "unread_format", False),
        ("sub-01/ses-02/dicom/1.2.840.113619.2.5.dcm", "unread_format", False),
        ("sub-01/ses-02/anat/sub-01_ses-02_T1w.npy", "other_kind", False),
        ("sub-01/ses-02/anat/sub-01_ses-02_T2w.nii.gz", "other_modality", False),
        ("sub-01/ses-02/anat/sub-01_ses-02_space-MNI_T1w.nii.gz", "derived", False),
        ("sub-01/ses-02/anat/sub-01_ses-02_part-phase_T1w.nii.gz", "derived", False),
        ("sub-01/ses-02/anat/sub-01_ses-02_T1w_mask.nii.gz", "derived", False),
        ("sub-01/ses-02/anat/.sub-01_ses-02_T1w.nii.gz", "hidden", False),
        ("sub-01/x.nii/sub-01_T1w.nii.gz", "folder_named_as_scan", False),
        ("derivatives/sub-01/anat/sub-01_T1w.nii.gz", "derivatives", False),
        ("sourcedata/sub-01/anat/sub-01_T1w.nii.gz", "sourcedata", False),
        ("code/x.nii", "code_folder", False),
        ("template.nii.gz", "outside_subjects", False),
        ("sub-02_T1w.nii.gz", "outside_subjects", True),
        ("Sub-02/anat/Sub-02_T1w.nii.gz", "outside_subjects", True),
        ("sub_02/anat/sub_02_T1w.nii.gz", "outside_subjects", True),
        ("02/anat/02_T1w.nii.gz", "outside_subjects", False),
        ("site-b/sub-02/anat/sub-02_T1w.nii.gz", "outside_subjects", False),
        ("scans.zip", "unread_format", False),
    ],
)
def test_each_image_that_is_no_scan_is_named_with_its_reason(name: str, code: str, lost: bool, tmp_path: Path) -> None:
    assert remarks(tmp_path, {GOOD: "", name: ""}) == ([GOOD], {name: (code, lost)})


def test_two_people_in_one_path_say_who(tmp_path: Path) -> None:
    put(tmp_path, {GOOD: "", "sub-01/ses-02/anat/sub-02_ses-02_T1w.nii.gz": ""})
    (lost,) = listed(tmp_path)[1].account.left_out
    assert lost.message == (
        "sub-01/ses-02/anat/sub-02_ses-02_T1w.nii.gz: the path names two subjects, sub-01 and sub-02; rename the file "
        "after the person it shows"
    )


def test_the_file_is_believed_where_an_oasis_script_garbled_the_folder(tmp_path: Path) -> None:
    name = "sub-OAS30001/ses-d0010/anat/sub-OAS30001_ses-d0129_run-01_T1w.nii.gz"
    scans, found = remarks(tmp_path, {name: ""})
    assert (scans, found) == ([name], {name: ("folder_day_disagrees", False)})
    assert scans_of(tmp_path)[name].visit == ("sub-OAS30001", "ses-d0129", "run-01")


@pytest.mark.parametrize("name", ["sub-01_sess-02_T1w.nii", "sub_01_ses_02_T1w.nii"])
def test_misspelt_sessions_are_read_and_told(name: str, tmp_path: Path) -> None:
    path = f"sub-01/ses-02/anat/{name}"
    scans, found = remarks(tmp_path, {path: ""})
    assert (scans, found) == ([path], {path: ("name_misspelt", False)})
    assert scans_of(tmp_path)[path].visit == ("sub-01", "ses-02", "")


def test_labels_of_the_current_grammar_are_no_remark(tmp_path: Path) -> None:
    name = "sub-A+1/ses-2+b/anat/sub-A+1_ses-2+b_acq-x+y_run-01_echo-1_part-mag_chunk-2_T1w.nii.gz"
    assert remarks(tmp_path, {name: ""}) == ([name], {})
    assert scans_of(tmp_path)[name].run == "acq-x+y_run-01_echo-1_part-mag_chunk-2"


def test_side_files_are_counted_and_no_noise(tmp_path: Path) -> None:
    side = ["README", "CHANGES", "LICENSE", "participants.json", ".bidsignore", "sub-01/ses-01/dwi/sub-01_dwi.bval"]
    side += ["sub-01/ses-01/dwi/sub-01_dwi.bvec", "sub-01/ses-01/anat/sub-01_ses-01_T1w.json", "T1w.json"]
    assert remarks(tmp_path, {GOOD: "", **dict.fromkeys(side, "{}")}) == ([GOOD], {})
    account = listed(tmp_path)[1].account
    assert account.files == {"there": 11, "scans": 1, "read": 2, "other": 8, "passed_over": 0}


def test_a_subject_or_a_folder_that_is_a_link_is_listed(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", {"sub-02/ses-01/anat/sub-02_ses-01_T1w.nii.gz": "12", "anat/sub-03_T1w.nii.gz": "1"})
    root = put(tmp_path / "set", {GOOD: "1"})
    (root / "sub-02").symlink_to(tmp_path / "elsewhere/sub-02")
    (root / "sub-03").mkdir()
    (root / "sub-03/anat").symlink_to(tmp_path / "elsewhere/anat")
    assert [scan.subject_id for scan in scans_of(root).values()] == ["sub-01", "sub-02", "sub-03"]


def test_a_data_set_of_links_only_is_listed(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", {"sub-02/anat/sub-02_T1w.nii.gz": "12"})
    (tmp_path / "set").mkdir()
    (tmp_path / "set/sub-02").symlink_to(tmp_path / "elsewhere/sub-02")
    assert list(scans_of(tmp_path / "set")) == ["sub-02/anat/sub-02_T1w.nii.gz"]


@pytest.mark.parametrize(
    ("text", "name", "code"),
    [
        ('{"Name": "  Two\\n words "}', "Two words", None),
        ('{"Name": "odd \\ud800"}', r"odd \ud800", None),
        ("{}", "", None),
        ('{"Name": ""}', "", None),
        ('{"Name": 7}', "", "description_unreadable"),
        ("[1]", "", "description_unreadable"),
        ("{not json", "", "description_unreadable"),
    ],
)
def test_the_cohort_has_the_data_sets_own_name(text: str, name: str, code: str | None, tmp_path: Path) -> None:
    put(tmp_path, {GOOD: "", "dataset_description.json": text})
    scans, listing = listed(tmp_path)
    assert (listing.cohort, listing.cohort_given, {scan.cohort for scan in scans.values()}) == (name, False, {name})
    assert [one.code for one in listing.account.remarks] == ([] if code is None else [code])


def test_a_name_that_is_given_is_the_cohorts(tmp_path: Path) -> None:
    put(tmp_path, {GOOD: "", "dataset_description.json": '{"Name": "own"}'})
    listing = list_scans(str(tmp_path), ("T1w",), cohort=" given  name ")
    assert (listing.cohort, listing.cohort_given, listing.scans[0][0].cohort) == ("given name", True, "given name")
    assert list_scans(str(tmp_path), ("T1w",), cohort="").cohort == ""


def test_all_names_of_the_source_are_known(tmp_path: Path) -> None:
    put(tmp_path, {GOOD: "", "sub-01/ses-01/anat/sub-01_ses-01_T2w.nii.gz": "", "README": ""})
    assert listed(tmp_path)[1].names == {
        GOOD, "sub-01/ses-01/anat/sub-01_ses-01_T2w.nii.gz", "README", "dataset_description.json"
    }  # fmt: skip


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
