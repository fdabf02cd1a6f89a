"""Ways from a head's file to a normalised 96-cube at 2 mm, and the synthetic heads that they are measured on."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from interscan.synthetic.brain.plan import subject_anatomy
from interscan.synthetic.brain.render import Grid
from interscan.synthetic.brain.scanner import SCANNERS, acquire
from preprocess.recipe import VolumeRecipe
from preprocess.volumes import prepare_volume

SHAPE = (176, 256, 256)
"""A usual T1w head of 1 mm voxels."""
EDGE, SPACING_MM, PERCENTILES = 96, 2.0, (0.5, 98.0)
OURS, MONAI, TORCHIO, NILEARN = "interscan", "MONAI", "TorchIO", "nilearn"
Way = Callable[[Path], Any]
"""Takes a file, answers the volume."""


def write_heads(folder: Path, count: int, *, coarser: int = 1) -> list[Path]:
    """Write heads of different people as .nii.gz, packed as dcm2niix packs them (level 6).

    Args:
        folder: exists.
        count: how many.
        coarser: voxels this many mm long, and as many times fewer along each axis.
    """
    shape = tuple(edge // coarser for edge in SHAPE)
    spacing_mm = (float(coarser),) * 3
    # The face looks along +A; the neck is in the picture, with air above the head.
    grid = Grid(shape, spacing_mm, (-87.5, -134.5, -147.5))
    paths = []
    for number in range(count):
        voxels_XYZ = acquire(
            subject_anatomy(0, number), 0.2, SCANNERS[number % len(SCANNERS)], grid, np.random.default_rng(number)
        )
        image = nib.Nifti1Image(voxels_XYZ, grid.affine)
        paths.append(folder / f"head-{number:02d}.nii.gz")
        paths[-1].write_bytes(gzip.compress(image.to_bytes(), compresslevel=6, mtime=0))
    return paths


def prepare(path: Path) -> np.ndarray:
    """Ours, as a worker of `interscan preprocess` and the service do it."""
    torch.set_num_threads(1)
    prepared = prepare_volume(path.read_bytes(), VolumeRecipe(), name=path.name)
    if prepared.values is None:
        raise AssertionError(f"{path}: {prepared.findings[0].message}")
    return prepared.values


def monai() -> Way:
    """The default chain of MONAI's examples."""
    from monai.transforms import (
        Compose,
        LoadImage,
        Orientation,
        ResizeWithPadOrCrop,
        ScaleIntensityRangePercentiles,
        Spacing,
    )

    chain: Way = Compose(
        [
            LoadImage(ensure_channel_first=True),
            Orientation(axcodes="RAS"),
            Spacing(pixdim=(SPACING_MM,) * 3),
            ResizeWithPadOrCrop(EDGE),
            ScaleIntensityRangePercentiles(*PERCENTILES, 0.0, 1.0, clip=True),
        ]
    )
    return chain


def torchio() -> Way:
    """The same steps by TorchIO.

    Raises:
        ImportError: it is not installed.
    """
    import torchio as tio  # type: ignore[import-not-found,unused-ignore]

    steps = tio.Compose(
        [
            tio.ToCanonical(),
            tio.Resample(SPACING_MM),
            tio.CropOrPad(EDGE),
            tio.RescaleIntensity(out_min_max=(0, 1), percentiles=PERCENTILES),
        ]
    )
    return lambda path: steps(tio.ScalarImage(path)).data


def nilearn() -> Way:
    """Resampling by nilearn into a box around the scan's middle, then percentiles.

    Raises:
        ImportError: it is not installed.
    """
    from nilearn.image import resample_img

    def run(path: Path) -> np.ndarray:
        image = nib.load(path)
        middle_mm = nib.affines.apply_affine(image.affine, (np.array(image.shape) - 1) / 2)
        affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
        affine[:3, 3] = middle_mm - SPACING_MM * (EDGE - 1) / 2
        placed = resample_img(image, affine, (EDGE,) * 3, interpolation="linear", copy_header=True, force_resample=True)
        values = placed.get_fdata(dtype=np.float32)
        low, high = np.percentile(values, PERCENTILES)
        return np.clip((values - low) / (high - low), 0, 1)

    return run


PEERS: dict[str, Callable[[], Way]] = {MONAI: monai, TORCHIO: torchio, NILEARN: nilearn}
