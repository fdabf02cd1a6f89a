"""A line through the visits of one person: change a year, its interval, and how steep a line noise alone gives; pure.

Visit i at x_i years has the told score y_i, of which only differences mean anything. With the mean x of the x_i and
S = sum (x_i - x)^2, over the visits that count,

    slope = sum (x_i - x) y_i / S              ordinary least squares; no visit is special
    error = max(error_sd / sqrt 2, scatter)    of one visit; scatter^2 = sum of squared residuals / (n - 2), for n >= 3
    slope +- 1.96 error / sqrt S               95 % interval
    floor = percentile_95 / sqrt(2 S)          of the slope through scans of a person who does not change

`error_sd` is the artefact's error of a told change, to which both scans contribute alike. Taking the scatter where it
is larger is Birge's ratio (Phys. Rev. 40, 207, 1932), as the Particle Data Group widens its averages. `percentile_95`
is the change that repeats exceed once in twenty. Two visits give the pair's change, interval and floor over the gap.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.decision import SDS_OF_95
from app.trajectory_schemas import MAX_AGE, MAX_DAY, MAX_VISITS, MIN_VISITS, count_mismatch
from preprocess.errors import UsageError

Floats = npt.NDArray[np.float64]
DAYS_A_YEAR = 365.25
MIN_SPAN_DAYS = 1.0
"""Scans that lie closer together are repeats."""


@dataclass(frozen=True)
class Line:
    """A fitted line.

    Attributes:
        weights_V: the fitted change over the span is their product with what the visits show; their sum is 0.
        slope: points a year.
        intercept: points on the line at day 0.
        visit_sd: error of one visit by the artefact, points.
        scatter: error of one visit by the residuals, points; None for two visits.
        span_years: from the first to the last visit.
        spread: S, squared years.
    """

    weights_V: Floats
    slope: float
    intercept: float
    visit_sd: float
    scatter: float | None
    span_years: float
    spread: float

    @property
    def margin(self) -> float:
        """Half the width of the slope's 95 % interval, points a year."""
        return SDS_OF_95 * max(self.visit_sd, self.scatter or 0.0) / math.sqrt(self.spread)

    def floor(self, percentile_95: float) -> float:
        """The slope that noise alone exceeds once in twenty, points a year.

        Args:
            percentile_95: the change that two scans without a change exceed once in twenty, points.
        """
        return percentile_95 / math.sqrt(2 * self.spread)

    def at(self, day: float) -> float:
        """Points on the line on a day."""
        return self.intercept + self.slope * day / DAYS_A_YEAR


def fit_line(days_V: npt.ArrayLike, told_V: npt.ArrayLike, *, error_sd: float) -> Line | None:
    """Fit a line to all visits; None where they span less than a day.

        line = fit_line([0, 365, 730], [0.0, -1.1, -1.9], error_sd=1.6)
        line.slope - line.margin, line.slope + line.margin

    Args:
        days_V: (V,) day of each visit, in any order.
        told_V: (V,) what it shows, in points relative to any scan.
        error_sd: root mean square error of a told change between two scans, points.

    Raises:
        ValueError: unequal lengths, or fewer than two visits.
    """
    day_V, told = np.asarray(days_V, dtype=np.float64), np.asarray(told_V, dtype=np.float64)
    if day_V.ndim != 1 or day_V.shape != told.shape or len(day_V) < MIN_VISITS:
        raise ValueError(f"days {day_V.shape} and told scores {told.shape} must be equal vectors of two or more")
    span_days = float(np.ptp(day_V))
    if span_days < MIN_SPAN_DAYS:
        return None
    centred_V = (day_V - day_V.mean()) / DAYS_A_YEAR
    spread = float(centred_V @ centred_V)
    slope = float(centred_V @ told) / spread
    residual_V = told - told.mean() - slope * centred_V
    spare = len(day_V) - 2
    span_years = span_days / DAYS_A_YEAR
    return Line(
        weights_V=centred_V * (span_years / spread),
        slope=slope,
        intercept=float(told.mean()) - slope * float(day_V.mean()) / DAYS_A_YEAR,
        visit_sd=error_sd / math.sqrt(2),
        scatter=math.sqrt(float(residual_V @ residual_V) / spare) if spare else None,
        span_years=span_years,
        spread=spread,
    )


def require_visits(num_scans: int, days: Sequence[float], age: float | None) -> None:
    """Refuse visits that make no trajectory.

    Args:
        num_scans: how many scans there are.
        days: the day of each.
        age: years at the first visit, where known.

    Raises:
        UsageError: fewer than 2 or more than 16 scans, another number of days, a day that is no number or a date, or
            an age that nobody has.
    """
    if not MIN_VISITS <= num_scans <= MAX_VISITS:
        scans = "1 scan" if num_scans == 1 else f"{num_scans} scans"
        raise UsageError(f"{scans}; a trajectory takes {MIN_VISITS} to {MAX_VISITS}, one a visit")
    if len(days) != num_scans:
        raise UsageError(count_mismatch(num_scans, len(days)))
    for day in days:
        if not abs(day) <= MAX_DAY:
            raise UsageError(
                f"day {day:.10g} is not between -{MAX_DAY} and {MAX_DAY}; give days since any one day, for example 0 "
                "and 365, and no dates"
            )
    if age is not None and not 0 <= age <= MAX_AGE:
        raise UsageError(f"age {age:g} is not between 0 and {MAX_AGE}; give years at the first visit, or leave it out")


def ordinal(number: int) -> str:
    """A position in words, from 1: `1st`, `2nd`, `3rd`, `11th`."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
