"""What names say: BIDS entities in every spelling seen, and words of plain names that the field uses for one thing."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.sources.names import (
    derived_word,
    is_group,
    is_oasis_day_slip,
    modalities_of,
    person_word,
    read_bids_name,
    readable,
    session_word,
    side_word,
    suffix_of,
    words_of,
)

LABEL = st.text("abcXYZ0189+", min_size=1, max_size=6)


@given(
    LABEL,
    LABEL,
    st.lists(st.tuples(st.sampled_from(["acq", "rec", "run", "echo", "part", "chunk"]), LABEL), max_size=5),
)
def test_what_the_grammar_writes_is_read_back(subject: str, session: str, others: list[tuple[str, str]]) -> None:
    run = "_".join(f"{key}-{label}" for key, label in dict(others).items())
    stem = "_".join(part for part in (f"sub-{subject}", f"ses-{session}", run, "T1w") if part)
    name = read_bids_name(f"sub-{subject}/ses-{session}/anat/{stem}.nii.gz")
    assert (name.subject_id, name.session_id, name.run, name.suffix) == (f"sub-{subject}", f"ses-{session}", run, "T1w")
    assert (name.misspelt, name.illegal, name.derived) == ("", "", "")
    assert len(name.subjects) == len(name.sessions) == 1


@pytest.mark.parametrize(
    ("name", "session", "run", "misspelt"),
    [
        ("sub-01/ses-02/anat/sub-01_sess-02_run-1_T1w.nii", "ses-02", "run-1", "sess-02"),
        ("sub-01/ses-02/anat/sub_01_ses_02_T1w.nii", "ses-02", "", "sub_01"),
        ("sub-01/sess-02/anat/sub-01_T1w.nii", "ses-02", "", "sess-02"),
        ("sub-01/ses_02/anat/sub-01_ses-02_T1w.nii", "ses-02", "", "ses_02"),
        ("sub-01/ses-02/anat/SUB-01_ses-02_T1w.nii", "ses-02", "", "SUB-01"),
        ("sub-01/anat/sub-01_ses-02_T1w.nii", "ses-02", "", ""),
        ("sub-01/ses-02/anat/sub-01_T1w.nii", "ses-02", "", ""),
        ("sub-01/anat/T1w.nii", "", "", ""),
    ],
)
def test_other_spellings_are_read_and_told(name: str, session: str, run: str, misspelt: str) -> None:
    found = read_bids_name(name)
    assert (found.session_id, found.run, found.misspelt) == (session, run, misspelt)
    assert len({one.lower() for one in found.subjects}) == 1


@pytest.mark.parametrize(
    ("name", "subjects", "sessions"),
    [
        ("sub-01/ses-02/anat/sub-02_ses-02_T1w.nii", ("sub-01", "sub-02"), ("ses-02",)),
        ("sub-01/ses-02/anat/sub-01_ses-03_T1w.nii", ("sub-01",), ("ses-02", "ses-03")),
        ("sub-01/sub-02/anat/sub-01_T1w.nii", ("sub-01", "sub-02"), ()),
        ("sub-01/anat/sub-1_T1w.nii", ("sub-01", "sub-1"), ()),
        ("sub-01/anat/ses-1_sub-02_T1w.nii", ("sub-01", "sub-02"), ("ses-1",)),
    ],
)
def test_all_identities_of_a_path_are_kept(name: str, subjects: tuple[str, ...], sessions: tuple[str, ...]) -> None:
    found = read_bids_name(name)
    assert (found.subjects, found.sessions) == (subjects, sessions)


@pytest.mark.parametrize("subject", ["sub-AB_01", "sub-Jürgen", "sub-01-2"])
def test_a_label_against_the_grammar_is_the_folders_and_is_reported(subject: str) -> None:
    found = read_bids_name(f"{subject}/anat/{subject}_run-1_T1w.nii.gz")
    assert (found.subjects, found.run, found.illegal) == ((subject,), "run-1", subject[4:])


@pytest.mark.parametrize(
    ("stem", "derived"),
    [
        ("sub-01_space-MNI_T1w", "space-MNI"),
        ("sub-01_desc-brain_mask", "desc-brain"),
        ("sub-01_label-GM_probseg", "label-GM"),
        ("sub-01_T1w_mask", "mask"),
        ("sub-01_dseg", "dseg"),
        ("sub-01_acq-mprage_rec-norm_part-mag_T1w", ""),
    ],
)
def test_derived_images_are_told_by_entity_or_suffix(stem: str, derived: str) -> None:
    assert read_bids_name(f"sub-01/anat/{stem}.nii.gz").derived == derived


def test_only_oasis_copies_with_two_days_are_a_slip_of_the_folder() -> None:
    slip = "{0}/ses-d0010/anat/{0}_ses-d0129_T1w.nii.gz"
    assert is_oasis_day_slip(read_bids_name(slip.format("sub-OAS30001")))
    assert not is_oasis_day_slip(read_bids_name(slip.format("sub-01")))
    assert not is_oasis_day_slip(read_bids_name("sub-OAS30001/ses-a/anat/sub-OAS30001_ses-d0129_T1w.nii.gz"))


@pytest.mark.parametrize(
    ("stem", "modalities"),
    [
        ("001_T1", {"T1w"}),
        ("mprage", {"T1w"}),
        ("subj_FLAIR", {"FLAIR"}),
        ("t2_flair", {"FLAIR"}),
        ("x-T2w-1", {"T2w"}),
        ("BraTS_001_t1ce", {"T1ce"}),
        ("t1_to_t2", {"T1w", "T2w"}),
        ("001_PD", {"PDw"}),
        ("PD_001", set()),
        ("anna", set()),
        ("ct", {"ct"}),
    ],
)
def test_words_for_sequences_are_believed(stem: str, modalities: set[str]) -> None:
    assert modalities_of(words_of(stem)) == modalities


def test_words_for_masks_visits_people_sides_and_groups() -> None:
    assert [derived_word(words_of(stem)) for stem in ("anna_brainmask", "T1w_mask", "x.aseg", "masked", "anna")] == [
        *("brainmask", "mask", "aseg", "", "")
    ]
    visits = ("anna_bl", "anna_visit2", "002_S_0413_m12", "x_2019-03-01", "OAS30001_d0129", "anna", "12_left")
    assert [session_word(stem) for stem in visits] == ["bl", "visit2", "m12", "2019-03-01", "d0129", "", ""]
    assert [person_word(stem) for stem in ("patient7_t1", "IXI012-HH", "bl", "2019")] == ["patient7", "IXI012", "", ""]
    assert [side_word(stem) for stem in ("12_left", "7_OD", "anna")] == ["left", "OD", ""]
    assert [is_group(folder) for folder in ("controls", "AD", "site-a", "group1", "anna", "007")] == [
        *[True] * 4,
        False,
        False,
    ]


def test_the_suffix_stands_behind_the_last_underscore() -> None:
    assert [suffix_of(name) for name in ("a/sub-01_T1w.nii.gz", "sub-01_LUS.MP4", "T1w.nii")] == ["T1w", "LUS", "T1w"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [(os.fsdecode(b"M\xfcller"), r"M\xfcller"), ("Müller", "Müller"), ("plain", "plain"), ("\ud800", r"\ud800")],
)
def test_bytes_that_are_no_utf_8_are_written_out(text: str, shown: str) -> None:
    assert readable(text) == shown
    readable(text).encode()
