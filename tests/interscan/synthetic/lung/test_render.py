"""The clips show what they claim: lines where geometry puts them, sliding lung, still wall, one probe a fan."""

import dataclasses
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage, signal

from interscan.synthetic.lung.render import FRAMES_PER_SECOND, PROBES, ChestWall, Setting, draw_clip

CONVEX, LINEAR = PROBES
FLAT = ChestWall(pleura_mm=20, tilt_mm=0, layers_K=(1, 1, 1, 1, 1, 1), breaths_per_minute=20, slide_mm=4.5, phase=0.0)
DEPTH_MM = 96.0  # one pixel a millimetre at 96 px


def _clip(probe=LINEAR, wall=FLAT, *, loss=0.0, lines=0, seed=0, frames=16, size=96, gain=0.0) -> npt.NDArray[np.uint8]:
    return draw_clip(
        probe,
        wall,
        Setting(DEPTH_MM, gain),
        zone_loss=loss,
        num_b_lines=lines,
        rng=np.random.default_rng(seed),
        num_frames=frames,
        size_px=size,
    )


@pytest.mark.parametrize(("frames", "size"), [(2, 32), (8, 96), (5, 128)])
@pytest.mark.parametrize("probe", PROBES)
def test_clips_are_uint8_of_the_asked_shape_and_repeat_bit_by_bit(probe, frames: int, size: int) -> None:
    clip = _clip(probe, loss=0.8, lines=4, frames=frames, size=size)
    assert (clip.dtype, clip.shape) == (np.uint8, (frames, size, size))
    assert np.array_equal(clip, _clip(probe, loss=0.8, lines=4, frames=frames, size=size))
    assert not np.array_equal(clip, _clip(probe, loss=0.8, lines=4, frames=frames, size=size, seed=1))


@pytest.mark.parametrize("pleura_mm", [15.0, 20.0, 28.0])
def test_a_lines_lie_at_whole_multiples_of_the_pleural_depth(pleura_mm: float) -> None:
    wall = dataclasses.replace(FLAT, pleura_mm=pleura_mm)
    profile_H = np.median(_clip(wall=wall, size=192).astype(float), axis=(0, 2))
    peaks, _ = signal.find_peaks(profile_H, prominence=25)
    expected = np.arange(pleura_mm, DEPTH_MM - 1, pleura_mm)
    found_mm = (peaks[peaks > 0.8 * pleura_mm * 2] + 0.5) / 2
    assert len(found_mm) == len(expected)
    # Breathing moves the pleura by up to 0.5 mm, its k-th multiple by k times that; a pixel is 0.5 mm.
    assert np.all(np.abs(found_mm - expected) <= 0.5 * np.arange(1, len(expected) + 1) + 0.5)


def test_a_lines_fade_as_aeration_falls() -> None:
    contrasts = []
    for loss in (0.0, 0.3, 0.6, 0.9):
        profile_H = np.mean([_clip(loss=loss, seed=seed).mean(axis=(0, 2)) for seed in range(4)], axis=0)
        contrasts.append(profile_H[39:41].mean() - np.r_[profile_H[31:36], profile_H[45:50]].mean())
    assert all(later < earlier - 5 for earlier, later in pairwise(contrasts))


@pytest.mark.parametrize("lines", [0, 1, 2, 3])
def test_as_many_b_lines_are_seen_as_were_asked_for(lines: int) -> None:
    right = 0
    for seed in range(12):
        clip = _clip(loss=0.2, lines=lines, seed=seed, wall=dataclasses.replace(FLAT, slide_mm=0))
        # Between A-lines, from 45 to 95 mm; a B-line is 10 dB or more above the haze, 50 grey values of 48 dB.
        rows = [row for row in range(45, 95) if min(abs(row + 0.5 - at) for at in (40, 60, 80)) > 4]
        profile_W = ndimage.gaussian_filter1d(clip[:, rows].mean(axis=(0, 1)), 1, mode="nearest")
        padded = np.r_[profile_W.min(), profile_W, profile_W.min()]
        right += len(signal.find_peaks(padded, prominence=25, distance=4)[0]) == lines
    assert right >= 10  # two of them may touch, or one stand at the very edge


