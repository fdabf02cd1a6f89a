"""Identity of a cohort's embeddings is brute force over its scans, and a lead is the difference of two of them."""

import numpy as np
import pytest
from scipy.spatial.distance import cosine
from sklearn.metrics import roc_auc_score

from tests.support.cohorts import MODALITY, write_store
from trainer.data.cohort import Cohort, read_cohort
from trainer.evaluate.identity import identity_leads, identity_metrics


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    return read_cohort(write_store(tmp_path_factory.mktemp("store")), MODALITY, "mmse")


def embedded(cohort: Cohort, apart: float) -> np.ndarray:
    generator = np.random.default_rng(0)
    own = {name: apart * generator.normal(size=5) for name in cohort.indices_by_subject}
    return np.stack([own[name] for name in cohort.subject_ids]) + generator.normal(size=(len(cohort), 5))


def by_hand(cohort: Cohort, embeddings: np.ndarray) -> tuple[float, float]:
    """Retrieval@1, and area under the ROC curve; scans of one person and day are in neither."""
    scans = range(len(cohort))
    own, distances, hits = [], [], []
    for a in scans:
        found = {}
        for b in scans:
            same = cohort.subject_ids[a] == cohort.subject_ids[b]
            if a == b or (same and cohort.days_N[a] == cohort.days_N[b]):
                continue
            found[b] = (cosine(embeddings[a], embeddings[b]), same)
            if a < b:
                own.append(same)
                distances.append(found[b][0])
        if any(same for _, same in found.values()):
            hits.append(min(found.values())[1])
    return float(np.mean(hits)), float(roc_auc_score(own, -np.array(distances)))


def test_figures_are_those_of_a_loop_over_all_pairs(cohort: Cohort) -> None:
    embeddings = embedded(cohort, 1.0)
    found = identity_metrics(embeddings, cohort, seed=0, num_resamples=0, prefix="projection_")
    retrieval, area = by_hand(cohort, embeddings)
    assert list(found) == [f"projection_{name}" for name in ("retrieval_at_1", "verification_auc", "verification_eer")]
    assert found["projection_retrieval_at_1"].value == pytest.approx(retrieval)
    assert found["projection_verification_auc"].value == pytest.approx(area)


def test_a_lead_is_the_difference_of_the_two_and_its_interval_is_over_people(cohort: Cohort) -> None:
    sharp, blurred = embedded(cohort, 3.0), embedded(cohort, 0.0)
    leads = identity_leads(sharp, blurred, cohort, seed=0, num_resamples=200)
    for name, one, other in zip(
        ("retrieval_at_1", "verification_auc"), by_hand(cohort, sharp), by_hand(cohort, blurred), strict=True
    ):
        lead = leads[name]
        assert lead.value == pytest.approx(one - other)
        assert lead.low is not None
        assert lead.low > 0
    backwards = identity_leads(blurred, sharp, cohort, seed=0, num_resamples=200)
    assert backwards["verification_auc"].high == pytest.approx(-leads["verification_auc"].low)
