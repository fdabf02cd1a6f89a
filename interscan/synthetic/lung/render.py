"""Draws one ultrasound clip of a lung zone: chest wall, sliding pleura, A-lines, B-lines, speckle, log compression.

Everything is a function of u, depth relative to the pleura (1 at the pleura): the chest wall ends at 1, reverberations
of the pleura lie at 2, 3, ..., B-lines run from 1 to the bottom. One table over u therefore follows a pleura that
moves, tilts or frays. Amplitudes are linear until the last step, which is logarithmic as in a machine.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from preprocess.types import FloatArray

FRAMES_PER_SECOND = 12.0

_U_STEPS = 96
"""Table entries per pleural depth: 0.2 mm at 20 mm, finer than a pixel of any size up to 256."""


@dataclass(frozen=True, slots=True)
class LungLook:
    """How things look, fixed before the first comparison of methods; a change is recorded in docs/log.md.

    Amplitudes are relative to the pleural line of a median zone (1.0).

    Attributes:
        wall: mean amplitude of muscle and fat; a tenth (20 dB) of the pleural line.
        pleura_sigma_mm: half thickness of the pleural line.
        a_line: amplitude of the first A-line without loss of aeration, and the ratio of each to the one above.
        a_fading: A-lines carry (1 - loss) to this power.
        haze: amplitude of the reverberation noise below the pleura, and its share added at full loss.
        haze_mm: depth over which it falls to 1/e.
        b_line: amplitude of a B-line, near the pleural line since it hardly fades.
        b_sigma: half width of a B-line as a share of the image width, at no and at full loss: lines become bands.
        b_spread: growth of that width from the pleura to the bottom, as a share.
        b_smoothness: how much less speckled a B-line is than tissue: one spot rings, many do not interfere.
        fray_from: loss above which the pleura is frayed and small subpleural consolidations appear; late signs.
        fray_mm: depth of the fraying at full loss.
        most_patches: subpleural consolidations at full loss.
        floor: electronic noise.
    """

    wall: float = 0.11
    pleura_sigma_mm: float = 0.8
    a_line: tuple[float, float] = (0.45, 0.62)
    a_fading: float = 1.5
    haze: tuple[float, float] = (0.03, 0.03)
    haze_mm: float = 32.0
    b_line: float = 0.42
    b_sigma: tuple[float, float] = (0.010, 0.035)
    b_spread: float = 0.4
    b_smoothness: float = 0.5
    fray_from: float = 0.7
    fray_mm: float = 3.0
    most_patches: int = 3
    floor: float = 0.0025


LOOK = LungLook()


@dataclass(frozen=True, slots=True)
class Probe:
    """One machine with its probe.

    Attributes:
        name: as the tables call it.
        frequency_mhz: higher means finer speckle and more fading with depth.
        footprint_mm: width of the contact.
        fan_degrees: opening of a convex probe; 0 for a linear one.
        range_db: dynamic range shown.
        fading_db_per_cm: what the machine's gain over depth leaves uncorrected.
    """

    name: str
    frequency_mhz: float
    footprint_mm: float
    fan_degrees: float
    range_db: float
    fading_db_per_cm: float


PROBES: tuple[Probe, Probe] = (
    Probe("cedar-convex", 4.0, 50.0, 58.0, 54.0, 0.3),
    Probe("rowan-linear", 8.0, 45.0, 0.0, 48.0, 0.7),
)
"""A convex abdominal probe and a linear one, the two in use at the bedside."""


@dataclass(frozen=True, slots=True)
class ChestWall:
    """One patient; nothing here knows about aeration.

    Attributes:
        pleura_mm: depth of the pleura.
        tilt_mm: how much deeper it is on the right edge than on the left one.
        layers_K: brightness of the layers of the wall, from the skin down.
        breaths_per_minute: rate.
        slide_mm: how far the lung slides to either side.
        phase: where in a breath the first clip starts, radians.
    """

    pleura_mm: float
    tilt_mm: float
    layers_K: tuple[float, ...]
    breaths_per_minute: float
    slide_mm: float
    phase: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "ChestWall":
        """Draw a patient: pleura at 14 to 28 mm, 14 to 26 breaths a minute, sliding 2 to 6 mm."""
        return cls(
            pleura_mm=float(rng.uniform(14, 28)),
            tilt_mm=float(rng.normal(0, 1.2)),
            layers_K=tuple(float(value) for value in rng.uniform(0.35, 1.9, 6)),
            breaths_per_minute=float(rng.uniform(14, 26)),
            slide_mm=float(rng.uniform(2, 6)),
            phase=float(rng.uniform(0, 2 * math.pi)),
        )


@dataclass(frozen=True, slots=True)
class Setting:
    """What the operator chose at a visit.

    Attributes:
        depth_mm: depth shown.
        gain_db: overall gain.
    """

    depth_mm: float
    gain_db: float


@dataclass(frozen=True, slots=True)
class _Fan:
    """Where the P pixels inside the fan look: flat pixel index, depth, and position across the beam (0..1)."""

    pixel_P: npt.NDArray[np.intp]
    depth_mm_P: FloatArray
    across_P: FloatArray
    width_mm: float


def draw_clip(
    probe: Probe,
    wall: ChestWall,
    setting: Setting,
    *,
    zone_loss: float,
    num_b_lines: int,
    rng: np.random.Generator,
    num_frames: int = 32,
    size_px: int = 96,
) -> npt.NDArray[np.uint8]:
    """Draw a clip.

    Args:
        probe: the machine.
        wall: the patient.
        setting: depth and gain.
        zone_loss: loss of aeration in this zone, 0..1.
        num_b_lines: B-lines to draw.
        rng: everything else: speckle, noise, where B-lines are, where in the breath it starts.
        num_frames: T, `FRAMES_PER_SECOND` apart.
        size_px: H and W.

    Returns:
        uint8 (T, H, W), 0 outside the fan.
    """
    fan = _fan(probe, setting.depth_mm, wall.pleura_mm, size_px)
    time_T = np.arange(num_frames) / FRAMES_PER_SECOND
    breath_T = np.sin(2 * np.pi * wall.breaths_per_minute / 60 * time_T + wall.phase + rng.uniform(0, 2 * np.pi))
    slide_T = wall.slide_mm * breath_T / fan.width_mm  # share of the width at the pleura
    num_beams = 4 * size_px
    beams_A = (np.arange(num_beams) + 0.5) / num_beams
    beam_P = np.minimum((fan.across_P * num_beams).astype(np.intp), num_beams - 1)

    lung_TA = beams_A - slide_T[:, None]  # the lung's own coordinate under each beam
    pleura_TA = wall.pleura_mm + wall.tilt_mm * (beams_A - 0.5) + 0.5 * breath_T[:, None]
    pleura_TA = pleura_TA + _fraying(lung_TA, zone_loss, rng)
    u_TP = np.take((_U_STEPS / pleura_TA).astype(np.float32), beam_P, axis=1)
    u_TP *= fan.depth_mm_P
    air_table, a_table, b_table = _tables(wall, zone_loss, float(setting.depth_mm / pleura_TA.min()) + 1, rng)
    u_index_TP = u_TP.astype(np.int32)

    b_TP = _b_lines(lung_TA, zone_loss, num_b_lines, fan, beam_P, rng)
    amplitude_TP = a_table[u_index_TP]
    amplitude_TP *= 1 - b_TP  # a B-line wipes out the A-lines it crosses
    b_TP *= b_table[u_index_TP]
    amplitude_TP += air_table[u_index_TP]
    speckle_TP = _speckle(probe, fan, beam_P, slide_T, u_TP > _U_STEPS, size_px, rng)
    amplitude_TP *= speckle_TP
    speckle_TP += np.float32(LOOK.b_smoothness)
    speckle_TP *= np.float32(1 / (1 + LOOK.b_smoothness))
    b_TP *= speckle_TP
    amplitude_TP += b_TP
    for patch_TP in _patches(lung_TA, beam_P, u_TP, wall, zone_loss, rng):
        amplitude_TP *= patch_TP
    amplitude_TP += np.float32(2 * LOOK.floor) * rng.random(amplitude_TP.shape, dtype=np.float32)

    fading_db_P = probe.fading_db_per_cm * (fan.depth_mm_P - 40) / 10
    np.log10(amplitude_TP, out=amplitude_TP)
    amplitude_TP *= np.float32(20)
    amplitude_TP += (probe.range_db + setting.gain_db - fading_db_P).astype(np.float32)
    amplitude_TP *= np.float32(255 / probe.range_db)
    np.clip(amplitude_TP, 0, 255, out=amplitude_TP)
    frames_TP = np.zeros((num_frames, size_px * size_px), np.uint8)
    frames_TP[:, fan.pixel_P] = np.rint(amplitude_TP).astype(np.uint8)
    return frames_TP.reshape(num_frames, size_px, size_px)


def _fan(probe: Probe, depth_mm: float, pleura_mm: float, size_px: int) -> _Fan:
    """The pixels a probe sees. A linear probe fills the picture; a convex one a sector of an annulus."""
    if not probe.fan_degrees:
        row, column = np.divmod(np.arange(size_px * size_px), size_px)
        depth = (row + 0.5) / size_px * depth_mm
        return _Fan(
            np.arange(size_px * size_px),
            depth.astype(np.float32),
            ((column + 0.5) / size_px).astype(np.float32),
            probe.footprint_mm,
        )
    half = math.radians(probe.fan_degrees / 2)
    radius = probe.footprint_mm / (2 * half)
    edge = max(2 * (radius + depth_mm) * math.sin(half), depth_mm + radius * (1 - math.cos(half))) / size_px
    row, column = np.divmod(np.arange(size_px * size_px), size_px)
    x = (column + 0.5 - size_px / 2) * edge
    y = (row + 0.5) * edge + radius * math.cos(half)
    depth, angle = np.hypot(x, y) - radius, np.arctan2(x, y)
    inside = np.flatnonzero((depth >= 0) & (depth < depth_mm) & (np.abs(angle) < half))
    return _Fan(
        inside,
        depth[inside].astype(np.float32),
        ((angle[inside] / half + 1) / 2).astype(np.float32),
        2 * half * (radius + pleura_mm),
    )


def _fraying(lung_TA: npt.NDArray[np.float64], zone_loss: float, rng: np.random.Generator) -> FloatArray:
    """How much deeper than a smooth line the pleura is, in mm (T, A); moves with the lung; 0 below `fray_from`."""
    waves = rng.uniform(4, 14, 5), rng.uniform(0, 2 * np.pi, 5)
    worst = max(0.0, zone_loss - LOOK.fray_from) / (1 - LOOK.fray_from)
    if worst == 0:
        return np.zeros(lung_TA.shape, np.float32)
    field = sum(np.sin(2 * np.pi * number * lung_TA + phase) for number, phase in zip(*waves, strict=True))
    frayed: FloatArray = (LOOK.fray_mm * worst * np.clip(field / 2.5, 0, 1)).astype(np.float32)
    return frayed


def _tables(
    wall: ChestWall, zone_loss: float, most_u: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Amplitudes over u: what is there without A- or B-lines, the A-lines, and how a B-line runs."""
    u_U = np.arange(int(most_u * _U_STEPS) + 2) / _U_STEPS
    below_mm_U = (u_U - 1) * wall.pleura_mm
    inside = u_U > 1
    layer_U = np.interp(u_U, np.linspace(0.05, 0.95, len(wall.layers_K)), wall.layers_K)
    sigma = LOOK.pleura_sigma_mm / wall.pleura_mm
    strength = float(rng.uniform(0.85, 1.15))

    line_U = np.exp(-(((u_U - 1) / sigma) ** 2) / 2) * strength
    haze = LOOK.haze[0] + LOOK.haze[1] * zone_loss
    air_U = np.where(inside, haze * np.exp(-np.maximum(below_mm_U, 0) / LOOK.haze_mm), LOOK.wall * layer_U) + line_U
    first, ratio = LOOK.a_line
    a_U = sum(
        first * ratio**k * np.exp(-(((u_U - 2 - k) / (sigma * (1 + 0.25 * k))) ** 2) / 2) for k in range(int(most_u))
    )
    a_U = a_U * (1 - zone_loss) ** LOOK.a_fading
    b_U = np.where(inside, LOOK.b_line * np.exp(-np.maximum(below_mm_U, 0) / 250), 0)
    return air_U.astype(np.float32), np.asarray(a_U, np.float32), b_U.astype(np.float32)


