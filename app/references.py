"""Where a scan or a pair stands among the artefact's references: distances, percentiles, neighbours; numpy only."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.schemas import DistanceReference, Neighbours, OutOfDistribution
from preprocess.distances import (
    OUTSIDE_PERCENTILE,
    SMALLEST_NORM,
    mahalanobis_distance,
    percentile_rank,
    unit_vector,
)
from preprocess.errors import ArtefactError
from preprocess.image_statistics import ImageReferences
from preprocess.manifest import (
    AGE_REFERENCE_ARRAYS,
    DECISION_REFERENCE_ARRAYS,
    IMAGE_REFERENCE_ARRAYS,
    REFERENCE_ARRAYS,
    Decision,
)

Floats = npt.NDArray[np.float64]

NUM_NEIGHBOURS = 15
AGE_WINDOW_YEARS = 5
"""People at most so much younger or older are of about the same age."""


@dataclass(frozen=True, slots=True)
class References:
    """The arrays of `manifest.REFERENCE_ARRAYS` and `DECISION_REFERENCE_ARRAYS`, as float64.

    Attributes:
        embeddings_NE: training scans, rows of length 1.
        scores_N: their outcome scores, NaN where unknown.
        noise_distances_P: cosine distances of same-day scan-rescan pairs, ascending.
        change_distances_P: cosine distances of consecutive visits, ascending.
        ood_mean_E: centre of the training embeddings.
        ood_precision_EE: inverse of their shrunk covariance.
        ood_distances_Q: Mahalanobis distances of validation scans, ascending.
        change_direction_E: points of the score per unit of the embedding; None in artefacts without the part decision.
        images: what image statistics are held against; None in artefacts without such checks.
        annual_changes_P: true change of the score a year of training people, positive where better; None in artefacts
            of earlier versions and of stores without ages.
        ages_P: their ages, years; None as above.
    """

    embeddings_NE: Floats
    scores_N: Floats
    noise_distances_P: Floats
    change_distances_P: Floats
    ood_mean_E: Floats
    ood_precision_EE: Floats
    ood_distances_Q: Floats
    change_direction_E: Floats | None = None
    images: ImageReferences | None = None
    annual_changes_P: Floats | None = None
    ages_P: Floats | None = None

    def changes_about(self, age: float) -> Floats | None:
        """Ascending changes a year of the reference people within `AGE_WINDOW_YEARS`; None where no age is known."""
        if self.annual_changes_P is None or self.ages_P is None:
            return None
        return np.sort(self.annual_changes_P[np.abs(self.ages_P - age) <= AGE_WINDOW_YEARS])

    def out_of_distribution(self, embedding_E: npt.NDArray[np.float32]) -> OutOfDistribution:
        """Mahalanobis distance, and its rank among the validation scans."""
        distance = mahalanobis_distance(embedding_E, self.ood_mean_E, self.ood_precision_EE)
        if not self.ood_distances_Q.size:
            return OutOfDistribution(distance=distance, percentile=None, is_outside=None)
        percentile = percentile_rank(self.ood_distances_Q, distance)
        return OutOfDistribution(distance=distance, percentile=percentile, is_outside=percentile > OUTSIDE_PERCENTILE)

    def neighbours(self, embedding_E: npt.NDArray[np.float32]) -> Neighbours | None:
        """Scores of the nearest reference scans by cosine; None when no reference has a score."""
        known = np.isfinite(self.scores_N)
        if not known.any():
            return None
        nearness_N = self.embeddings_NE[known] @ unit_vector(embedding_E)
        nearest = np.argsort(-nearness_N, kind="stable")[:NUM_NEIGHBOURS]
        lower, median, upper = np.percentile(self.scores_N[known][nearest], (25, 50, 75))
        return Neighbours(
            count=len(nearest), median_score=float(median), lower_quartile=float(lower), upper_quartile=float(upper)
        )


def stand_among(distances_P: Floats, distance: float) -> DistanceReference | None:
    """Summary of known distances and the rank of one more among them; None when there are none."""
    if not distances_P.size:
        return None
    median, high = np.percentile(distances_P, (50, 95))
    rank = percentile_rank(distances_P, distance)
    return DistanceReference(
        count=distances_P.size, median=float(median), percentile_95=float(high), percentile_rank=rank
    )


def read_arrays(data: bytes, *, name: str) -> dict[str, np.ndarray]:
    """The arrays of an npz file; pickles are refused.

    Raises:
        ArtefactError: not an npz file.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ArtefactError(f"{name}: not a readable npz file; export the model again") from error


def parse_references(data: bytes, *, name: str, width: int, decision: Decision | None = None) -> References:
    """Check references.npz against `REFERENCE_ARRAYS` and the embedding's width.

    Args:
        data: the file.
        name: what messages call it.
        width: length of an embedding.
        decision: the manifest's part, whose arrays must then be there.

    Raises:
        ArtefactError: an array is missing, of another shape, or not finite where it must be.
    """
    arrays = read_arrays(data, name=name)
    needed = {*REFERENCE_ARRAYS, *(DECISION_REFERENCE_ARRAYS if decision is not None else ())}
    of_images = set(IMAGE_REFERENCE_ARRAYS if decision is not None and decision.checks else ())
    if decision is not None and arrays.keys() & AGE_REFERENCE_ARRAYS.keys():
        needed |= AGE_REFERENCE_ARRAYS.keys()
    missing = sorted((needed | of_images) - set(arrays))
    if missing:
        raise ArtefactError(f"{name}: no array {', '.join(missing)}; export the model again")
    plain = {key: np.asarray(arrays[key], dtype=np.float64) for key in needed}
    num = len(plain["embeddings_NE"])
    fixed = {
        "embeddings_NE": (num, width),
        "scores_N": (num,),
        "ood_mean_E": (width,),
        "change_direction_E": (width,),
        "ood_precision_EE": (width, width),
        "ages_P": (plain["annual_changes_P"].size,) if "annual_changes_P" in plain else (),
    }
    for key, array in plain.items():
        expected = fixed.get(key, (array.size,))
        if array.shape != expected:
            raise ArtefactError(f"{name}: {key} has shape {array.shape}, expected {expected}; export the model again")
        if key != "scores_N" and not np.isfinite(array).all():
            raise ArtefactError(f"{name}: {key} holds NaN or infinity; export the model again")
    norms_N1 = np.linalg.norm(plain["embeddings_NE"], axis=1, keepdims=True)
    plain["embeddings_NE"] = plain["embeddings_NE"] / np.maximum(norms_N1, SMALLEST_NORM)
    for key in ("noise_distances_P", "change_distances_P", "ood_distances_Q"):
        plain[key] = np.sort(plain[key])
    return References(**plain, images=_parse_images(arrays, name) if of_images else None)


def _parse_images(arrays: Mapping[str, np.ndarray], name: str) -> ImageReferences:
    endless = [key for key in IMAGE_REFERENCE_ARRAYS if not np.isfinite(arrays[key]).all()]
    if endless:
        raise ArtefactError(f"{name}: {endless[0]} holds NaN or infinity; export the model again")
    try:
        return ImageReferences.of(arrays)
    except ValueError as error:
        raise ArtefactError(f"{name}: {error}; export the model again") from error
