"""Videos as PyAV writes them: the frames of every container, upright, and every kind of damage a finding."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.errors import ScanError, UsageError
from preprocess.frames import choose_frames
from preprocess.video import read_video
from tests.support.clips import moving_block, video

CONTAINERS = [
    ("mp4", "mpeg4"),
    ("mov", "mpeg4"),
    ("avi", "mpeg4"),
    ("mpeg", "mpeg1video"),
    ("mpeg1video", "mpeg1video"),
]
SMALL = {container: video(moving_block(9), container, codec) for container, codec in CONTAINERS}
CODING_ERROR = 12
"""Grey values out of 255 that the codec may change on average over the block's edge."""


def code_of(data: bytes, num_frames: int = 16) -> str:
    with pytest.raises(ScanError, match=r"^anna_LUS: ") as caught:
        read_video(data, num_frames=num_frames, name="anna_LUS")
    assert "\n" not in str(caught.value)
    return caught.value.finding.code


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
@pytest.mark.parametrize("num_frames", [8, 32, 64])
def test_frames_at_equal_steps_come_out_of_every_container(container: str, codec: str, num_frames: int) -> None:
    truth = moving_block(41)
    frames, aspect = read_video(video(truth, container, codec), num_frames=num_frames, name="x")
    assert len(frames) == num_frames
    assert aspect == 1
    for frame, index in zip(frames, choose_frames(41, num_frames), strict=True):
        assert np.abs(frame.mean(axis=-1) - truth[index]).mean() < CODING_ERROR
        found = np.argwhere(frame[..., 0] > 120).mean(axis=0)
        assert np.abs(found - np.argwhere(truth[index] > 120).mean(axis=0)).max() < 2


def test_colours_are_red_green_and_blue() -> None:
    frames = np.zeros((9, 48, 64, 3), np.uint8)
    frames[..., :32, :] = (200, 30, 30)
    frames[..., 32:, :] = (30, 30, 200)
    first = read_video(video(frames), num_frames=8, name="x")[0][0]
    np.testing.assert_allclose(first[:, :28].mean((0, 1)), (200, 30, 30), atol=CODING_ERROR)
    np.testing.assert_allclose(first[:, 36:].mean((0, 1)), (30, 30, 200), atol=CODING_ERROR)


def test_pixels_that_are_not_square_are_told() -> None:
    assert read_video(video(moving_block(), pixel_aspect=2), num_frames=8, name="x")[1] == 2
    assert read_video(video(moving_block(), pixel_aspect=2, rotation=90), num_frames=8, name="x")[1] == 0.5


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_a_recording_held_sideways_is_turned_upright(rotation: int) -> None:
    """The container says: turn counterclockwise by so much to show it."""
    truth = moving_block(9)
    frames, _ = read_video(video(truth, rotation=rotation), num_frames=8, name="x")
    for frame, index in zip(frames, choose_frames(9, 8), strict=True):
        upright = np.rot90(truth[index], rotation // 90)
        assert frame.shape[:2] == upright.shape
        assert np.abs(frame.mean(axis=-1) - upright).mean() < CODING_ERROR


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6])
def test_a_truncated_recording_is_a_finding_in_every_container(container: str, codec: str, share: float) -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (40, 64, 80), dtype=np.uint8)
    data = video(noisy, container, codec)
    assert code_of(data[: int(len(data) * share)]) in {"unreadable", "damaged", "too_few_frames"}


def test_a_container_that_promises_more_frames_than_it_holds_is_damaged() -> None:
    """An AVI cut between two frames whose header has its new length still promises 40 frames."""
    noisy = np.random.default_rng(0).integers(0, 256, (40, 64, 80), dtype=np.uint8)
    data = video(noisy, "avi")
    indices = [index for index in range(len(data)) if data[index : index + 4] == b"00dc"]
    assert len(indices) >= 40
    assert code_of(data[: indices[20]]) == "damaged"


def test_a_flipped_byte_in_a_frame_is_damage() -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (20, 64, 80), dtype=np.uint8)
    data = bytearray(video(noisy, "avi"))
    start = len(data) // 2
    data[start : start + 40] = bytes(byte ^ 0xFF for byte in data[start : start + 40])
    assert code_of(bytes(data)) == "damaged"


@given(st.data())
@settings(max_examples=120, deadline=None)
def test_no_changed_bytes_raise_anything_but_a_finding(draw: st.DataObject) -> None:
    data = bytearray(SMALL[draw.draw(st.sampled_from(sorted(SMALL)))])
    for _ in range(draw.draw(st.integers(1, 6))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    message = ""
    try:
        frames, _ = read_video(bytes(data), num_frames=8, name="x")
        assert len(frames) == 8
    except ScanError as error:
        message = str(error)
    assert "\n" not in message


def test_too_few_frames_and_no_picture_are_findings() -> None:
    assert code_of(video(moving_block(7))) == "too_few_frames"
    assert code_of(b"\0\0\0\x14ftypqt  " + b"\0" * 500) == "unreadable"


def test_a_recording_beyond_the_limit_is_not_decoded_further(monkeypatch: pytest.MonkeyPatch) -> None:
    data = video(moving_block(20))
    monkeypatch.setattr("preprocess.video._MAX_PIXELS", 60 * 80 * 10)
    assert code_of(data) == "too_large"
    monkeypatch.setattr("preprocess.video._MAX_FRAME_PIXELS", 60 * 80 - 1)
    assert code_of(data) == "too_large"


def test_without_pyav_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = video(moving_block(9))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match=r"not installed; pip install 'interscan\[video\]'"):
        read_video(data, num_frames=8, name="x")