def _b_lines(
    lung_TA: npt.NDArray[np.float64],
    zone_loss: float,
    num_b_lines: int,
    fan: _Fan,
    beam_P: npt.NDArray[np.intp],
    rng: np.random.Generator,
) -> FloatArray:
    """Strength of B-lines (T, P), 0..1: even but irregular positions on the lung, moving with it, slightly widening."""
    clear_TP = np.ones((len(lung_TA), len(beam_P)), np.float32)
    if num_b_lines == 0:
        return 1 - clear_TP
    positions = (np.arange(num_b_lines) + rng.uniform(0.15, 0.85, num_b_lines)) / num_b_lines
    positions = (positions + rng.random()) % 1 if num_b_lines < 3 else positions
    narrow, wide = LOOK.b_sigma
    sigmas = (narrow + (wide - narrow) * zone_loss) * rng.uniform(0.8, 1.25, num_b_lines)
    # Widening with depth: a mixture of the line at the pleura and of the wider one at the bottom, by depth.
    clear_TA = np.ones(lung_TA.shape)
    spread_TA = np.ones(lung_TA.shape)
    for position, sigma in zip(positions, sigmas, strict=True):
        away_TA = ((lung_TA - position) / sigma) ** 2 / 2
        clear_TA *= 1 - np.exp(-away_TA)
        spread_TA *= 1 - np.exp(-away_TA / (1 + LOOK.b_spread) ** 2)
    deep_P = np.clip(fan.depth_mm_P / fan.depth_mm_P.max(), 0, 1)
    strength_TP: FloatArray = np.take((1 - spread_TA).astype(np.float32), beam_P, axis=1)
    near_TP = np.take((1 - clear_TA).astype(np.float32), beam_P, axis=1)
    strength_TP -= near_TP
    strength_TP *= deep_P
    strength_TP += near_TP
    return strength_TP


