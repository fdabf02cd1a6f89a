"""Where a head lies in the scanner: a rotation and a shift, drawn anew for each scan."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Pose:
    """Where the head lies in the scanner: `scanner = rotation @ head + shift`.

    Attributes:
        rotation: (3, 3) rotation matrix.
        shift_mm: (3,) translation.
    """

    rotation: npt.NDArray[np.float64]
    shift_mm: npt.NDArray[np.float64]


STRAIGHT = Pose(rotation=np.eye(3), shift_mm=np.zeros(3))
"""A head that lies exactly along the scanner's axes."""


def draw_pose(rng: np.random.Generator) -> Pose:
    """A head put down again: rotations of 2.5 degrees and shifts of 2.5 mm (one sd, at most two) about each axis."""
    nod, tilt, turn = np.deg2rad(2.5 * np.clip(rng.normal(size=3), -2, 2))
    shift_mm = 2.5 * np.clip(rng.normal(size=3), -2, 2)
    about_x = np.array([[1, 0, 0], [0, np.cos(nod), -np.sin(nod)], [0, np.sin(nod), np.cos(nod)]])
    about_y = np.array([[np.cos(tilt), 0, np.sin(tilt)], [0, 1, 0], [-np.sin(tilt), 0, np.cos(tilt)]])
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    return Pose(rotation=about_z @ about_y @ about_x, shift_mm=shift_mm)
