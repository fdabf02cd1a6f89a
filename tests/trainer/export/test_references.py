"""References are embeddings and distances alone, equal to what numpy and scikit-learn make of the same scans."""

import io
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from preprocess.manifest import AGE_REFERENCE_ARRAYS, REFERENCE_ARRAYS, REFERENCES_NAME, OutcomeSpec
from tests.support.cohorts import MODALITY, TinyScan, default_scans, write_store
from tests.trainer.conftest import Finished
from trainer.data.cohort import Cohort, read_cohort
from trainer.export.references import age_references, build_references


@pytest.fixture
def parts(finished: Finished) -> tuple[Cohort, np.ndarray, Cohort, np.ndarray]:
    cohort = read_cohort(finished.store, MODALITY, "mmse")
    draws = np.random.default_rng(0)
    training, validation = (cohort.of_subjects(finished.run.split.of(part)) for part in ("train", "validation"))
    embed = [draws.normal(size=(len(part), 4)).astype(np.float32) for part in (training, validation)]
    return training, embed[0], validation, embed[1]


def distance(first: np.ndarray, second: np.ndarray) -> float:
    return float(1 - first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def test_exactly_the_documented_arrays_in_float32(finished: Finished, parts) -> None:
    found = build_references(finished.recipe, *parts)
    assert found.keys() == REFERENCE_ARRAYS.keys()
    for name, array in found.items():
        assert array.dtype == np.float32
        assert REFERENCE_ARRAYS[name].startswith("float32")
        assert array.ndim == len(name.rpartition("_")[2])
        assert name == "scores_N" or np.isfinite(array).all()
    np.testing.assert_array_equal(found["embeddings_NE"], parts[1])
    np.testing.assert_array_equal(found["scores_N"], parts[0].scores_N.astype(np.float32))


def test_noise_and_change_are_the_distances_of_rescans_and_of_consecutive_visits(finished: Finished, parts) -> None:
    found = build_references(finished.recipe, *parts)
    noise, change = [], []
    for cohort, embeddings in (parts[:2], parts[2:]):
        for indices in cohort.indices_by_subject.values():
            days = sorted({cohort.days_N[index] for index in indices if not np.isnan(cohort.days_N[index])})
            by_day = [[index for index in indices if cohort.days_N[index] == day] for day in days]
            noise += [distance(embeddings[a], embeddings[b]) for own in by_day for a in own for b in own if a < b]
            change += [distance(embeddings[a[0]], embeddings[b[0]]) for a, b in pairwise(by_day)]
    assert noise
    np.testing.assert_allclose(found["noise_distances_P"], sorted(noise), atol=1e-6)
    np.testing.assert_allclose(found["change_distances_P"], sorted(change), atol=1e-6)


def test_the_distribution_is_scikit_learns_shrunk_covariance(finished: Finished, parts) -> None:
    found = build_references(finished.recipe, *parts)
    fitted = LedoitWolf().fit(parts[1])
    np.testing.assert_allclose(found["ood_precision_EE"], fitted.precision_, rtol=1e-4)
    np.testing.assert_allclose(found["ood_mean_E"], fitted.location_, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found["ood_distances_Q"], np.sort(np.sqrt(fitted.mahalanobis(parts[3]))), rtol=1e-4)


def test_a_cohort_without_rescans_has_an_empty_noise_floor(tmp_path: Path, finished: Finished) -> None:
    store = write_store(tmp_path, default_scans(rescans=False, odd=False))
    cohort = read_cohort(store, MODALITY, "mmse")
    embeddings = np.random.default_rng(0).normal(size=(len(cohort), 4)).astype(np.float32)
    found = build_references(finished.recipe, cohort, embeddings, cohort, embeddings)
    assert found["noise_distances_P"].shape == (0,)
    assert len(found["change_distances_P"]) > 0


def test_no_name_of_a_subject_or_session_leaves_in_the_references(artefact: Path) -> None:
    data = (artefact / REFERENCES_NAME).read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        assert set(arrays.files) == REFERENCE_ARRAYS.keys()
        contents = b"".join(arrays[name].tobytes() for name in arrays.files)
    for scan in default_scans():
        for name in (scan.subject_id, scan.session_id):
            assert name.encode() not in data
            assert name.encode() not in contents


MMSE = OutcomeSpec(name="mmse", higher_is_better=True, threshold=2.0)


def test_changes_a_year_are_polyfits_of_each_persons_scores_at_the_age_of_the_first(tmp_path: Path) -> None:
    days = [0.0, 300.0, 800.0]
    scores = {"sub-a": [28.0, 27.0, 22.0], "sub-b": [20.0, 24.0, 23.0], "sub-c": [30.0, 30.0, 30.0]}
    first_ages = {"sub-a": 71.4, "sub-b": 64.8, "sub-c": 80.0}
    scans = [
        TinyScan(who, f"ses-{number}", day, score)
        for who, own in scores.items()
        for number, (day, score) in enumerate(zip(days, own, strict=True))
    ]
    scans += [
        TinyScan("sub-short", "ses-1", 0.0, 30.0),  # less than half a year
        TinyScan("sub-short", "ses-2", 90.0, 20.0),
        TinyScan("sub-once", "ses-1", 0.0, 25.0),
        TinyScan("sub-ageless", "ses-1", 0.0, 25.0),
        TinyScan("sub-ageless", "ses-2", 900.0, 25.0),
        TinyScan("sub-a", "ses-9", None, 3.0),  # without a day
        TinyScan("sub-b", "ses-9", 5000.0, None),  # without a score
    ]
    aged = [
        scan
        if scan.subject_id == "sub-ageless"
        else replace(scan, age=first_ages.get(scan.subject_id, 70.0) + (scan.day or 0) / 365.25)
        for scan in scans
    ]
    store = write_store(tmp_path / "store", aged)
    training = read_cohort(store, MODALITY, "mmse")

    found = age_references(store, training, MMSE)

    assert found.keys() == AGE_REFERENCE_ARRAYS.keys()
    slopes = {who: np.polyfit(np.array(days) / 365.25, own, 1)[0] for who, own in scores.items()}
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(found["ages_P"], [65, 71, 80])
    np.testing.assert_allclose(
        found["annual_changes_P"], [slopes["sub-b"], slopes["sub-a"], slopes["sub-c"]], atol=1e-5
    )
    lower_is_better = MMSE.model_copy(update={"higher_is_better": False})
    np.testing.assert_array_equal(
        age_references(store, training, lower_is_better)["annual_changes_P"], -found["annual_changes_P"]
    )
    assert len(age_references(store, training.of_subjects(["sub-a"]), MMSE)["ages_P"]) == 1


def test_a_store_without_ages_gives_no_changes_a_year(finished: Finished, parts) -> None:
    assert age_references(finished.store, parts[0], finished.recipe.outcome) == {}