def test_b_lines_reach_the_bottom_and_wipe_out_a_lines() -> None:
    clip = _clip(loss=0.2, lines=1, wall=dataclasses.replace(FLAT, slide_mm=0))[:, 24:].astype(float)
    middle = int(np.argmax(clip[:, 60:].mean(axis=(0, 1))))
    on, off = clip[:, :, middle], np.delete(clip, np.s_[max(middle - 8, 0) : middle + 9], axis=2)
    assert on[:, -10:].mean() > off[:, -10:].mean() + 40
    assert on[:, :10].mean() - on[:, -10:].mean() < 35  # it hardly fades
    a_line, gap = slice(15, 17), slice(5, 11)  # 40 mm is row 16 of the part below 24 mm
    assert on[:, a_line].mean() - on[:, gap].mean() < 0.5 * (off[:, a_line].mean() - off[:, gap].mean())


def test_b_lines_and_lung_slide_with_breathing_while_the_wall_stays() -> None:
    clip = _clip(loss=0.2, lines=1, frames=36, seed=4)  # three seconds: one breath at 20 a minute
    below = clip[:, 45:].mean(axis=1)
    centre_T = np.argmax(ndimage.gaussian_filter1d(below, 2, axis=1), axis=1)
    # 4.5 mm to either side on a footprint of 45 mm: a tenth of 96 pixels.
    assert np.ptp(centre_T) == pytest.approx(2 * 9.6, abs=2.5)
    period = FRAMES_PER_SECOND * 60 / FLAT.breaths_per_minute
    fit = np.linalg.lstsq(
        np.c_[np.sin(2 * np.pi * np.arange(36) / period), np.cos(2 * np.pi * np.arange(36) / period), np.ones(36)],
        centre_T.astype(float),
        rcond=None,
    )
    assert fit[1][0] / np.sum((centre_T - centre_T.mean()) ** 2) < 0.05
    wall = clip[:, 3:15].reshape(36, -1).astype(float)
    assert np.corrcoef(wall[0], wall[9])[0, 1] > 0.8


def test_the_lung_grows_brighter_and_the_wall_does_not() -> None:
    lung, wall = [], []
    for loss in (0.0, 0.25, 0.5, 0.75, 1.0):
        clips = [_clip(loss=loss, lines=round(6 * loss), seed=seed).astype(float) for seed in range(6)]
        lung.append(np.mean([clip[:, 26:].mean() for clip in clips]))
        wall.append(np.mean([clip[:, :16].mean() for clip in clips]))
    assert all(later > earlier + 5 for earlier, later in pairwise(lung))
    assert np.ptp(wall) < 3


def test_the_pleura_is_a_straight_line_until_late_and_frayed_at_the_worst() -> None:
    def roughness(loss: float) -> float:
        frames = [_clip(loss=loss, seed=seed)[0, 14:27] for seed in range(8)]
        return float(np.mean([np.std(np.argmax(frame, axis=0)) for frame in frames]))

    early = [roughness(loss) for loss in (0.0, 0.4, 0.7)]
    assert max(early) < 0.8  # less than a pixel
    assert roughness(1.0) > 2 * max(early)


def test_a_convex_probe_shows_a_fan_and_a_linear_one_all_of_the_picture() -> None:
    convex, linear = _clip(CONVEX, loss=0.5, lines=3), _clip(LINEAR, loss=0.5, lines=3)
    dark = (convex == 0).all(axis=0)
    assert dark[:40, :10].all()
    assert dark[:40, -10:].all()
    assert 0.4 < 1 - dark.mean() < 0.75
    assert (linear > 0).mean() > 0.97


def test_gain_lifts_every_grey_value_by_its_decibels() -> None:
    plain, louder = _clip(gain=0.0).astype(float), _clip(gain=3.0).astype(float)
    inside = (plain > 5) & (louder < 250)
    np.testing.assert_allclose((louder - plain)[inside], 3 * 255 / LINEAR.range_db, atol=1.01)
