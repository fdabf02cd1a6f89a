"""Small NIfTI heads made by nibabel in memory: an ellipsoid with a dark core whose size is the truth."""

import gzip

import nibabel as nib
import numpy as np


def head_voxels(core_mm: float = 20.0, *, seed: int = 0, edge: int = 48, spacing_mm: float = 4.0) -> np.ndarray:
    """int16 voxels of a bright head of about 150 x 170 x 160 mm with a dark core of the given radius."""
    axis = (np.arange(edge) - (edge - 1) / 2) * spacing_mm
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    head = (x / 75) ** 2 + (y / 85) ** 2 + (z / 80) ** 2 <= 1
    core = x**2 + y**2 + z**2 <= core_mm**2
    noise = np.random.default_rng(seed).normal(0, 15, head.shape)
    voxels: np.ndarray = np.clip(np.where(head, 900, 20) - 600 * core + noise, 0, None).astype(np.int16)
    return voxels


def head_nifti(
    core_mm: float = 20.0, *, seed: int = 0, spacing_mm: float = 4.0, description: str = "", compress: bool = True
) -> bytes:
    """The head as a NIfTI-1 file."""
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = -spacing_mm * 23.5
    return nifti(head_voxels(core_mm, seed=seed, spacing_mm=spacing_mm), affine, description, compress=compress)


def nifti(voxels: np.ndarray, affine: np.ndarray, description: str = "", *, compress: bool = True) -> bytes:
    """Any voxels as a NIfTI-1 file, with a fixed gzip header so that equal scans are equal files."""
    image = nib.Nifti1Image(voxels, affine)
    image.header["descrip"] = description.encode()
    data: bytes = image.to_bytes()
    return gzip.compress(data, mtime=0) if compress else data
