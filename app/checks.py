"""How a scan looks next to the training scans, and whether two scans may be of one person; no network is asked."""

import numpy as np

from app.inputs import PreparedScan
from app.registry import LoadedModel
from app.schemas import ImageCheck
from preprocess.image_statistics import CheckName, ImageStatistics, image_statistics
from preprocess.transforms import unit_scale


def describe(model: LoadedModel, scan: PreparedScan) -> ImageStatistics | None:
    """The statistics of a scan; None where the artefact has nothing to hold them against."""
    if model.references.images is None:
        return None
    voxels_CDHW = scan.voxels_CDHW
    return image_statistics(voxels_CDHW.astype(np.float32) * np.float32(unit_scale(voxels_CDHW.dtype.name)))


def scan_checks(model: LoadedModel, looks: ImageStatistics | None) -> list[ImageCheck]:
    """Every check of one scan, in the order of the manifest; none without statistics.

    Args:
        model: whose limits count.
        looks: from `describe`.
    """
    images = model.references.images
    if looks is None or images is None:
        return []
    return _held(model, images.distances(looks))


def pair_checks(
    model: LoadedModel, earlier: ImageStatistics | None, later: ImageStatistics | None
) -> dict[CheckName, ImageCheck]:
    """The checks `identity` and `scanner` of a pair, as far as the artefact has them.

    Args:
        model: whose limits count.
        earlier: from `describe`.
        later: from `describe`.
    """
    images = model.references.images
    if earlier is None or later is None or images is None:
        return {}
    values: dict[CheckName, float] = {
        "identity": images.identity(earlier, later),
        "scanner": images.scanner(earlier, later),
    }
    return {check.name: check for check in _held(model, values)}


def _held(model: LoadedModel, values: dict[CheckName, float]) -> list[ImageCheck]:
    decision = model.manifest.decision
    return [
        ImageCheck(
            name=check.name,
            value=values[check.name],
            limit=check.limit,
            percentile=check.percentile,
            is_beyond=values[check.name] > check.limit,
        )
        for check in (() if decision is None else decision.checks)
        if check.name in values
    ]
