"""How far a scan lies from normal, and where that stands among validation scans of each grade; numpy only."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.references import Floats
from app.schemas import GradeDistances
from preprocess.distances import distances_from, percentile_rank
from preprocess.errors import ArtefactError
from preprocess.manifest import SEVERITY_REFERENCE_ARRAYS
from preprocess.types import FloatArray


@dataclass(frozen=True, slots=True)
class SeverityReferences:
    """What severity is measured from and compared with, as float64.

    Attributes:
        anchor_E: mean embedding of the normal training scans.
        distances_by_grade: severity of validation scans by their score, ascending.
    """

    anchor_E: Floats
    distances_by_grade: Mapping[float, Floats]

    def distances(self, embeddings_BE: FloatArray) -> FloatArray:
        """Severity (B,) of embeddings, float32: what `severity` of the program gives, without embedding again."""
        return distances_from(embeddings_BE, self.anchor_E)

    def grades(self, distance: float) -> list[GradeDistances]:
        """Validation scans of each grade, and the rank of one more distance among them."""
        found = []
        for grade, distances_V in self.distances_by_grade.items():
            lower, median, upper = np.percentile(distances_V, (25, 50, 75))
            found.append(
                GradeDistances(
                    grade=grade,
                    count=distances_V.size,
                    median=float(median),
                    lower_quartile=float(lower),
                    upper_quartile=float(upper),
                    percentile_rank=percentile_rank(distances_V, distance),
                )
            )
        return found


def parse_severity(arrays: Mapping[str, npt.NDArray[np.generic]], *, name: str, tolerance: float) -> SeverityReferences:
    """Check the arrays of `SEVERITY_REFERENCE_ARRAYS`, and the anchor against the scans it is said to be the mean of.

    Args:
        arrays: the arrays of references.npz by name, already held against `REFERENCE_ARRAYS`.
        name: how messages call the file.
        tolerance: largest difference accepted, relative to the anchor's length.

    Raises:
        ArtefactError: an array is missing, of another shape, not finite, or contradicts another.
    """
    missing = sorted(set(SEVERITY_REFERENCE_ARRAYS) - set(arrays))
    if missing:
        raise ArtefactError(f"{name}: no array {', '.join(missing)}; export the model again")
    embeddings_NE = np.asarray(arrays["embeddings_NE"], dtype=np.float64)
    indices_K = np.asarray(arrays["normal_places_K"])
    anchor_E, distances_V, grades_V = (
        np.asarray(arrays[key], dtype=np.float64)
        for key in ("anchor_E", "validation_distances_V", "validation_grades_V")
    )
    expected = {
        "anchor_E": embeddings_NE.shape[1:],
        "normal_places_K": (indices_K.size,),
        "normal_rows_K": (indices_K.size,),
        "validation_distances_V": (distances_V.size,),
        "validation_grades_V": (distances_V.size,),
    }
    for key, shape in expected.items():
        if arrays[key].shape != shape:
            raise ArtefactError(
                f"{name}: {key} has shape {arrays[key].shape}, expected {shape}; export the model again"
            )
    for key, array in (
        ("anchor_E", anchor_E),
        ("validation_distances_V", distances_V),
        ("validation_grades_V", grades_V),
    ):
        if not np.isfinite(array).all():
            raise ArtefactError(f"{name}: {key} holds NaN or infinity; export the model again")
    are_indices = indices_K.size > 0 and indices_K.dtype.kind in "iu" and indices_K.min() >= 0
    if not are_indices or indices_K.max() >= len(embeddings_NE):
        raise ArtefactError(f"{name}: normal_places_K are not indices of embeddings_NE; export the model again")
    length = float(np.linalg.norm(anchor_E))
    difference = float(np.abs(embeddings_NE[indices_K].mean(axis=0) - anchor_E).max())
    if not length > 0 or difference > tolerance * max(length, 1.0):
        raise ArtefactError(
            f"{name}: anchor_E differs by {difference:.2g} from the mean of its {indices_K.size} normal scans; export "
            "the model again"
        )
    by_grade = {float(grade): np.sort(distances_V[grades_V == grade]) for grade in np.unique(grades_V)}
    return SeverityReferences(anchor_E, by_grade)
