"""What the plans of the cohorts share: random streams, even shares, ranges of arguments, and trajectories."""

import zlib
from typing import Literal

import numpy as np

from preprocess.errors import UsageError

Trajectory = Literal["declining", "stable", "improving"]
TRAJECTORIES: tuple[Trajectory, ...] = ("declining", "stable", "improving")

EVEN_STEPS = (0.7548776662466927, 0.5698402909980532)
"""1/p and 1/p^2 with p^3 = p + 1: multiples of both modulo 1 fill the square evenly (Roberts 2018)."""


def stream(seed: int, *key: str | int) -> np.random.Generator:
    """A random stream of its own for each purpose and subject, so that more subjects never change earlier ones.

    Args:
        seed: the cohort's seed, from 0.
        key: words and whole numbers from 0 that name the purpose, the subject and what else tells draws apart.
    """
    return np.random.default_rng([seed, *(zlib.crc32(k.encode()) if isinstance(k, str) else k for k in key)])


def even_share(seed: int, purpose: str, number: int, axis: int = 0) -> float:
    """A uniform number in [0, 1) per subject, spread evenly over the subjects of any cohort size.

    Args:
        seed: the cohort's seed.
        purpose: picks the starting point.
        number: the subject's number, from 0.
        axis: 0 or 1; two purposes with different axes are even together too.

    Returns:
        (start + number * step) modulo 1: shares of a cohort come within a few subjects of their target.
    """
    return float((stream(seed, purpose).random() + number * EVEN_STEPS[axis]) % 1)


def check_range(name: str, value: float, low: float, high: float | None = None) -> None:
    """Refuse a number outside its range.

    Raises:
        UsageError: with the name, the value and the limits.
    """
    if not value >= low:
        raise UsageError(f"{name} is {value}, below {low}; give {low} or more")
    if high is not None and value > high:
        raise UsageError(f"{name} is {value}, above {high}; give {high} or less")
