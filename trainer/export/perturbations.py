"""Ways to scan the same head differently: mirrored, moved, turned, shaded, noisier, with longer voxels.

Pure: an image in, an image out, so that what is perturbed goes the whole way of preprocessing again, as a scan that
arrives at the service does. Nothing about the head itself changes.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.ndimage import affine_transform, shift
from scipy.spatial.transform import Rotation

from preprocess.types import FloatArray, Image

SHIFT_MM = 2.0
ANGLE_DEGREES = 2.0
BIAS = 0.2
NOISE = 0.03
LONGER = 1.2
Perturb = Callable[[Image, int], Image]
"""Takes the number of the case, which picks axis, sign and draws."""


def mirrored(image: Image, number: int) -> Image:  # noqa: ARG001 - a mirror has no axis to pick
    """Left and right exchanged."""
    return replace(image, voxels_XYZ=np.ascontiguousarray(image.voxels_XYZ[::-1]))


def shifted(image: Image, number: int) -> Image:
    """The head moved by 2 mm within the field of view, along one axis, to one side; the affine stays."""
    offset = np.zeros(3)
    offset[number % 3] = _sign(number) * SHIFT_MM / image.spacing_mm[number % 3]
    return replace(image, voxels_XYZ=shift(image.voxels_XYZ, offset, order=1, prefilter=False))


def turned(image: Image, number: int) -> Image:
    """The head turned by 2 degrees about one axis through the middle, one way or the other; no voxel is resampled."""
    vector = np.zeros(3)
    vector[number % 3] = _sign(number) * ANGLE_DEGREES
    rotation = Rotation.from_rotvec(vector, degrees=True).as_matrix()
    middle_mm = image.affine[:3, :3] @ ((np.array(image.voxels_XYZ.shape) - 1) / 2) + image.affine[:3, 3]
    affine = image.affine.copy()
    affine[:3, :3] = rotation @ image.affine[:3, :3]
    affine[:3, 3] = rotation @ (image.affine[:3, 3] - middle_mm) + middle_mm
    return replace(image, affine=affine)


def shaded(image: Image, number: int) -> Image:
    """Every voxel times a smooth field that runs from 1 - 0.2 to 1 + 0.2 over the volume."""
    draws = np.random.default_rng([number, 0xB1A5])
    axes = np.meshgrid(*(np.linspace(-1, 1, edge, dtype=np.float32) for edge in image.voxels_XYZ.shape), indexing="ij")
    linear = draws.normal(size=3).astype(np.float32)
    squared = 0.5 * draws.normal(size=3).astype(np.float32)
    field: FloatArray = sum(a * axis + b * axis**2 for a, b, axis in zip(linear, squared, axes, strict=True))
    unit = 2 * (field - field.min()) / np.ptp(field) - 1
    return replace(image, voxels_XYZ=image.voxels_XYZ * (1 + np.float32(BIAS) * unit))


def noisier(image: Image, number: int) -> Image:
    """Magnitude of the picture with complex noise of 3 % of its 98th percentile in either channel."""
    draws = np.random.default_rng([number, 0x0153])
    level = np.float32(NOISE * np.percentile(image.voxels_XYZ[image.voxels_XYZ > 0], 98))
    real, imaginary = level * draws.standard_normal((2, *image.voxels_XYZ.shape), dtype=np.float32)
    return replace(image, voxels_XYZ=np.hypot(image.voxels_XYZ + real, imaginary))


def resampled(image: Image, number: int) -> Image:
    """Voxels 1.2 times as long along one axis, by linear interpolation."""
    axis = number % 3
    scale = np.ones(3)
    scale[axis] = LONGER
    edges = list(image.voxels_XYZ.shape)
    edges[axis] = int((edges[axis] - 1) / LONGER) + 1
    voxels = affine_transform(image.voxels_XYZ, scale, output_shape=tuple(edges), order=1, prefilter=False)
    affine = image.affine.copy()
    affine[:3, axis] *= LONGER
    return replace(image, voxels_XYZ=voxels, affine=affine)


PERTURBATIONS: dict[str, tuple[Perturb, str]] = {
    "flip": (mirrored, "left and right exchanged"),
    "shift": (shifted, f"the head moved by {SHIFT_MM:g} mm along one axis"),
    "rotation": (turned, f"the head turned by {ANGLE_DEGREES:g} degrees about one axis"),
    "bias_field": (shaded, f"a smooth shading of {1 - BIAS:g} to {1 + BIAS:g} times the brightness"),
    "noise": (noisier, f"noise of {NOISE:.0%} of white matter's brightness"),
    "sampling": (resampled, f"voxels {LONGER:g} times as long along one axis, as 1.2 mm are of 1.0"),
}
"""By name: the function, and what it does in words."""


def _sign(number: int) -> int:
    """To both sides of each axis in turn, over six cases."""
    return 1 if number // 3 % 2 == 0 else -1
