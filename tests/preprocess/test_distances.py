"""Distances equal scipy's and torch's, and those of one scan equal those of many."""

import numpy as np
import pytest
import torch
from scipy.spatial import distance
from torch.nn import functional

from preprocess.distances import (
    cosine_distance,
    cosine_distances,
    distances_from,
    distances_from_mean,
    mahalanobis_distance,
    mahalanobis_distances,
    unit_rows,
    unit_vector,
)


def drawn(num: int, width: int = 32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, width)).astype(np.float32)


def test_distance_of_listed_pairs_equals_scipy_for_float32_input() -> None:
    vectors = drawn(6, 5, seed=4)
    expected = [distance.cosine(vectors[0].astype(float), vectors[3].astype(float)), 0.0]
    assert cosine_distances(vectors, [0, 2], [3, 2]) == pytest.approx(expected, abs=1e-12)


def test_distance_of_one_pair_is_that_of_listed_pairs_and_exactly_0_for_equal_embeddings() -> None:
    vectors = drawn(40)
    first, second = np.arange(0, 40, 2), np.arange(1, 40, 2)
    listed = cosine_distances(vectors, first, second)
    single = [cosine_distance(vectors[a], vectors[b]) for a, b in zip(first, second, strict=True)]
    assert single == pytest.approx(listed.tolist(), abs=1e-12)
    assert cosine_distance(vectors[0], vectors[0].copy()) == 0.0
    assert cosine_distance(vectors[0], -vectors[0]) == pytest.approx(2.0)


def test_distance_from_the_mean_is_torchs_and_the_mean_is_taken_before_it_is_given_a_length() -> None:
    generator = np.random.default_rng(0)
    embeddings, normals = generator.normal(size=(7, 5)), generator.normal(size=(4, 5)) * [[1], [10], [1], [1]]
    anchor = torch.tensor(normals).mean(0, keepdim=True)
    expected = 1 - functional.cosine_similarity(torch.tensor(embeddings), anchor)
    assert distances_from_mean(embeddings, normals) == pytest.approx(expected.numpy())
    anchored = distances_from(embeddings.astype(np.float32), normals.mean(axis=0))
    assert anchored.dtype == np.float32
    assert anchored == pytest.approx(expected.numpy(), abs=1e-6)
    with pytest.raises(ValueError, match="K at least 1"):
        distances_from_mean(embeddings, np.empty((0, 5)))


def test_a_scan_without_direction_is_answered_as_an_exported_program_would_and_refused_where_it_is_measured() -> None:
    anchor = drawn(1, 8)[0].astype(np.float64)
    zeros = np.zeros((1, 8), dtype=np.float32)
    expected = 1 - functional.cosine_similarity(torch.tensor(zeros), torch.tensor(anchor, dtype=torch.float32)[None])
    assert distances_from(zeros, anchor).tolist() == expected.tolist() == [1.0]
    assert cosine_distance(anchor, zeros[0]) == 1.0
    assert unit_vector(zeros[0]).tolist() == [0.0] * 8
    for call, said in (
        (lambda: unit_rows(zeros), "first at row 0"),
        (lambda: unit_rows([[1.0, np.nan]]), "not finite"),
        (lambda: unit_rows([1.0, 2.0]), r"must be \(N, E\)"),
        (lambda: distances_from_mean(anchor[None], zeros), "no direction"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_mahalanobis_distance_is_scipys_for_one_scan_and_for_many() -> None:
    vectors = drawn(50, 6).astype(np.float64)
    mean, precision = vectors.mean(axis=0), np.linalg.inv(np.cov(vectors.T))
    expected = [distance.mahalanobis(one, mean, precision) for one in vectors]
    assert mahalanobis_distances(vectors, mean, precision) == pytest.approx(expected)
    assert [mahalanobis_distance(one, mean, precision) for one in vectors] == pytest.approx(expected)
    assert mahalanobis_distance(mean, mean, precision) == 0.0


def test_mahalanobis_distance_with_unit_precision_is_the_euclidean_distance() -> None:
    points = drawn(20, 5)
    found = mahalanobis_distances(points, np.ones(5), np.eye(5))
    np.testing.assert_allclose(found, np.linalg.norm(points - 1, axis=1), rtol=1e-6)
