"""The map's slices go through the largest density, and its title says what was told."""

import io

import numpy as np
from PIL import Image

from trainer.report.map_plot import map_plot


def colours(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3).astype(int)


def drawn(sign: float) -> bytes:
    scan = np.full((20, 24, 16), 0.5)
    density = np.zeros_like(scan)
    density[6:9, 10:14, 8:11] = sign * 0.4
    return map_plot(scan, density, told=sign * 5.2, true=sign * 4.0, score="mmse")


def count(png: bytes, colour: tuple[int, int, int]) -> int:
    """Pixels near a colour; the bar beside the slices has both ends in any plot."""
    return int((np.abs(colours(png) - colour).max(axis=1) < 40).sum())


def test_decline_is_orange_and_improvement_blue() -> None:
    worse, better = drawn(-1.0), drawn(1.0)

    assert count(worse, (0xD5, 0x5E, 0x00)) > 2 * count(better, (0xD5, 0x5E, 0x00))
    assert count(better, (0x00, 0x72, 0xB2)) > 2 * count(worse, (0x00, 0x72, 0xB2))


def test_the_title_says_what_was_told_and_what_is_true() -> None:
    assert Image.open(io.BytesIO(drawn(-1.0))).text["Description"] == "Told -5.2 points of mmse, in truth -4.0"


def test_a_map_of_no_change_is_drawn_too() -> None:
    plain = map_plot(np.full((8, 8, 8), 0.5), np.zeros((8, 8, 8)), told=0.0, true=0.0, score="mmse")

    assert plain.startswith(b"\x89PNG")
