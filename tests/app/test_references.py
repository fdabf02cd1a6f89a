"""Distances and percentiles against scipy."""

import io

import numpy as np
import pytest
from scipy.spatial import distance
from scipy.stats import percentileofscore

from app.references import References, parse_references, percentile_rank, stand_among
from preprocess.errors import ArtefactError
from preprocess.manifest import IMAGE_REFERENCE_ARRAYS, Decision
from tests.support.artefacts import decision_part

RNG = np.random.default_rng(5)
WIDTH = 6


def make_arrays() -> dict[str, np.ndarray]:
    return {
        "embeddings_NE": RNG.normal(size=(30, WIDTH)).astype(np.float32),
        "scores_N": np.where(np.arange(30) % 4, np.arange(30), np.nan).astype(np.float32),
        "noise_distances_P": np.asarray([0.3, 0.1, 0.2], np.float32),
        "change_distances_P": np.asarray([], np.float32),
        "ood_mean_E": RNG.normal(size=WIDTH).astype(np.float32),
        "ood_precision_EE": np.diag(RNG.uniform(1, 2, WIDTH)).astype(np.float32),
        "ood_distances_Q": RNG.uniform(1, 4, 500).astype(np.float32),
    }


def parse(arrays: dict[str, np.ndarray], decision: Decision | None = None) -> References:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return parse_references(buffer.getvalue(), name="references.npz", width=WIDTH, decision=decision)


def test_the_distance_from_the_training_scans_is_mahalanobis_distance_as_scipy_has_it():
    arrays = make_arrays()
    scan_E = RNG.normal(size=WIDTH).astype(np.float32)

    found = parse(arrays).out_of_distribution(scan_E)

    expected = distance.mahalanobis(scan_E, arrays["ood_mean_E"], arrays["ood_precision_EE"])
    assert found.distance == pytest.approx(expected, rel=1e-6)
    assert found.percentile == percentileofscore(arrays["ood_distances_Q"], expected, kind="strict")


def test_only_a_scan_beyond_99_percent_of_the_validation_scans_is_outside():
    arrays = make_arrays() | {
        "ood_mean_E": np.zeros(WIDTH, np.float32),
        "ood_precision_EE": np.eye(WIDTH, dtype=np.float32),
        "ood_distances_Q": np.arange(100, dtype=np.float32),
    }
    references = parse(arrays)

    def at(distance_: float) -> bool | None:
        return references.out_of_distribution(np.asarray([distance_] + [0] * 5, np.float32)).is_outside

    assert at(98.5) is False
    assert at(99.0) is False
    assert at(99.5) is True


def test_without_validation_scans_nothing_is_said_of_being_outside():
    references = parse(make_arrays() | {"ood_distances_Q": np.asarray([], np.float32)})

    found = references.out_of_distribution(np.ones(WIDTH, np.float32))

    assert (found.percentile, found.is_outside) == (None, None)


def test_neighbours_are_the_nearest_by_cosine_among_those_with_a_score():
    arrays = make_arrays()
    scan_E = RNG.normal(size=WIDTH).astype(np.float32)
    known = np.flatnonzero(np.isfinite(arrays["scores_N"]))
    nearest = sorted(known, key=lambda row: distance.cosine(scan_E, arrays["embeddings_NE"][row]))[:15]
    scores = arrays["scores_N"][nearest]

    found = parse(arrays).neighbours(scan_E)

    assert found is not None
    assert found.count == 15
    assert found.median_score == np.median(scores)
    assert (found.lower_quartile, found.upper_quartile) == tuple(np.percentile(scores, (25, 75)))
    assert parse(arrays | {"scores_N": np.full(30, np.nan, np.float32)}).neighbours(scan_E) is None


def test_the_place_among_known_pairs_is_numpy_s_and_scipy_s():
    known = np.sort(RNG.uniform(0, 1, 41))

    found = stand_among(known, 0.4)

    assert found is not None
    assert (found.median, found.percentile_95) == tuple(np.percentile(known, (50, 95)))
    assert found.percentile_rank == percentileofscore(known, 0.4, kind="strict") == percentile_rank(known, 0.4)
    assert stand_among(np.asarray([]), 0.4) is None


