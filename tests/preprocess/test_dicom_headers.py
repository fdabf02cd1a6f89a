"""What is read of a header, and that nothing else is."""

import io

import pytest

from preprocess.dicom_headers import read_header
from preprocess.errors import ScanError
from tests.support.series import CANARIES, enhanced, file_of, slices


def test_a_header_is_read_without_pixels_and_names() -> None:
    one = slices(patient="P7", EchoNumbers=2, ContrastBolusAgent="GAD", MRAcquisitionType="3D")[0]
    data = file_of(one)
    stream = io.BytesIO(data)
    found = read_header(stream, name="x")
    assert found is not None
    assert stream.tell() < len(data) - len(one.PixelData)
    assert (found.patient_id, found.series_number, found.modality) == ("P7", 5, "MR")
    assert found.dates == ("20110317",) * 3
    assert found.text == ("T1w MPRAGE", "T1w MPRAGE")
    assert (found.echo_time_ms, found.has_contrast, found.acquisition) == (2.9, True, "3D")
    assert found.scanner == "Made Up"
    (frame,) = found.frames
    assert frame.size == (48, 48)
    assert frame.position_mm == (-94.0, -94.0, -94.0)
    assert frame.echo == (2.9, 2.0)
    assert not [canary for canary in CANARIES if canary in repr(found)]


def test_pixels_need_not_be_there() -> None:
    data = file_of(slices()[0])
    assert read_header(io.BytesIO(data[: data.index(b"\xe0\x7f\x10\x00") + 12]), name="x") is not None


def test_frames_of_an_enhanced_object_have_places_of_their_own() -> None:
    found = read_header(io.BytesIO(file_of(enhanced())), name="x")
    assert found is not None
    assert len(found.frames) == 48
    assert found.frames[1].position_mm[2] - found.frames[0].position_mm[2] == pytest.approx(8.0)
    assert {(frame.slope, frame.intercept) for frame in found.frames} == {(2.0, -10.0)}


def test_a_multiframe_object_without_functional_groups_places_none_of_its_frames() -> None:
    one = slices(NumberOfFrames=3)[0]
    found = read_header(io.BytesIO(file_of(one)), name="x")
    assert found is not None
    assert [frame.position_mm for frame in found.frames] == [()] * 3


@pytest.mark.parametrize("data", [b"", b"README", bytes(300)])
def test_what_is_not_dicom_is_none(data: bytes) -> None:
    assert read_header(io.BytesIO(data), name="x") is None


def test_a_damaged_or_cut_header_is_a_finding() -> None:
    data = file_of(slices()[0])
    for spoilt in (data[:140] + b"\xff" * 60 + data[200:], data[:200], data[:700]):
        with pytest.raises(ScanError) as caught:
            read_header(io.BytesIO(spoilt), name="x")
        assert caught.value.finding.code == "unreadable"
