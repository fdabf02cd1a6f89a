"""Smooth random fields over space: folds of a cortex, the bend of a head, the bias of a coil."""

from dataclasses import dataclass

import numpy as np

from preprocess.types import FloatArray


@dataclass(frozen=True, slots=True)
class Waves:
    """A smooth random field: a sum of plane waves, variance 1.

    Attributes:
        wavevectors_W3: radians per mm.
        phases_W: radians.
    """

    wavevectors_W3: FloatArray
    phases_W: FloatArray

    def at(self, points_3P: FloatArray) -> FloatArray:
        """The field at points (3, P) as (P,)."""
        phase_WP = self.wavevectors_W3 @ points_3P
        phase_WP += self.phases_W[:, None]
        np.cos(phase_WP, out=phase_WP)
        total: FloatArray = phase_WP.sum(axis=0) * np.float32(np.sqrt(2 / len(self.phases_W)))
        return total


def draw_waves(rng: np.random.Generator, num_waves: int, shortest_mm: float, longest_mm: float) -> Waves:
    """Random directions and phases with wavelengths between two bounds."""
    directions = rng.normal(size=(num_waves, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = rng.uniform(shortest_mm, longest_mm, (num_waves, 1))
    phases = rng.uniform(0, 2 * np.pi, num_waves)
    return Waves((directions * 2 * np.pi / lengths).astype(np.float32), phases.astype(np.float32))