def test_distances_may_come_in_any_order():
    assert parse(make_arrays()).noise_distances_P == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores_N": np.zeros(29)}, r"scores_N has shape \(29,\), expected \(30,\)"),
        ({"ood_mean_E": np.zeros(5)}, "ood_mean_E has shape"),
        ({"embeddings_NE": np.zeros((30, 5))}, "embeddings_NE has shape"),
        ({"ood_precision_EE": np.full((WIDTH, WIDTH), np.nan)}, "ood_precision_EE holds NaN"),
    ],
)
def test_an_array_that_breaks_the_contract_is_named(change, message):
    with pytest.raises(ArtefactError, match=message):
        parse(make_arrays() | change)


def test_a_missing_array_and_a_file_that_is_no_npz_are_named():
    arrays = make_arrays()
    del arrays["ood_mean_E"]
    with pytest.raises(ArtefactError, match="no array ood_mean_E"):
        parse(arrays)
    with pytest.raises(ArtefactError, match="not a readable npz"):
        parse_references(b"PK\x03\x04 nonsense", name="references.npz", width=WIDTH)


def test_a_pickle_in_the_references_is_not_unpickled():
    arrays = make_arrays() | {"scores_N": np.asarray([{"a": 1}] * 30, dtype=object)}
    with pytest.raises(ArtefactError, match="not a readable npz"):
        parse(arrays)


def image_arrays() -> dict[str, np.ndarray]:
    return {
        "image_mean_DHW": np.zeros((12, 12, 12), np.float32),
        "image_axes_KF": np.ones((2, 1728), np.float32),
        "image_sd_K": np.ones(2, np.float32),
        "visit_precision_KK": np.eye(2, dtype=np.float32),
        "looks_mean_S": np.zeros(30, np.float32),
        "looks_precision_SS": np.eye(30, dtype=np.float32),
        "scanner_precision_SS": np.eye(30, dtype=np.float32),
    }


def test_what_a_decision_rests_on_must_be_there_in_the_right_shape():
    plain = Decision.model_validate(decision_part())
    check = {"name": "layout", "limit": 1.0, "percentile": 99.5, "num": 50}
    checking = Decision.model_validate(decision_part() | {"checks": [check]})
    direction = {"change_direction_E": np.arange(WIDTH, dtype=np.float32)}

    assert parse(make_arrays()).change_direction_E is None
    with pytest.raises(ArtefactError, match="no array change_direction_E"):
        parse(make_arrays(), plain)
    with pytest.raises(ArtefactError, match=r"change_direction_E has shape \(7,\), expected \(6,\)"):
        parse(make_arrays() | {"change_direction_E": np.zeros(7, np.float32)}, plain)
    without_images = parse(make_arrays() | direction, plain)
    np.testing.assert_array_equal(without_images.change_direction_E, np.arange(WIDTH))
    assert without_images.images is None

    with pytest.raises(ArtefactError, match="no array image_axes_KF, image_mean_DHW, image_sd_K"):
        parse(make_arrays() | direction, checking)
    whole = make_arrays() | direction | image_arrays()
    assert image_arrays().keys() == IMAGE_REFERENCE_ARRAYS.keys()
    images = parse(whole, checking).images
    assert images is not None
    assert images.image_axes_KF.shape == (2, 1728)
    with pytest.raises(ArtefactError, match=r"image_axes_KF has shape \(2, 5\), expected \(2, 1728\)"):
        parse(whole | {"image_axes_KF": np.ones((2, 5), np.float32)}, checking)
    with pytest.raises(ArtefactError, match="image_sd_K holds NaN or infinity"):
        parse(whole | {"image_sd_K": np.array([1.0, np.nan], np.float32)}, checking)


def test_ages_of_reference_people_may_be_missing_but_not_half_there():
    decision = Decision.model_validate(decision_part())
    direction = {"change_direction_E": np.arange(WIDTH, dtype=np.float32)}
    aged = {
        "annual_changes_P": np.array([0.5, -2.0, -1.0], np.float32),
        "ages_P": np.array([66, 71, 77], np.float32),
    }

    references = parse(make_arrays() | direction | aged, decision)
    for age, changes in ((71, [-2.0, 0.5]), (72, [-2.0, -1.0]), (40, [])):
        found = references.changes_about(age)
        assert found is not None
        assert found.tolist() == changes
    assert parse(make_arrays() | direction, decision).changes_about(71) is None
    with pytest.raises(ArtefactError, match="no array ages_P"):
        parse(make_arrays() | direction | {"annual_changes_P": aged["annual_changes_P"]}, decision)
    with pytest.raises(ArtefactError, match=r"ages_P has shape \(2,\), expected \(3,\)"):
        parse(make_arrays() | direction | aged | {"ages_P": aged["ages_P"][:2]}, decision)
