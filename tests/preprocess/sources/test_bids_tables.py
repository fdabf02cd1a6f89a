"""Tables of a BIDS folder: matched to scans as people spell them, and every row and scan without the other named."""

from pathlib import Path

import pytest

from preprocess.sources import Listing, list_scans


def listed(root: Path, files: dict[str, str]) -> Listing:
    for name, text in {"dataset_description.json": "{}", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return list_scans(str(root), ("T1w",))


def reported(listing: Listing) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in listing.account.remarks:
        found.setdefault(one.code, []).append(one.message)
    return found


SCANS = {f"sub-01/ses-0{n}/anat/sub-01_ses-0{n}_T1w.nii.gz": "" for n in (1, 2)}


def test_ids_without_prefix_keep_days_and_scores(tmp_path: Path) -> None:
    listing = listed(
        tmp_path,
        {
            **SCANS,
            "participants.tsv": "participant_id\tage\n01\t71\n",
            "sub-01/sub-01_sessions.tsv": "session_id\tday\tmmse\n01\t0\t29\n02\t203\t27\n",
        },
    )
    assert [(scan.day, scan.outcomes) for scan, _, _ in listing.scans] == [
        (0, {"age": 71.0, "mmse": 29.0}),
        (203, {"age": 71.0, "mmse": 27.0}),
    ]
    assert reported(listing) == {
        "ids_read_as": [
            "participants.tsv: 1 row is without sub- in participant_id, and read with it",
            "sub-01/sub-01_sessions.tsv: 2 rows are without ses- in session_id, and read with it",
        ]
    }


def test_every_row_without_a_scan_and_scan_without_a_row_is_named(tmp_path: Path) -> None:
    listing = listed(
        tmp_path,
        {
            **SCANS,
            "sub-02/anat/sub-02_T1w.nii.gz": "",
            "participants.tsv": "participant_id\tage\nsub-01\t71\nsub-09\t60\n",
            "sub-01/sub-01_sessions.tsv": "session_id\tday\nses-01\t0\nses-03\t9\n",
            "sub-01/ses-01/sub-01_ses-01_scans.tsv": "filename\tacq_time\nanat/gone_T1w.nii.gz\tn/a\n",
        },
    )
    assert reported(listing) == {
        "row_without_scan": [
            "participants.tsv line 3: participant_id sub-09 has no T1w scan here",
            "sub-01/sub-01_sessions.tsv line 3: session_id ses-03 has no T1w scan here",
            "sub-01/ses-01/sub-01_ses-01_scans.tsv line 2: anat/gone_T1w.nii.gz is not there",
        ],
        "scan_without_row": [
            "sub-02: not in participants.tsv; add a row to give it scores",
            "sub-01_ses-02: not in sub-01/sub-01_sessions.tsv; add a row to give it a day and scores",
            "sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz: not in sub-01/ses-01/sub-01_ses-01_scans.tsv; add a row",
        ],
    }


@pytest.mark.parametrize(
    "filename",
    [
        "anat/sub-01_ses-01_T1w.nii.gz",
        "./anat/sub-01_ses-01_T1w.nii.gz",
        "anat\\sub-01_ses-01_T1w.nii.gz",
        "ses-01/anat/sub-01_ses-01_T1w.nii.gz",
        "sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz",
        "bids::sub-01/ses-01/anat/sub-01_ses-01_T1w.nii.gz",
        "anat/sub-01_ses-01_T1w.nii",
        "anat/SUB-01_SES-01_T1w.nii.gz",
    ],
)
def test_names_in_scans_tables_are_found_in_other_spellings(filename: str, tmp_path: Path) -> None:
    files = {
        **SCANS,
        "sub-01/ses-01/sub-01_ses-01_scans.tsv": f"filename\tacq_time\n{filename}\t2020-01-01T10:00:00\n",
        "sub-01/ses-02/sub-01_ses-02_scans.tsv": "filename\tacq_time\nanat/sub-01_ses-02_T1w.nii.gz\t2020-07-21\n",
    }
    listing = listed(tmp_path, files)
    assert [scan.day for scan, _, _ in listing.scans] == [0, 202]
    assert "row_without_scan" not in reported(listing)


def test_a_scans_table_of_the_subject_names_files_from_its_folder_and_other_files_are_no_remark(tmp_path: Path) -> None:
    lines = ["filename\tacq_time\toperator", "ses-01/anat/sub-01_ses-01_T1w.nii.gz\t2020-01-01\tx"]
    lines += [
        "ses-02/anat/sub-01_ses-02_T1w.nii.gz\t2021-01-01\tx",
        "ses-01/anat/sub-01_ses-01_T2w.nii.gz\t2020-01-01\ty",
    ]
    files = {**SCANS, "sub-01/ses-01/anat/sub-01_ses-01_T2w.nii.gz": "", "sub-01/sub-01_scans.tsv": "\n".join(lines)}
    listing = listed(tmp_path, files)
    assert [scan.day for scan, _, _ in listing.scans] == [0, 366]
    assert set(reported(listing)) == {"other_modality", "column_ignored"}


def test_rows_of_visits_in_the_table_of_participants_belong_to_their_visits(tmp_path: Path) -> None:
    text = "participant_id\tsession_id\tsite\tmmse\nsub-01\tses-01\tnorth\t29\nsub-01\tses-02\tnorth\t27\n"
    listing = listed(tmp_path, {**SCANS, "participants.tsv": text})
    assert [(scan.site, scan.outcomes) for scan, _, _ in listing.scans] == [
        ("north", {"mmse": 29.0}),
        ("north", {"mmse": 27.0}),
    ]


def test_rows_that_contradict_each_other_give_nothing_where_they_do(tmp_path: Path) -> None:
    text = "participant_id\tage\tmmse\nsub-01\t71\t29\nsub-01\t71\t20\n"
    listing = listed(tmp_path, {**SCANS, "participants.tsv": text})
    assert [scan.outcomes for scan, _, _ in listing.scans] == [{"age": 71.0}] * 2
    assert reported(listing) == {
        "duplicate_visit": [
            "participants.tsv line 3: sub-01 again (first in line 2), with another mmse; left empty: delete one"
        ]
    }


def test_codes_are_told_over_the_sessions_of_all_subjects(tmp_path: Path) -> None:
    files = {f"sub-0{n}/ses-1/anat/sub-0{n}_ses-1_T1w.nii": "" for n in (1, 2, 3)}
    files |= {
        f"sub-0{n}/sub-0{n}_sessions.tsv": f"session_id\tday\tmmse\tz\nses-1\t-4\t{mmse}\t{z}\n"
        for n, (mmse, z) in enumerate([("-4", "-4"), ("27", "-1.5"), ("29", "0.3")], start=1)
    }
    listing = listed(tmp_path, files)
    assert [scan.outcomes for scan, _, _ in listing.scans] == [
        {"z": -4.0},
        {"mmse": 27, "z": -1.5},
        {"mmse": 29, "z": 0.3},
    ]
    assert [scan.day for scan, _, _ in listing.scans] == [-4] * 3
    assert reported(listing) == {
        "sentinel": ["mmse: -4 read as missing in 1 row; if it is a score, give --not-missing mmse=-4"]
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda path: path.symlink_to(".git/annex/objects/a/b/MD5E-s1--x.tsv/MD5E-s1--x.tsv"),
            "participants.tsv: a git-annex link whose content is not here; run git annex get (or datalad get) on it",
        ),
        (
            lambda path: path.symlink_to("gone"),
            "participants.tsv: a link to a file that is not there; restore the file or the link",
        ),
        (
            lambda path: path.write_text("/annex/objects/MD5E-s1--x.tsv\n"),
            "participants.tsv: a git-annex pointer and passed over; run git annex get (or datalad get) on it",
        ),
        (
            lambda path: path.write_bytes("participant_id\tage\n".encode("utf-16")),
            "participants.tsv: not UTF-8 text and passed over; save the table as UTF-8",
        ),
        (
            lambda path: path.write_text("participant_id,age\nsub-01,70\n"),
            "participants.tsv: no column participant_id (columns: participant_id,age); save it tab-separated, with one",
        ),
    ],
)
def test_a_table_that_cannot_be_used_says_what_it_is(make: object, message: str, tmp_path: Path) -> None:
    make(tmp_path / "participants.tsv")  # type: ignore[operator]
    listing = listed(tmp_path, SCANS)
    assert len(listing.scans) == 2
    assert [one.message for one in listing.account.remarks] == [message]
    assert message in listing.account.lines()


