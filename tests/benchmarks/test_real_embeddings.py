"""Models of a tiny synthetic cohort embed it and other scans, and what was kept is what is scored."""

import numpy as np
import pytest

from benchmarks.method_runs import Arm
from benchmarks.real_cohorts import RealImages
from benchmarks.real_embeddings import embed_arm
from interscan.synthetic.brain.cohort import write_brain_cohort
from preprocess.engine import preprocess
from preprocess.store import Store
from tests.support.images import RECIPE
from trainer.data.cohort import read_cohort

SETTINGS = ("optim.epochs=1", "split.validation=0.2", "split.test=0.2", "encoder.embedding_width=8")


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    folder = tmp_path_factory.mktemp("heads")
    write_brain_cohort(folder / "raw", num_subjects=10, num_visits=2, spacing_mm=3.5, workers=0)
    preprocess(str(folder / "raw"), str(folder / "store"), RECIPE, workers=0)
    return Store.open(str(folder / "store"))


@pytest.fixture
def others(store) -> RealImages:
    """Stands in for real images: scans of the same store."""
    return RealImages("T1w", (store,), (read_cohort(store, "T1w", "mmse").at([0, 3]),))


@pytest.mark.parametrize("train", [True, False])
def test_what_is_kept_is_read_again_and_holds_every_split(train, store, others, tmp_path) -> None:
    arm = Arm("mse", "mse")
    first = embed_arm(arm, store, others, 0, SETTINGS, train=train, kept_in=tmp_path)
    (kept,) = tmp_path.iterdir()
    written = kept.stat().st_mtime_ns
    again = embed_arm(arm, store, others, 0, SETTINGS, train=train, kept_in=tmp_path)
    assert kept.stat().st_mtime_ns == written
    np.testing.assert_array_equal(first.real_NE, again.real_NE)
    assert first.real_NE.shape == (2, 8)
    assert {name: len(cohort.indices_by_subject) for name, cohort in first.cohorts.items()} == {
        "train": 6, "validation": 2, "test": 2
    }  # fmt: skip
    for name, cohort in first.cohorts.items():
        assert first.embeddings[name].shape == (len(cohort), 8)
        assert first.examples(name).labels_N.tolist() == cohort.scores_N.tolist()
    assert (first.seconds > 0) == train
    # Only a trained model has a head whose scores mean anything.
    assert (first.real_predicted_N is not None) == (first.test_predicted_N is not None) == train
    embed_arm(arm, store, others, 1, SETTINGS, train=train, kept_in=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_an_image_of_the_cohort_is_embedded_as_in_the_cohort(store, others, tmp_path) -> None:
    one = embed_arm(Arm("mse", "mse"), store, others, 0, SETTINGS, train=True, kept_in=tmp_path)
    ids = {subject_id: name for name, cohort in one.cohorts.items() for subject_id in cohort.subject_ids}
    split = ids[others.subject_ids[0]]
    index = one.cohorts[split].rows_N.tolist().index(int(others.cohorts[0].rows_N[0]))
    np.testing.assert_allclose(one.real_NE[0], one.embeddings[split][index], rtol=1e-4, atol=1e-5)
