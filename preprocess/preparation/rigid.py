"""Rigid motions as 4 x 4 matrices on millimetres: parts of one, the mean of several, and how far one carries a head.

A part of a motion is taken along its screw: `exp(share log(motion))`, so that two halves make the whole, whatever the
angle (Reuter et al. 2012, section 2.2, use the same for the way to the middle of two scans).
"""

from collections.abc import Sequence

import numpy as np
from scipy.linalg import expm, logm
from scipy.spatial.transform import Rotation

from preprocess.foreground import Millimetres
from preprocess.types import Affine

HEAD_RADIUS_MM = 80.0
"""About the distance from the middle of the skull's vault to its side."""


def motion(rotation_33: Affine, shift_mm: Millimetres) -> Affine:
    """`x -> rotation x + shift` as a 4 x 4 matrix."""
    matrix = np.eye(4)
    matrix[:3, :3] = rotation_33
    matrix[:3, 3] = shift_mm
    return matrix


def inverse(rigid: Affine) -> Affine:
    """The motion back."""
    turned_back = rigid[:3, :3].T
    return motion(turned_back, -turned_back @ rigid[:3, 3])


def part_of(rigid: Affine, share: float) -> Affine:
    """The motion that makes `rigid` when it is done `1 / share` times.

    Args:
        rigid: turns by less than 180 degrees.
        share: 0 is none of it, 1 is all.
    """
    partly: Affine = np.real(expm(share * np.real(logm(rigid))))
    return motion(Rotation.from_matrix(partly[:3, :3]).as_matrix(), partly[:3, 3])


def centred(motions: Sequence[Affine]) -> list[Affine]:
    """The same motions, one common motion later, so that the mean of their rotations and shifts is none.

    The mean rotation is the one nearest to all by the chordal distance (Moakher 2002).
    """
    mean_33 = Rotation.from_matrix(np.stack([one[:3, :3] for one in motions])).mean().as_matrix()
    turned = [motion(mean_33.T @ one[:3, :3], mean_33.T @ one[:3, 3]) for one in motions]
    mean_mm = np.mean([one[:3, 3] for one in turned], axis=0)
    return [motion(one[:3, :3], one[:3, 3] - mean_mm) for one in turned]


def turn_deg(rigid: Affine) -> float:
    """Angle of its rotation, 0 to 180 degrees."""
    return float(np.degrees(Rotation.from_matrix(rigid[:3, :3]).magnitude()))


def farthest_mm(rigid: Affine, radius_mm: float = HEAD_RADIUS_MM) -> float:
    """How far, at most, it carries a point within `radius_mm` of the origin (an upper bound, met within 30 %)."""
    turned = 2 * np.sin(np.radians(turn_deg(rigid)) / 2) * radius_mm
    return float(turned + np.linalg.norm(rigid[:3, 3]))
