"""From an upload or a URI to a checked volume; nothing beyond the size limit or outside the allowed list is read."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from starlette.datastructures import UploadFile

from app.allowlist import NotAllowedError, check_allowed
from app.errors import ProblemError
from preprocess.console import LOG
from preprocess.errors import ScanError, StorageError
from preprocess.kinds import prepare_volume
from preprocess.recipe import VolumeRecipe
from preprocess.storage import Location, refusals
from preprocess.types import MAX_VOXELS, Finding


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
    prepared = prepare_volume(data, recipe, name=name, max_voxels=max_voxels)
    for finding in prepared.findings:
        if finding.leaves_out:
            raise ScanError(finding)
    assert prepared.values is not None
    return PreparedScan(prepared.values, hashlib.sha256(data).hexdigest(), prepared.findings, prepared.affine)


def read_upload(upload: UploadFile, *, name: str, max_bytes: int) -> bytes:
    """The bytes of an upload.

    Raises:
        ProblemError: 413 when it is larger than the limit.
    """
    data = upload.file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise too_large(name, max_bytes)
    return data


def read_uri(uri: str, prefixes: Sequence[str], *, name: str, max_bytes: int) -> bytes:
    """The bytes under a URI.

    Args:
        uri: as the caller sent it.
        prefixes: what may be read, as `normal_prefix` gives them.
        name: what messages call the scan.
        max_bytes: compared with the size in the storage before anything is fetched.

    Raises:
        ProblemError: 403 outside the list, 413 too large, 422 not there, 502 when the storage refuses.
    """
    try:
        location = Location(check_allowed(uri, prefixes))
    except NotAllowedError as error:
        raise ProblemError(403, "uri_not_allowed", f"{name}: {error}") from error
    try:
        with refusals(name, missing_is_error=False):
            entry = location.fs.info(location.path)
            if entry["type"] != "file":
                raise ProblemError(
                    422,
                    "not_a_file",
                    f"{name}: the URI names a folder; name one NIfTI file, or a zip of one DICOM series",
                )
            size = int(entry["size"])
            if size > max_bytes:
                raise too_large(name, max_bytes)
            # No further than the size that was checked: the object may have grown since.
            data: bytes = location.fs.cat_file(location.path, start=0, end=size) if size else b""
            return data
    except FileNotFoundError as error:
        raise _not_found(name) from error
    except StorageError as error:
        if isinstance(error.__cause__, NotADirectoryError):
            raise _not_found(name) from error
        LOG.warning("storage refused: %s", str(error).replace(location.uri, name).replace(location.path, name))
        detail = f"{name}: the storage refused or could not be reached; ask the operator"
        raise ProblemError(502, "storage_failed", detail) from error


def _not_found(name: str) -> ProblemError:
    return ProblemError(422, "not_found", f"{name}: there is nothing under the URI; check its spelling")


def too_large(name: str, max_bytes: int) -> ProblemError:
    """The answer to a scan beyond the limit."""
    detail = f"{name}: larger than {max_bytes} bytes ({max_bytes / 2**20:.0f} MiB); compress the scan or crop it"
    return ProblemError(413, "too_large", detail)
