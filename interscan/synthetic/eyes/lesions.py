"""Decides which lesions an eye of a given severity has, and where: geometry only, no pixels.

Grades follow the International Clinical Diabetic Retinopathy scale (Wilkinson et al. 2003): 1 microaneurysms only, 2
more than those, 3 many haemorrhages, 4 new vessels. Coordinates are those of `render`.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
PerGrade = tuple[tuple[float, float], ...]
"""Expected numbers at the mildest and at the worst severity of the grades 0 to 4."""

DISC = (0.68, 0.07)
"""The optic disc lies 15.5 degrees nasal of the fovea and 1.5 above it, in units of 22.5 degrees."""

STEP = 0.035
"""Length of a line's piece: 1.7 pixels at 96 px."""


@dataclass(frozen=True, slots=True)
class LesionDesign:
    """Numbers and sizes, fixed before the first comparison of methods; a change is recorded in docs/log.md.

    Radii and widths are larger than in the eye (a microaneurysm measures 0.1 mm, 0.015 of the unit across): a dot must
    cover most of a pixel at 96 px to be seen at all.

    Attributes:
        dots: microaneurysms.
        blots: haemorrhages.
        clusters: clusters of hard exudates.
        tufts: tufts of new vessels.
        spread: standard deviation of the logarithm of an eye's own factor for each kind of lesion: two eyes of one
            severity differ, and no count gives it exactly.
        dot_radius: range.
        blot_radius: lowest, highest in grade 2, and what is added at severity 5.
        specks: range of the number of specks in a cluster of exudates.
        speck_radius: range.
        tuft_lines: range of the number of lines of a tuft.
        tuft_reach: length of its lines at severity 4 and 5.
        line_width: width of a new vessel.
        disc_share: chance that a tuft lies on the disc rather than elsewhere.
    """

    dots: PerGrade = ((0, 0), (4, 9), (9, 16), (16, 22), (18, 24))
    blots: PerGrade = ((0, 0), (0, 0), (2, 9), (14, 26), (18, 30))
    clusters: PerGrade = ((0, 0), (0, 0), (1, 3), (3, 5), (3, 5))
    tufts: PerGrade = ((0, 0), (0, 0), (0, 0), (0, 0), (1.4, 3.6))
    spread: float = 0.25
    dot_radius: tuple[float, float] = (0.013, 0.018)
    blot_radius: tuple[float, float, float] = (0.02, 0.04, 0.02)
    specks: tuple[int, int] = (4, 10)
    speck_radius: tuple[float, float] = (0.012, 0.026)
    tuft_lines: tuple[int, int] = (9, 14)
    tuft_reach: tuple[float, float] = (0.22, 0.4)
    line_width: float = 0.018
    disc_share: float = 0.4


DESIGN = LesionDesign()


@dataclass(frozen=True, slots=True)
class Line:
    """A line of P points, (P, 2), and its width at each, (P,)."""

    points_N2: Array
    widths_N: Array


@dataclass(frozen=True, slots=True)
class Lesions:
    """What is wrong with an eye. Discs are rows of x, y and radius.

    Attributes:
        dots_N3: microaneurysms.
        blots_N3: haemorrhages; each is several overlapping discs.
        exudates_N3: hard exudates.
        new_vessels: lines of new vessels.
        num_blots: haemorrhages.
        num_tufts: tufts of new vessels.
    """

    dots_N3: Array
    blots_N3: Array
    exudates_N3: Array
    new_vessels: tuple[Line, ...]
    num_blots: int
    num_tufts: int

    @property
    def area(self) -> float:
        """Sum of the areas as a share of the round field; what overlaps counts twice."""
        spots = sum(float((spots_N3[:, 2] ** 2).sum()) for spots_N3 in (self.dots_N3, self.blots_N3, self.exudates_N3))
        lines = sum(float(line.widths_N[1:].sum()) for line in self.new_vessels)
        return spots + STEP * lines / math.pi


