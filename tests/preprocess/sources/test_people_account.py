"""Everybody of a study is counted once, and the counts add up."""

from preprocess.sources.oasis3 import person_of
from preprocess.sources.people_account import people_json, people_lines, sort_people
from preprocess.sources.reconciliation import Reconciliation
from preprocess.types import Scan


def scan(subject: str, **outcomes: float) -> Scan:
    return Scan(f"sub-{subject}", "ses-d0001", "T1w", "x", outcomes=outcomes)


def test_each_person_is_one_line_of_the_table_and_the_first_line_is_their_sum() -> None:
    account = Reconciliation()
    account.pass_over("other_modality", "OAS30001_MR_d0001/x_T2w.nii", "why")
    account.pass_over("other_modality", "OAS30004_MR_d0001/x_T2w.nii", "why")
    account.pass_over("unread_format", "OAS30003_MR_d0001/x_T1w.mgz", "why", leaves_out=True)
    account.pass_over("other_modality", "OAS30003_MR_d0001/x_T2w.nii", "why")
    scans = [scan("OAS30001", age=70, mmse=29), scan("OAS30001"), scan("OAS30002", age=70)]
    people = sort_people(scans, account, {"OAS30001", "OAS30005"}, person_of)
    assert people == {
        "OAS30001": "kept with scores",
        "OAS30002": "kept without scores",
        "OAS30003": "left out, in formats that are not read",
        "OAS30004": "no scan of a requested modality",
        "OAS30005": "no scan, only in tables",
    }
    assert people_lines(people) == [
        "people found                                 5",
        "kept with scores                             1",
        "kept without scores                          1",
        "left out, in formats that are not read       1",
        "no scan of a requested modality              1",
        "no scan, only in tables                      1",
    ]
    assert people_json(people)["found"] == 5
    assert list(people_json(people))[1:] == list(people.values())


def test_other_sources_have_no_such_table() -> None:
    assert people_lines({}) == []
