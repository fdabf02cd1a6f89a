"""Tiny heads as NIfTI bytes and as BIDS folders, made by nibabel; small enough to preprocess in a test."""

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from preprocess.recipe import VolumeRecipe

RECIPE = VolumeRecipe(grid=(24, 24, 24), spacing_mm=8.0)
"""The whole head in 24^3 voxels: a scan takes a few milliseconds."""
REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
"""Real scans, beside the checkout."""


def centred_affine(shape: tuple[int, ...], spacing_mm: float | tuple[float, float, float] = 4.0) -> np.ndarray:
    """RAS+ affine that puts the middle of the array at the origin."""
    affine = np.diag([*np.broadcast_to(spacing_mm, 3), 1.0])
    affine[:3, 3] = -np.diag(affine)[:3] * (np.asarray((*shape, 1)[:3]) - 1) / 2
    return affine


def head(scale: float = 1.0, *, edge: int = 48, spacing_mm: float = 4.0, seed: int = 0) -> np.ndarray:
    """int16 ellipsoid of 75 x 85 x 80 mm half axes times `scale`: scalp 700, brain 1000, ventricle 300, noise 10."""
    axis_mm = (np.arange(edge) - (edge - 1) / 2) * spacing_mm
    x, y, z = np.meshgrid(axis_mm, axis_mm, axis_mm, indexing="ij")
    radius = np.sqrt((x / 75) ** 2 + (y / 85) ** 2 + (z / 80) ** 2) / scale
    grey = np.select([radius <= 0.25, radius <= 0.85, radius <= 1.0], [300.0, 1000.0, 700.0], 20.0)
    noise = np.random.default_rng(seed).normal(0, 10, grey.shape)
    return np.clip(grey + noise, 0, None).astype(np.int16)


def nifti(
    voxels: np.ndarray, affine: np.ndarray | None = None, *, version: int = 1, big_endian: bool = False, **fields: Any
) -> bytes:
    """A plain .nii file as nibabel writes it; afterwards `fields` are put into its header as they are."""
    kind = nib.Nifti1Image if version == 1 else nib.Nifti2Image
    header = kind.header_class(endianness=">" if big_endian else "<")
    header.set_data_dtype(voxels.dtype)
    image = kind(voxels, centred_affine(voxels.shape) if affine is None else affine, header)
    return patched(image.to_bytes(), **fields)


def patched(plain: bytes, **fields: Any) -> bytes:
    """The file with header fields overwritten, whatever nibabel thinks of them; `pixdim1` is one element of pixdim."""
    size = int.from_bytes(plain[:4], "little")
    size = size if size in (348, 540) else int.from_bytes(plain[:4], "big")
    kind = nib.Nifti1Header if size == 348 else nib.Nifti2Header
    header = kind(plain[:size], check=False)
    for field, value in fields.items():
        if field[-1].isdigit() and field[:-1] in ("pixdim", "dim"):
            header[field[:-1]][int(field[-1])] = value
        else:
            header[field] = value
    return bytes(header.binaryblock) + plain[size:]


def gz(plain: bytes) -> bytes:
    """gzip with a fixed header, so that equal scans are equal files."""
    return gzip.compress(plain, mtime=0)


def head_file(scale: float = 1.0, *, seed: int = 0) -> bytes:
    """The head as .nii.gz."""
    return gz(nifti(head(scale, seed=seed)))


def write_bids(
    root: Path, subjects: Mapping[str, Mapping[str, bytes]], days: Mapping[str, float] | None = None
) -> Path:
    """A BIDS folder: `{"01": {"01": bytes, "02": bytes}}` are the T1w files by subject and session, without prefixes.

    `days` holds each session's day for all subjects; sessions.tsv is written when it is given.
    """
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset_description.json").write_text('{"Name": "tiny", "BIDSVersion": "1.9.0"}')
    for subject, sessions in subjects.items():
        for session, data in sessions.items():
            folder = root / f"sub-{subject}" / f"ses-{session}" / "anat"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"sub-{subject}_ses-{session}_T1w.nii.gz").write_bytes(data)
        if days is not None:
            lines = ["session_id\tdays_since_first", *(f"ses-{name}\t{days[name]:g}" for name in sessions)]
            (root / f"sub-{subject}" / f"sub-{subject}_sessions.tsv").write_text("\n".join(lines) + "\n")
    return root


def tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder with its bytes."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