def _speckle(
    probe: Probe,
    fan: _Fan,
    beam_P: npt.NDArray[np.intp],
    slide_T: npt.NDArray[np.float64],
    is_lung_TP: npt.NDArray[np.bool_],
    size_px: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Multiplicative speckle (T, P) of mean 1: Rayleigh, still in the wall, sliding below the pleura."""
    pad = size_px // 2
    rows, columns = size_px, size_px + 2 * pad
    # Half a millimetre along and about a millimetre across the beam at 4 MHz: a wavelength and a beam width.
    scale = size_px / 96 * 4 / probe.frequency_mhz
    real, imaginary = gaussian_filter(
        rng.standard_normal((2, rows, columns), np.float32), (0, 0.55 * scale, 1.3 * scale)
    )
    envelope = np.hypot(real, imaginary)
    envelope /= envelope.mean()
    flat = envelope.ravel()
    row_P = np.minimum((fan.depth_mm_P / fan.depth_mm_P.max() * rows).astype(np.int32), rows - 1)
    across_P = beam_P.astype(np.int32) // 4
    still_P = flat[row_P * columns + across_P]
    shift_T = np.clip(np.rint(-slide_T * size_px), -pad, pad).astype(np.int32)
    moving_TP = flat[(row_P * columns + across_P + pad)[None] + shift_T[:, None]]
    speckle: FloatArray = np.where(is_lung_TP, moving_TP, still_P)
    return speckle


def _patches(
    lung_TA: npt.NDArray[np.float64],
    beam_P: npt.NDArray[np.intp],
    u_TP: FloatArray,
    wall: ChestWall,
    zone_loss: float,
    rng: np.random.Generator,
) -> list[FloatArray]:
    """Dark subpleural consolidations as factors (T, P); none below `fray_from`."""
    worst = max(0.0, zone_loss - LOOK.fray_from) / (1 - LOOK.fray_from)
    patches = []
    for _ in range(round(LOOK.most_patches * worst)):
        position, wide, deep_mm = rng.uniform(0.15, 0.85), rng.uniform(0.03, 0.06), rng.uniform(2.5, 5.0)
        across_TP = np.take((((lung_TA - position) / wide) ** 2).astype(np.float32), beam_P, axis=1)
        down_TP = (u_TP * np.float32(1 / _U_STEPS) - np.float32(1 + deep_mm / wall.pleura_mm)) * np.float32(
            wall.pleura_mm / deep_mm
        )
        patches.append(1 - np.float32(0.85) * np.exp(-(across_TP + down_TP * down_TP)))
    return patches
