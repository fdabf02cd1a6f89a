"""Which scans and fields a client sends, and what it refuses before it does."""

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.schemas import PairFields, UriPair
from app.trajectory_schemas import TrajectoryFields
from interscan.client_calls import Deadline, OutOfTimeError
from interscan.client_scans import files_of, form_body, json_body, scans_by_uri
from preprocess.errors import UsageError

URIS = {"the earlier scan": "gs://a/b.nii", "the later scan": "s3://a/c.nii"}


def test_uris_stay_in_order_and_files_are_none():
    assert scans_by_uri(URIS) == ["gs://a/b.nii", "s3://a/c.nii"]
    assert scans_by_uri({"the scan": "folder/scan.nii"}) is None
    assert scans_by_uri({"the scan": b"gs://a/b"}) is None
    assert scans_by_uri({"the scan": Path("gs://a/b")}) is None


@pytest.mark.parametrize("file", [b"x", "scan.nii", Path("scan.nii")])
def test_files_and_uris_are_not_mixed(file):
    with pytest.raises(UsageError, match="the later scan is a URI and the earlier scan is not; a request either"):
        scans_by_uri({"the earlier scan": file, "the later scan": "gs://a/b"})


def test_what_is_no_file_is_refused_with_what_to_give(tmp_path):
    (tmp_path / "empty.nii").touch()
    os.mkfifo(tmp_path / "pipe")
    for scan, words in [
        (tmp_path / "none.nii", r"none\.nii: no such file; give the scan as a NIfTI file"),
        (str(tmp_path), "is a folder; give the scan as .* zip of one DICOM series"),
        (tmp_path / "empty.nii", r"empty\.nii has 0 bytes"),
        (tmp_path / "pipe", "is no regular file"),
        (tmp_path / "empty.nii" / "below", "below: not a directory; check the path; give"),
        ("a\0b", "no path of a file"),
        (b"", "the scan has 0 bytes"),
        (None, "the scan is of type NoneType; give a path, a URI or the bytes"),
        ([1], "the scan is of type list"),
    ]:
        with pytest.raises(UsageError, match=words) as caught:
            files_of({"the scan": scan})
        assert "\n" not in str(caught.value)


def test_a_body_of_uris_is_the_object_of_the_route_with_what_was_given_only():
    given = {
        "earlier_uri": "gs://a/b",
        "later_uri": "gs://a/c",
        "gap_days": 30,
        "accept_unproven": False,
        "model": None,
    }
    body = json_body(UriPair, given)

    assert body.json == {"earlier_uri": "gs://a/b", "later_uri": "gs://a/c", "gap_days": 30.0}
    assert UriPair.model_validate(body.json).gap_days == 30


def test_the_texts_of_a_form_are_read_by_the_service_as_they_were_meant():
    body = form_body(TrajectoryFields, {"days": [0.1, -3, 1e-7], "accept_unproven": True}, ["scans"], [b"x"])

    read = TrajectoryFields.model_validate(body.texts)
    assert (read.days, read.accept_unproven) == ([0.1, -3.0, 1e-7], True)
    assert body.json is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"gap_days": "soon"}, "gap_days: Input should be a valid number"),
        ({"gap_days": float("nan")}, "gap_days: Input should be "),
        ({"gap_days": -1, "model": 3}, "model: Input should be a valid string; gap_days: Input should be greater"),
    ],
)
def test_wrong_fields_are_all_named_in_one_line(given, words):
    with pytest.raises(UsageError, match=words) as caught:
        form_body(PairFields, given, [], [])
    assert "\n" not in str(caught.value)


def test_a_file_is_read_piece_by_piece_while_there_is_time_and_anew_for_each_sending(tmp_path):
    path = tmp_path / "anna.nii"
    path.write_bytes(b"abcdef")
    body = form_body(PairFields, {}, ["earlier"], [path])

    for _ in range(2):
        with ExitStack() as held:
            name, (shown, file, kind) = body.open(held, Deadline(60))["files"][0]
            assert (name, shown, kind) == ("earlier", "earlier", "application/octet-stream")
            assert [file.read(4), file.read(4), file.read(4)] == [b"abcd", b"ef", b""]
        with pytest.raises(ValueError, match="closed"):
            file.seek(0)
    with ExitStack() as held:
        late = body.open(held, Deadline(-1))["files"][0][1][1]
        with pytest.raises(OutOfTimeError):
            late.read(1)


def test_a_file_that_vanished_since_is_named(tmp_path):
    body = form_body(PairFields, {}, ["earlier"], [tmp_path / "gone.nii"])
    with ExitStack() as held, pytest.raises(UsageError, match=r"gone\.nii: "):
        body.open(held, Deadline(60))
