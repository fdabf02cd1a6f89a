"""Distances from normal and their rank among grades against scipy, and references that contradict themselves."""

import numpy as np
import pytest
from scipy.spatial import distance
from scipy.stats import percentileofscore

from app.severity import SeverityReferences, parse_severity
from preprocess.errors import ArtefactError

RNG = np.random.default_rng(9)
WIDTH = 6


def make_arrays() -> dict[str, np.ndarray]:
    embeddings = RNG.normal(size=(20, WIDTH)).astype(np.float32)
    return {
        "embeddings_NE": embeddings,
        "anchor_E": embeddings[[2, 5, 7]].mean(axis=0),
        "normal_places_K": np.array([2, 5, 7]),
        "normal_rows_K": np.array([20, 50, 70]),
        "validation_distances_V": RNG.uniform(0, 2, 31).astype(np.float32),
        "validation_grades_V": (np.arange(31) % 3).astype(np.float32),
    }


def parse(arrays: dict[str, np.ndarray]) -> SeverityReferences:
    return parse_severity(arrays, name="references.npz", tolerance=1e-5)


def test_severity_is_scipys_cosine_distance_from_the_anchor():
    arrays = make_arrays()
    scans = RNG.normal(size=(9, WIDTH)).astype(np.float32)

    found = parse(arrays).distances(scans)

    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [distance.cosine(scan, arrays["anchor_E"]) for scan in scans], atol=1e-6)


def test_severity_stays_between_0_and_2():
    arrays = make_arrays()
    scans = np.stack([arrays["anchor_E"] * 3, arrays["anchor_E"] * -7, np.zeros(WIDTH, np.float32)])

    found = parse(arrays).distances(scans)

    np.testing.assert_allclose(found, [0, 2, 1], atol=1e-6)
    assert found.min() >= 0
    assert found.max() <= 2


def test_each_grade_is_summed_up_and_ranked_as_numpy_and_scipy_do():
    arrays = make_arrays()

    found = parse(arrays).grades(0.8)

    assert [one.grade for one in found] == [0, 1, 2]
    for one in found:
        own = arrays["validation_distances_V"][arrays["validation_grades_V"] == one.grade].astype(float)
        assert one.count == len(own)
        assert (one.lower_quartile, one.median, one.upper_quartile) == tuple(np.percentile(own, (25, 50, 75)))
        assert one.percentile_rank == pytest.approx(percentileofscore(own, 0.8, kind="strict"))


def test_without_validation_scans_there_is_no_grade():
    none = {"validation_distances_V": np.zeros(0, np.float32), "validation_grades_V": np.zeros(0, np.float32)}

    assert parse(make_arrays() | none).grades(0.5) == []


@pytest.mark.parametrize("name", ["anchor_E", "normal_places_K", "normal_rows_K", "validation_grades_V"])
def test_a_missing_array_is_named(name):
    arrays = make_arrays()
    del arrays[name]

    with pytest.raises(ArtefactError, match=f"no array {name}"):
        parse(arrays)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"anchor_E": np.zeros(5, np.float32)}, r"anchor_E has shape \(5,\), expected \(6,\)"),
        ({"normal_rows_K": np.array([1])}, r"normal_rows_K has shape \(1,\), expected \(3,\)"),
        ({"validation_grades_V": np.zeros(3, np.float32)}, "validation_grades_V has shape"),
        ({"anchor_E": np.full(WIDTH, np.nan, np.float32)}, "anchor_E holds NaN"),
        ({"validation_distances_V": np.full(31, np.inf, np.float32)}, "validation_distances_V holds NaN or infinity"),
        ({"normal_places_K": np.array([2, 5, 20])}, "normal_places_K are not indices of embeddings_NE"),
        ({"normal_places_K": np.array([2, 5, -1])}, "normal_places_K are not indices"),
        ({"normal_places_K": np.array([2.0, 5.0, 7.0])}, "normal_places_K are not indices"),
        ({"normal_places_K": np.zeros(0, int), "normal_rows_K": np.zeros(0, int)}, "normal_places_K are not indices"),
        ({"normal_places_K": np.array([2, 5, 8])}, "anchor_E differs by .* from the mean of its 3 normal scans"),
        ({"anchor_E": np.zeros(WIDTH, np.float32)}, "anchor_E differs by"),
    ],
)
def test_references_that_contradict_themselves_are_refused(change, message):
    with pytest.raises(ArtefactError, match=message):
        parse(make_arrays() | change)