def test_tables_where_none_is_read_are_named(tmp_path: Path) -> None:
    names = ("phenotype/mmse.tsv", "sessions.tsv", "participants.xlsx", "sub-01/ses-01/sub-01_ses-01_sessions.tsv")
    listing = listed(tmp_path, {**SCANS, **dict.fromkeys(names, "x")})
    assert {one.name: one.code for one in listing.account.remarks} == dict.fromkeys(names, "table_not_read")


def test_a_days_placeholder_of_the_whole_data_set_gives_no_days(tmp_path: Path) -> None:
    names = [(f"sub-0{n}", f"ses-{m}") for n in (1, 2) for m in (1, 2)]
    files = {f"{sub}/{ses}/anat/{sub}_{ses}_T1w.nii": "" for sub, ses in names}
    for sub, ses in names:
        row = f"anat/{sub}_{ses}_T1w.nii\t1925-01-01T1{ses[-1]}:00:00"
        files[f"{sub}/{ses}/{sub}_{ses}_scans.tsv"] = f"filename\tacq_time\n{row}\n"
    listing = listed(tmp_path, files)
    assert [scan.day for scan, _, _ in listing.scans] == [None] * 4
    assert [message.split(", so")[0] for message in reported(listing)["days_contradict"]] == [
        f"{sub}: all 2 sessions on 1925-01-01, like every scan of the data set" for sub in ("sub-01", "sub-02")
    ]


def test_reading_tables_takes_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from preprocess.storage import Location

    files = {
        **SCANS,
        "participants.tsv": "participant_id\nsub-01\n",
        "sub-01/sub-01_sessions.tsv": "session_id\nses-01\n",
    }
    read: list[str] = []
    plain = Location.read
    monkeypatch.setattr(Location, "read", lambda self, name="": read.append(Path(name).name) or plain(self, name))
    listed(tmp_path, files)
    assert sorted(read) == ["dataset_description.json", "participants.tsv", "sub-01_sessions.tsv"]
