"""References are embeddings and distances alone, equal to what numpy and scikit-learn make of the same scans."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from preprocess.manifest import REFERENCE_ARRAYS, REFERENCES_NAME
from tests.support.cohorts import MODALITY, default_scans, write_store
from tests.trainer.conftest import Finished
from trainer.data.cohort import Cohort, read_cohort
from trainer.export.references import build_references


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
