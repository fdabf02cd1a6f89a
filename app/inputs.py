"""From a file to a checked volume, and from an upload to a file."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO

import numpy as np
import numpy.typing as npt
from starlette.datastructures import UploadFile

from app.errors import ProblemError
from preprocess.errors import ScanError, UsageError
from preprocess.recipe import VolumeRecipe
from preprocess.types import MAX_VOXELS, Finding
from preprocess.volumes import Prepared, ScanFile, prepare_volume, prepare_volumes


@dataclass(frozen=True, slots=True)
class PreparedScan:
    """A scan ready for a model.

    Attributes:
        voxels_CDHW: in the recipe's stored dtype.
        sha256: SHA-256 of the file as received, in hex.
        findings: remarks that do not leave the scan out.
        affine: grid index to the scan's own RAS+ millimetres, row by row; empty where only the volume was given.
    """

    voxels_CDHW: npt.NDArray[np.generic]
    sha256: str
    findings: tuple[Finding, ...]
    affine: tuple[float, ...] = ()


def prepare(data: bytes, recipe: VolumeRecipe, *, name: str, max_voxels: int = MAX_VOXELS) -> PreparedScan:
    """Make a scan ready by the function of the batch job.

    Args:
        data: the whole file.
        recipe: the volume recipe that the model was trained with.
        name: what messages call the scan; never its file name.
        max_voxels: largest image taken.

    Raises:
        ScanError: the scan cannot be used; the most severe finding.
    """
    return _ready(data, prepare_volume(data, recipe, name=name, max_voxels=max_voxels))


def prepare_together(files: Sequence[tuple[bytes, str]], recipe: VolumeRecipe) -> list[PreparedScan]:
    """Make the scans of one person ready: registered to their mean, where the model's recipe asks for that.

    Args:
        files: each whole file, and what messages call the scan.
        recipe: the volume recipe that the model was trained with.

    Raises:
        ScanError: one of the scans cannot be used; its most severe finding.
        UsageError: the recipe needs SimpleITK, which is not installed, or brain masks.
    """
    if recipe.brain_mask == "given":
        raise UsageError(
            'the model\'s recipe has brain_mask = "given", and no masks can be given here; preprocess the scans with '
            "their masks, and give the stored volumes to interscan.predict_pair (docs/library.md)"
        )
    if recipe.registration != "subject":
        return [prepare(data, recipe, name=name) for data, name in files]
    prepared = prepare_volumes([ScanFile(data, name) for data, name in files], recipe)
    return [_ready(data, one) for (data, _), one in zip(files, prepared, strict=True)]


def _ready(data: bytes, prepared: Prepared) -> PreparedScan:
    for finding in prepared.findings:
        if finding.leaves_out:
            raise ScanError(finding)
    assert prepared.values is not None
    return PreparedScan(prepared.values, hashlib.sha256(data).hexdigest(), prepared.findings, prepared.affine)


def upload_file(upload: UploadFile, *, name: str, max_bytes: int) -> IO[bytes]:
    """An upload as a real file, which another process can be handed.

    Raises:
        ProblemError: 413 when it is larger than the limit.
        OSError: no room for it.
    """
    if (upload.size or 0) > max_bytes:
        raise too_large(name, max_bytes)
    spooled = upload.file
    assert isinstance(spooled, SpooledTemporaryFile)
    spooled.rollover()
    spooled.flush()
    return spooled


def too_large(name: str, max_bytes: int) -> ProblemError:
    """The answer to a scan beyond the limit."""
    detail = f"{name}: larger than {max_bytes} bytes ({max_bytes / 2**20:.0f} MiB); compress the scan or crop it"
    return ProblemError(413, "too_large", detail)
