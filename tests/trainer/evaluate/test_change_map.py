"""The map of the report is that of the held-out pair with the largest told change."""

import numpy as np
import pytest

from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import MODALITY, default_scans, ensemble_recipe, write_store
from tests.trainer.conftest import Finished
from trainer.data.cohort import read_cohort
from trainer.evaluate.change_map import map_largest_change
from trainer.evaluate.measure import Measured, measure_run
from trainer.fit.run import Run
from trainer.fit.train import train_run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("mapped") / "store", default_scans(num_subjects=48, odd=False))


@pytest.fixture(scope="module")
def measured(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    location = Location(tmp_path_factory.mktemp("mapped") / "run")
    recipe = ensemble_recipe(ensemble={"members": 2}, optim={"epochs": 1})
    train_run(recipe, store, location, progress=lambda done, total: None)
    return measure_run(Run.open(location), store, read_cohort(store, MODALITY, "mmse"), num_resamples=0)


def test_the_pair_that_was_told_to_change_most_is_mapped(measured: Measured, store: Store) -> None:
    assert measured.answers is not None
    found = map_largest_change(measured.trained, measured.answers, store)

    assert found is not None
    turn = measured.answers.turns[-1]
    chosen = int(np.abs(turn.improvements_P).argmax())
    assert found.told == turn.improvements_P[chosen]
    assert found.true == turn.pairs.delta_P[chosen]
    later = store.read(int(turn.cohort.rows_N[turn.pairs.later_P[chosen]]), MODALITY)[0]
    np.testing.assert_allclose(found.later_DHW, later / 255, atol=1e-6)
    # Smoothing takes some of it out of a box of 16 voxels.
    voxel_cm3 = store.manifest.recipe.spacing_mm**3 / 1000
    assert 0.5 < found.density_DHW.sum() * voxel_cm3 / found.told < 1.2


def test_a_head_on_embeddings_has_no_map(finished: Finished) -> None:
    cohort = read_cohort(finished.store, MODALITY, "mmse")
    plain = measure_run(finished.run, finished.store, cohort, num_resamples=0)

    assert plain.answers is not None
    assert map_largest_change(plain.trained, plain.answers, finished.store) is None
