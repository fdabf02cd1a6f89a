"""Frames at equal steps, grey as Pillow has it, and pictures that keep their aspect and their brightness."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from preprocess.errors import ScanError
from preprocess.frames import MIN_FRAMES, choose_frames, fit, pick_frames, to_channels, to_unit


@given(st.integers(1, 5000), st.integers(1, 200))
def test_chosen_frames_are_the_middles_of_equal_parts(num_found: int, num_frames: int) -> None:
    chosen = choose_frames(num_found, num_frames)
    middles = (np.arange(num_frames) + 0.5) * num_found / num_frames  # frame i lasts from i to i + 1
    assert len(chosen) == num_frames
    assert all(
        0 <= index < num_found and index <= middle <= index + 1 for index, middle in zip(chosen, middles, strict=True)
    )
    assert set(np.diff(chosen)) <= {num_found // num_frames, -(-num_found // num_frames)}
    if num_found == num_frames:
        assert chosen == list(range(num_found))


def test_a_clip_below_eight_frames_is_refused_unless_the_recipe_keeps_fewer() -> None:
    assert pick_frames(MIN_FRAMES, 16, name="x") == [index for index in range(8) for _ in range(2)]
    assert pick_frames(5, 4, name="x") == choose_frames(5, 4)
    with pytest.raises(ScanError, match="anna_LUS: 7 frames, fewer than 8; record a longer clip") as caught:
        pick_frames(7, 32, name="anna_LUS")
    assert caught.value.finding.code == "too_few_frames"


def test_grey_is_what_pillow_calls_grey() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    expected = np.asarray(Pillow.fromarray(pixels).convert("L"))
    grey_HW = to_channels(to_unit(pixels, name="x"), 1)[0] * 255
    assert np.abs(grey_HW - expected).max() <= 1  # Pillow rounds to whole numbers


def test_colours_stay_where_three_are_wanted_and_grey_becomes_three_equal_ones() -> None:
    pixels = np.random.default_rng(0).random((4, 5, 3), dtype=np.float32)
    np.testing.assert_array_equal(to_channels(pixels, 3), pixels.transpose(2, 0, 1))
    np.testing.assert_array_equal(to_channels(pixels[..., 0], 3), np.stack([pixels[..., 0]] * 3))


def test_bytes_keep_their_scale_and_other_types_are_stretched() -> None:
    np.testing.assert_allclose(to_unit(np.array([[10, 200]], np.uint8), name="x"), [[10 / 255, 200 / 255]], rtol=1e-6)
    for dtype in (np.uint16, np.int16, np.int64, np.float32, np.float64):
        np.testing.assert_allclose(to_unit(np.array([[100, 150, 300]], dtype), name="x"), [[0, 0.25, 1]])
    wide = np.array([[-3e38, 0, 3e38]], np.float32)  # whose range is no float32
    np.testing.assert_allclose(to_unit(wide, name="x"), [[0, 0.5, 1]])


@pytest.mark.parametrize(
    ("pixels", "code"),
    [
        (np.zeros((3, 3), np.uint8), "empty"),
        (np.full((3, 3), 7.5), "empty"),
        (np.array([[0.0, np.nan]]), "non_finite"),
        (np.array([[0.0, np.inf]]), "non_finite"),
    ],
)
def test_pixels_that_show_nothing_or_are_none_are_findings(pixels: np.ndarray, code: str) -> None:
    with pytest.raises(ScanError, match=r"^anna: ") as caught:
        to_unit(pixels, name="anna")
    assert caught.value.finding.code == code


@pytest.mark.parametrize(
    ("shape", "size", "box"),
    [
        ((60, 80), (96, 96), (12, 84, 0, 96)),  # 72 x 96
        ((80, 60), (96, 96), (0, 96, 12, 84)),
        ((50, 50), (32, 64), (0, 32, 16, 48)),
        ((96, 96), (96, 96), (0, 96, 0, 96)),
        ((10, 2000), (40, 100), (19, 20, 0, 100)),  # half a pixel high becomes one
    ],
)
def test_the_whole_picture_lies_in_the_middle_with_its_aspect_kept(
    shape: tuple[int, int], size: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    framed = fit(np.full((1, *shape), 0.75, np.float32), size)[0]
    top, bottom, left, right = box
    expected = np.zeros(size, np.float32)
    expected[top:bottom, left:right] = 0.75
    np.testing.assert_allclose(framed, expected, atol=1e-6)


def test_pixels_twice_as_wide_as_high_make_the_picture_twice_as_wide() -> None:
    framed = fit(np.ones((1, 40, 40), np.float32), (96, 96), pixel_aspect=2.0)[0]
    assert framed.any(axis=1).sum() == 48
    assert framed.any(axis=0).sum() == 96


def test_making_small_averages_as_pillow_does() -> None:
    """Antialiased bilinear: a fine stripe pattern becomes even grey and not moiré."""
    pixels = np.random.default_rng(0).random((1, 300, 400), dtype=np.float32)
    ours = fit(pixels, (75, 100))[0]
    theirs = np.asarray(Pillow.fromarray(pixels[0]).resize((100, 75), Pillow.Resampling.BILINEAR))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 50), st.integers(1, 50))
def test_no_size_leaves_the_range_or_the_frame(height: int, width: int, high: int, wide: int) -> None:
    pixels = np.random.default_rng(height * width).random((1, height, width), dtype=np.float32)
    framed = fit(pixels, (high, wide))
    assert framed.shape == (1, high, wide)
    assert 0 <= framed.min() <= framed.max() <= 1