def draw_lesions(severity: float, rng: np.random.Generator) -> Lesions:
    """Draw the lesions of an eye.

    Args:
        severity: 0 for a normal eye; else 1 to below 5, whose whole part is the grade.
        rng: numbers, positions and sizes.

    Returns:
        At least one lesion of every kind whose expected number is not 0.
    """
    factors = np.exp(rng.normal(0, DESIGN.spread, 4))
    kinds = (DESIGN.dots, DESIGN.blots, DESIGN.clusters, DESIGN.tufts)
    expected = [_expected(kind, severity) for kind in kinds]
    num_dots, num_blots, num_clusters, num_tufts = (
        max(1, round(number * factor)) if number else 0 for number, factor in zip(expected, factors, strict=True)
    )
    dots = [(*_position(rng), rng.uniform(*DESIGN.dot_radius)) for _ in range(num_dots)]
    low, high, more = DESIGN.blot_radius
    high += more * max(0.0, severity - 2) / 3
    blots = [disc for _ in range(num_blots) for disc in _blot(_position(rng), rng.uniform(low, high), rng)]
    exudates = [disc for _ in range(num_clusters) for disc in _cluster(rng)]
    lines = [line for _ in range(num_tufts) for line in _tuft(severity, rng)]
    return Lesions(_discs(dots), _discs(blots), _discs(exudates), tuple(lines), num_blots, num_tufts)


def walk(
    start: tuple[float, float], heading: float, length: float, *, bend: float, wobble: float, rng: np.random.Generator
) -> tuple[Array, Array]:
    """A line that turns steadily and a little at random.

    Args:
        start: first point.
        heading: first direction in radians, counterclockwise from the nose.
        length: the line's length.
        bend: turn in radians per unit of length.
        wobble: standard deviation of the random turn of a step, in radians.
        rng: random turns.

    Returns:
        Points (P, 2), `STEP` apart, and headings (P,).
    """
    count = max(2, round(length / STEP))
    headings_N = heading + np.cumsum(bend * STEP + rng.normal(0, wobble, count))
    steps_N2 = STEP * np.column_stack([np.cos(headings_N), np.sin(headings_N)])
    points_N2 = np.concatenate([[start], np.asarray(start) + np.cumsum(steps_N2[1:], axis=0)])
    return points_N2, headings_N


def _expected(kind: PerGrade, severity: float) -> float:
    low, high = kind[int(severity)]
    return low + (high - low) * (severity - int(severity))


def _position(rng: np.random.Generator) -> tuple[float, float]:
    """Anywhere in the field but on the disc and the fovea."""
    while True:
        radius, angle = 0.78 * math.sqrt(rng.random()), rng.uniform(0, 2 * math.pi)
        x, y = 0.14 + radius * math.cos(angle), radius * math.sin(angle)
        if math.hypot(x - DISC[0], y - DISC[1]) > 0.2 and math.hypot(x, y) > 0.07:
            return x, y


def _blot(centre: tuple[float, float], radius: float, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Three overlapping discs with the area of one of the given radius, about: an irregular blot."""
    around = rng.normal(0, 0.45 * radius, (3, 2))
    return [(centre[0] + x, centre[1] + y, 0.7 * radius * rng.uniform(0.8, 1.1)) for x, y in around]


def _cluster(rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Specks along a piece of a ring around the fovea, where exudates gather."""
    ring, middle = rng.uniform(0.2, 0.5), rng.uniform(0.25 * math.pi, 1.75 * math.pi)
    count = int(rng.integers(*DESIGN.specks, endpoint=True))
    radii, angles = ring + rng.normal(0, 0.035, count), middle + rng.normal(0, 0.07 / ring, count)
    sizes = rng.uniform(*DESIGN.speck_radius, count)
    return [(r * math.cos(a), r * math.sin(a), size) for r, a, size in zip(radii, angles, sizes, strict=True)]


def _tuft(severity: float, rng: np.random.Generator) -> list[Line]:
    """A tangle of thin vessels that start together, on the disc or elsewhere."""
    at = DISC if rng.random() < DESIGN.disc_share else _position(rng)
    first, last = DESIGN.tuft_reach
    reach = first + (last - first) * (severity - 4)
    lines = []
    for _ in range(int(rng.integers(*DESIGN.tuft_lines, endpoint=True))):
        start = (at[0] + rng.normal(0, 0.03), at[1] + rng.normal(0, 0.03))
        bend = rng.choice((-1.0, 1.0)) * rng.uniform(4, 12)
        points_N2, _ = walk(start, rng.uniform(0, 2 * math.pi), reach, bend=bend, wobble=0.35, rng=rng)
        lines.append(Line(points_N2, np.full(len(points_N2), DESIGN.line_width)))
    return lines


def _discs(rows: list[tuple[float, float, float]]) -> Array:
    return np.array(rows, dtype=np.float64).reshape(-1, 3)
