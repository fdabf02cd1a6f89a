"""Heads given by a formula in millimetres, so that one that was turned is exact: nothing is interpolated to make it."""

from collections.abc import Sequence

import nibabel as nib
import numpy as np
from scipy.spatial.transform import Rotation

from tests.support.heads import nifti

SKULL_MM, BRAIN_MM = (80.0, 105.0, 91.0), (70.0, 93.0, 79.0)


def pose(rotation_deg: Sequence[float] = (0, 0, 0), shift_mm: Sequence[float] = (0, 0, 0)) -> np.ndarray:
    """Head coordinates to scanner coordinates, 4 x 4."""
    moved = np.eye(4)
    moved[:3, :3] = Rotation.from_euler("xyz", rotation_deg, degrees=True).as_matrix()
    moved[:3, 3] = shift_mm
    return moved


def grey_at(points_N3: np.ndarray, *, person: int = 0) -> np.ndarray:
    """Grey values of a person's head at points in head coordinates: scalp, skull, brain with folds and dark middles."""
    x, y, z = points_N3.T
    rng = np.random.default_rng(person)

    def inside(half_axes_mm: Sequence[float], soft_mm: float = 2.0) -> np.ndarray:
        radius = np.sqrt(sum((one / half) ** 2 for one, half in zip((x, y, z), half_axes_mm, strict=True)))
        return 1 / (1 + np.exp(np.clip((radius - 1) * min(half_axes_mm) / soft_mm, -50, 50)))

    scalp, brain = inside(SKULL_MM), inside(BRAIN_MM)
    folds = np.zeros(len(points_N3))
    for _ in range(24):
        centre = rng.uniform(-0.75, 0.75, 3) * np.array(BRAIN_MM)
        width = rng.uniform(8, 16)
        folds += rng.choice([-1.0, 1.0]) * np.exp(-((points_N3 - centre) ** 2).sum(1) / (2 * width**2))
    return 500 * (scalp - inside((75.0, 100.0, 86.0))) + brain * (700 + 220 * np.tanh(folds))


def turned_head(
    head_to_scanner: np.ndarray,
    *,
    person: int = 0,
    spacing_mm: float = 4.0,
    noise: float = 8.0,
    seed: int = 0,
    shading: float = 0.0,
    grid_affine: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """int16 voxels and affine of a scan of the head where it lies.

    Args:
        head_to_scanner: from `pose`.
        person: seeds the folds.
        spacing_mm: edge of a voxel.
        noise: standard deviation in grey values.
        seed: of the noise.
        shading: brightness falls by this share from one ear to the other.
        grid_affine: of the scan's voxels; axes along the scanner's when not given.
    """
    edge = round(256 / spacing_mm)
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = -spacing_mm * (edge - 1) / 2
    affine = affine if grid_affine is None else grid_affine
    index = np.stack(np.meshgrid(*[np.arange(edge)] * 3, indexing="ij"), -1).reshape(-1, 3)
    scanner_mm = nib.affines.apply_affine(affine, index)
    grey = grey_at(nib.affines.apply_affine(np.linalg.inv(head_to_scanner), scanner_mm), person=person)
    grey = grey * (1 + shading * scanner_mm[:, 0] / 160)
    grey = grey + np.random.default_rng(seed).normal(0, noise, len(grey))
    return np.clip(grey, 0, 32000).astype(np.int16).reshape(edge, edge, edge), affine


def turned_nifti(head_to_scanner: np.ndarray, *, person: int = 0, seed: int = 0, shading: float = 0.0) -> bytes:
    """The same as a NIfTI-1 file."""
    return nifti(*turned_head(head_to_scanner, person=person, seed=seed, shading=shading))
