"""Folders that are not understood are refused, with the layout that was seen and what to give instead."""

import pytest

from preprocess.errors import UsageError
from preprocess.sources.layouts import refuse_misplaced, refuse_unclear
from preprocess.types import Kind

TABLE = "give a CSV table with the columns path,subject_id,session_id,day and a line a scan, such as "


def refusal(names: list[str], kind: Kind = "volume") -> str:
    with pytest.raises(UsageError) as caught:
        refuse_unclear("/raw", names, kind)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("names", "seen", "line"),
    [
        (
            ["OAS30001_MR_d0129/anat1/x.nii.gz"],
            "looks like OASIS-3, whose folders are sessions, not people",
            "OAS30001_MR_d0129/anat1/x.nii.gz,OAS30001,OAS30001_MR_d0129,DAY, or --source-kind oasis3",
        ),
        (
            ["ADNI/002_S_0413/MPRAGE/2006-05-02_12_31_52.0/S13893/x.nii"],
            "looks like a release of ADNI",
            "ADNI/002_S_0413/MPRAGE/2006-05-02_12_31_52.0/S13893/x.nii,002_S_0413,SESSION,DAY, or --source-kind adni",
        ),
        (["ADNI/100_S_10029/x.nii"], "looks like a release of ADNI", "ADNI/100_S_10029/x.nii,100_S_10029,SESSION,DAY"),
        (["ADNI_002_S_0413_MR_MPRAGE_br_raw_1_2_S1_I3.nii"], "looks like a release of ADNI", "002_S_0413,SESSION"),
        (["a/b/c/d/x.nii"], "lies 4 folders deep, and two are understood", "a/b/c/d/x.nii,SUBJECT,SESSION,DAY"),
        (["controls/anna.nii"], "the folder controls is called like a group and not like a person", "SUBJECT"),
        (["T1/anna.nii", "T2/anna.nii"], "the folder T1 is called like a group", "SUBJECT"),
        (["baseline/anna.nii"], "the folder baseline is called like a visit", "SUBJECT"),
        (["2019-03-01/anna.nii"], "the folder 2019-03-01 is called like a visit", "SUBJECT"),
        (["site-x/subj1/t1.nii", "site-x/subj2/t1.nii"], "the folder site-x is called like a group", "SUBJECT"),
        (["wave/anna/t1.nii"], "wave/anna: nothing says which of the two is the person", "SUBJECT"),
        (
            ["lab/patient1.nii", "lab/patient2.nii"],
            "the folder lab holds patient1 and patient2, several people",
            "SUBJECT",
        ),
        (["lab/anna.nii", "lab/ben.nii"], "the folder lab holds anna and ben: people or visits?", "SUBJECT"),
        (["anna_bl.nii", "anna_m12.nii"], "anna_bl.nii says a visit (bl), so files are not people", "SUBJECT"),
        (["001_2019-03-01.nii"], "says a visit (2019-03-01), so files are not people", "SUBJECT"),
        (["visit1.nii", "visit2.nii"], "visit1.nii says a visit (visit1)", "SUBJECT"),
        (["t1.nii", "flair.nii"], "t1.nii says what it shows, but not whom", "SUBJECT"),
        (["sub-1_visit2.nii"], "says a visit (visit2), so files are not people", "SUBJECT"),
        (
            ["anna_1.nii", "anna_2.nii", "ben_1.nii", "ben_2.nii"],
            "may be two visits of one person, or two people",
            "SUB",
        ),
    ],
)
def test_a_plain_folder_that_does_not_name_the_person_is_refused(names: list[str], seen: str, line: str) -> None:
    message = refusal(names)
    assert seen in message
    assert f"{TABLE}{names[0]}," in message
    assert line in message


def test_a_folder_fuller_than_any_person_is_a_class() -> None:
    names = [f"7/{number}.mp4" for number in range(101)]
    assert "the folder 7 holds 101 files, too many for one person" in refusal(names, "clip")
    refuse_unclear("/raw", names[:100], "clip")
    assert "the folder Pneu is called like a group" in refusal(["Pneu/1.mp4"], "clip")


def test_sides_of_a_person_are_no_people() -> None:
    assert "12_left.png says a side (left)" in refusal(["12_left.png", "12_right.png"], "image")


@pytest.mark.parametrize(
    "names",
    [
        ["anna.nii", "ben.nii.gz"],
        ["001.nii", "002.nii"],
        ["sub_001.nii", "sub_002.nii"],
        ["patient_1.nii", "patient_2.nii"],
        ["001_T1.nii", "002_T1.nii"],
        ["IXI012-HH-1211-T1_ds.nii.gz", "IXI015-HH-1258-T1_ds.nii.gz"],
        ["002_S_0413.nii", "100_S_10029.nii"],
        ["002_S_0413/bl.nii", "002_S_0413/m12.nii"],
        ["anna/1.nii", "anna/2.nii", "ben/1.nii"],
        ["anna/2019.nii", "anna/late/2021.nii"],
        ["patient1/2019-03-01/t1.nii", "patient1/2020-03-01/t1.nii"],
        ["subj1/mprage.nii", "subj1/flair.nii"],
        ["subj1/subj1_bl.nii"],
        ["anna/T1/bl.nii"],
        ["sub-01_ses-1_T1w.nii", "sub-01_ses-2_T1w.nii"],
        ["controls/sub-01_T1w.nii", "patients/sub-02_T1w.nii"],
    ],
)
def test_layouts_that_name_the_person_are_taken(names: list[str]) -> None:
    refuse_unclear("/raw", names, "volume")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["site-a/sub-01/anat/x.nii"], "sub-* lie one level deeper (site-a/sub-01); give /raw/site-a, or a table"),
        (
            ["site-a/sub-01/x.nii", "site-b/sub-01/x.nii"],
            "sub-* lie one level deeper (site-a/sub-01); give one of /raw/site-a, /raw/site-b, or a table",
        ),
        (["rawdata/sub-01/anat/x.nii"], "give /raw/rawdata, or a table"),
        (["a/b/sub-01/x.nii"], "sub-* lie 2 levels deeper (a/b/sub-01); give /raw/a/b, or a table"),
        (["ses-01/anat/sub-01_ses-01_T1w.nii"], "so it is a folder of sub-01 alone; give the folder above sub-*"),
        (["anat/sub-01_T1w.nii"], "so it is a folder of sub-01 alone; give the folder above sub-*"),
    ],
)
def test_the_folder_above_or_below_is_refused_with_the_one_to_give(names: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        refuse_misplaced("/raw", names)
    assert message in str(caught.value)


def test_a_folder_without_subjects_anywhere_is_not_misplaced() -> None:
    refuse_misplaced("/raw", ["anna/x.nii", "ben.nii", "sub-01_T1w.nii"])
