"""Cosine and Mahalanobis distance of embeddings, in numpy: one definition for training, export and the service.

Cosine distance is 1 - a.b / (|a||b|), 0 to 2. Mahalanobis distance is sqrt((z - m)^T P (z - m)), with centre m and
inverse covariance P. Everything is computed in float64.

Each distance has a function for many scans and one for a single scan or pair. Their sums are added in another order, so
they may differ in the last digits (below 1e-12): numbers that were written once are to come out alike, bit for bit.
What trains and measures refuses an embedding of length 0, which has no direction; the service has to answer for
whatever a scan's embedding is, and takes its length as tiny instead.
"""

import numpy as np
import numpy.typing as npt

from preprocess.types import FloatArray

Floats = npt.NDArray[np.float64]

SMALLEST_NORM = 1e-12
"""Length that the service takes for a shorter embedding, so that zeros stay zeros."""
OUTSIDE_PERCENTILE = 99.0
"""A scan farther away than this percentage of the validation scans counts as outside the training distribution."""
_SMALLEST_NORM_IN_PROGRAMS = 1e-8
"""torch's cosine similarity, which exported programs use, takes no shorter vector."""


def unit_rows(embeddings_NE: npt.ArrayLike) -> Floats:
    """Scale each row to length 1.

    Args:
        embeddings_NE: (N, E), any float dtype.

    Raises:
        ValueError: not a matrix, a value that is not finite, or a row of zeros.
    """
    rows_NE = np.asarray(embeddings_NE, dtype=np.float64)
    if rows_NE.ndim != 2:
        raise ValueError(f"embeddings must be (N, E); got {rows_NE.shape}")
    length_N1 = np.linalg.norm(rows_NE, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(length_N1) & (length_N1 > 0)))
    if bad.size:
        raise ValueError(f"{bad.size} embeddings are zero or not finite, first at row {bad[0]}; they have no direction")
    return np.asarray(rows_NE / length_N1)


def unit_vector(embedding_E: npt.ArrayLike) -> Floats:
    """Scale one embedding (E,) to length 1; zeros stay zeros."""
    vector_E = np.asarray(embedding_E, dtype=np.float64)
    return np.asarray(vector_E / max(float(np.linalg.norm(vector_E)), SMALLEST_NORM))


def cosine_distances(embeddings_NE: npt.ArrayLike, first_P: npt.ArrayLike, second_P: npt.ArrayLike) -> Floats:
    """Cosine distance of listed pairs of rows.

    Args:
        embeddings_NE: (N, E).
        first_P: (P,) row of one scan of each pair.
        second_P: (P,) row of the other.

    Returns:
        (P,) distances in [0, 2].

    Raises:
        ValueError: as `unit_rows`.
    """
    unit_NE = unit_rows(embeddings_NE)
    first, second = np.asarray(first_P, dtype=np.int64), np.asarray(second_P, dtype=np.int64)
    return np.asarray(1 - np.einsum("pe,pe->p", unit_NE[first], unit_NE[second]).clip(-1, 1))


def cosine_distance(first_E: npt.ArrayLike, second_E: npt.ArrayLike) -> float:
    """Cosine distance of two embeddings (E,), exactly 0 for equal ones; 1 where one is zeros and the other is not."""
    if np.array_equal(first_E, second_E):
        return 0.0
    similarity = float(unit_vector(first_E) @ unit_vector(second_E))
    return min(max(1.0 - similarity, 0.0), 2.0)


def distances_from_mean(embeddings_NE: npt.ArrayLike, normal_KE: npt.ArrayLike) -> Floats:
    """Cosine distance of each embedding from the mean of normal scans (ConPrO).

    Args:
        embeddings_NE: (N, E).
        normal_KE: (K, E) embeddings of normal scans, averaged before anything is scaled to length 1.

    Returns:
        (N,) distances in [0, 2].

    Raises:
        ValueError: no normal scan, a mean of zero, which has no direction, or embeddings as `unit_rows` refuses them.
    """
    normals_KE = np.asarray(normal_KE, dtype=np.float64)
    if normals_KE.ndim != 2 or not len(normals_KE):
        raise ValueError(f"normal scans have shape {normals_KE.shape}; an anchor needs (K, E) with K at least 1")
    return np.asarray(1 - (unit_rows(embeddings_NE) @ unit_rows(normals_KE.mean(0, keepdims=True))[0]).clip(-1, 1))


def distances_from(embeddings_BE: FloatArray, anchor_E: Floats) -> FloatArray:
    """Cosine distance (B,) of each embedding from an anchor, float32: what an exported `severity` program gives.

    Args:
        embeddings_BE: (B, E).
        anchor_E: (E,), of any length above 0.
    """
    rows_BE = embeddings_BE.astype(np.float64)
    length_B = np.maximum(np.linalg.norm(rows_BE, axis=1), _SMALLEST_NORM_IN_PROGRAMS)
    similarity_B = rows_BE @ anchor_E / (length_B * float(np.linalg.norm(anchor_E)))
    distance_B: FloatArray = (1.0 - similarity_B.clip(-1.0, 1.0)).astype(np.float32)
    return distance_B


def mahalanobis_distances(embeddings_NE: np.ndarray, mean_E: np.ndarray, precision_EE: np.ndarray) -> np.ndarray:
    """Mahalanobis distance (N,) of each embedding: in standard deviations along every direction.

    Args:
        embeddings_NE: (N, E).
        mean_E: (E,) centre.
        precision_EE: (E, E) inverse covariance.
    """
    offsets_NE = embeddings_NE - mean_E
    squared_N = np.einsum("ne,ef,nf->n", offsets_NE, precision_EE, offsets_NE)
    # Rounding may take the square of a scan at the very centre below 0.
    return np.asarray(np.sqrt(np.maximum(squared_N, 0.0)))


def mahalanobis_distance(embedding_E: npt.ArrayLike, mean_E: Floats, precision_EE: Floats) -> float:
    """Mahalanobis distance of one embedding (E,); arguments as `mahalanobis_distances`."""
    offset_E = np.asarray(embedding_E, dtype=np.float64) - mean_E
    return float(np.sqrt(max(float(offset_E @ precision_EE @ offset_E), 0.0)))


def percentile_rank(ascending_P: npt.NDArray[np.floating], value: float) -> float:
    """Percentage of the values that are smaller, 0 to 100."""
    return 100.0 * int(np.searchsorted(ascending_P, value, side="left")) / ascending_P.size
