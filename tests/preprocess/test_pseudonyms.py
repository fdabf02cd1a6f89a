"""Pseudonyms: the same with the same key, unlike with another, and days that keep their intervals."""

import hashlib
import hmac
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.errors import UsageError
from preprocess.pseudonyms import KEY_VARIABLE, Pseudonyms, is_calendar_day, read_key, sayable
from preprocess.types import Finding, Scan

KEY = b"0123456789abcdef"
OTHER = b"fedcba9876543210"


def test_a_pseudonym_is_the_hmac_of_the_name() -> None:
    text = b"7:subject3:IXI8:sub-Jane"
    expected = hmac.new(KEY, text, hashlib.sha256).hexdigest()[:16]
    assert Pseudonyms(KEY).subject("IXI", "sub-Jane") == f"sub-{expected}"


def test_the_same_key_gives_the_same_and_another_one_gives_others() -> None:
    first, again, other = Pseudonyms(KEY), Pseudonyms(KEY), Pseudonyms(OTHER)
    for ask in (
        lambda one: one.subject("", "Jane"),
        lambda one: one.session("", "Jane", "ses-20110317"),
        lambda one: one.run("", "Jane", "ses-1", "run-14032"),
        lambda one: one.site("", "St Mary"),
        lambda one: one.file("a/jane.nii"),
        lambda one: one.check,
    ):
        assert ask(first) == ask(again) != ask(other)
        assert "ane" not in ask(first)


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), min_size=2, max_size=2, unique=True))
def test_two_people_are_never_one(people: list[tuple[str, str]]) -> None:
    made = Pseudonyms(KEY)
    assert made.subject(*people[0]) != made.subject(*people[1])


@pytest.mark.parametrize("plain", ["ses-01", "ses-M12", "ses-003", "ses-baseline", ""])
def test_a_session_that_is_a_plain_count_stays(plain: str) -> None:
    assert Pseudonyms(KEY).session("", "Jane", plain) == plain


@pytest.mark.parametrize("odd", ["ses-20110317", "ses-d0129", "ses-Jane", "ses-1234", "ses-I14032", "2011-03-17"])
def test_a_session_that_may_be_a_date_or_a_number_of_a_hospital_does_not(odd: str) -> None:
    made = Pseudonyms(KEY)
    assert odd.removeprefix("ses-") not in made.session("", "Jane", odd)
    assert made.session("", "Jane", odd) != made.session("", "John", odd)


def test_runs_stay_where_they_count_and_sites_never() -> None:
    made = Pseudonyms(KEY)
    assert made.run("", "Jane", "ses-1", "run-2") == "run-2"
    assert "14032" not in made.run("", "Jane", "ses-1", "run-14032")
    assert made.site("", "") == ""
    assert made.site("", "St Mary").startswith("site-")


def test_all_dates_of_a_person_move_by_one_number_of_days() -> None:
    made = Pseudonyms(KEY)
    shifts = {made.shift_days("", f"sub-{number}") for number in range(200)}
    assert len(shifts) > 150
    assert all(-3650 <= shift <= -1 for shift in shifts)
    assert made.shift_days("", "sub-1") == Pseudonyms(KEY).shift_days("", "sub-1")


def test_days_of_a_calendar_are_known_from_days_of_a_study() -> None:
    assert [is_calendar_day(day) for day in (None, 0.0, -30.0, 9000.0, 15340.0, 734000.0)] == [
        *[False] * 4,
        True,
        True,
    ]


def test_two_names_with_one_pseudonym_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("preprocess.pseudonyms._DIGITS", 1)
    made = Pseudonyms(KEY)
    with pytest.raises(UsageError, match="two names have one pseudonym"):
        [made.subject("", str(number)) for number in range(17)]


def test_a_finding_that_may_quote_a_file_is_said_by_its_code_where_the_name_is_a_pseudonym() -> None:
    finding = Finding("wrong_file", "sub-1: begins with 4a616e65")
    scan = Scan("sub-1", "", "T1w", "jane.nii")
    assert sayable(finding, scan) == finding
    assert sayable(finding, replace(scan, shown="its file")).message.startswith("sub-1_T1w: wrong_file")
    coarse = Finding("too_coarse", "sub-1: voxel spacing 9 mm")
    assert sayable(coarse, replace(scan, shown="its file")) == coarse


def test_a_key_comes_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(KEY + b"\n")
    file.chmod(0o600)
    assert read_key(file, {}) == KEY
    assert read_key(None, {KEY_VARIABLE: KEY.decode()}) == KEY


@pytest.mark.skipif(os.name != "posix", reason="no modes")
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_may_read_is_refused_with_the_remedy(mode: int, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(KEY)
    file.chmod(mode)
    with pytest.raises(UsageError, match=rf"others may read it \(mode {mode:o}\); run chmod 600"):
        read_key(file, {})


def test_no_key_or_a_short_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--deidentify needs a key; give --key-file, or set"):
        read_key(None, {})
    with pytest.raises(UsageError, match="a key of 5 bytes is shorter than 16"):
        read_key(None, {KEY_VARIABLE: "short"})
    with pytest.raises(UsageError, match="no such file"):
        read_key(tmp_path / "gone", {})
