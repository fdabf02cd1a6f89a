"""The untrained control is the network of the run's first weights, measured as the run is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import MODALITY, default_scans, tiny_recipe, write_store
from tests.support.visits import visit_recipe, write_visits
from tests.trainer.conftest import Finished
from trainer.data.cohort import read_cohort
from trainer.encoders.visits import VisitEncoder
from trainer.evaluate.measure import Measured, measure_run
from trainer.evaluate.run import METRICS_NAME
from trainer.evaluate.untrained import Untrained, measure_untrained, untrained
from trainer.fit.context import cohort_of
from trainer.fit.embedding import embed_visits
from trainer.fit.model import new_model
from trainer.fit.precision import Compute
from trainer.fit.run import Run
from trainer.fit.train import train_run
from trainer.fit.trained import load_trained
from trainer.metrics.evaluation import Evaluation
from trainer.recipe import TrainRecipe

UNMOVED: dict[str, Any] = {"optim": {"epochs": 1, "learning_rate": 1e-12}, "encoder": {"norm": "group"}}
"""A run that ends with its first weights: steps of 1e-12 are lost in float32, and group norm keeps no statistics."""


def measured(
    store: Store, folder: Path, recipe: TrainRecipe, silent: Callable[[int, int], None]
) -> tuple[Measured, Untrained]:
    train_run(recipe, store, Location(folder), progress=silent)
    cohort = cohort_of(store, recipe.data, recipe.outcome.name)
    found = measure_run(Run.open(Location(folder)), store, cohort, num_resamples=50)
    return found, measure_untrained(found, store, cohort, num_resamples=50)


def test_a_run_that_training_has_not_moved_is_its_own_control(
    tmp_path: Path, silent: Callable[[int, int], None]
) -> None:
    store = write_store(tmp_path / "store", default_scans(num_subjects=15))
    run, control = measured(store, tmp_path / "run", tiny_recipe(**UNMOVED, split={"test": 0.4}), silent)
    alike = [name for name in control.control.scores if not name.startswith(("mae", "spearman"))]
    assert {"macro_f1", "log_loss", "retrieval_at_1", "verification_auc", "stranger_correlation"} <= set(alike)
    for name in alike:
        if run.metrics[name].value is None:
            assert control.control.scores[name].value is None
            continue
        assert control.control.scores[name].value == pytest.approx(run.metrics[name].value, rel=1e-3, abs=1e-6), name
    assert control.control.lead is not None
    assert (control.control.lead.value, control.control.lead.low, control.control.lead.high) == (0, 0, 0)
    assert control.control.leads["retrieval_at_1"].value == 0
    assert control.control.leads["verification_auc"].value == pytest.approx(0, abs=1e-6)


def test_its_embeddings_are_those_of_a_new_encoder_of_the_seed(finished: Finished) -> None:
    cohort = read_cohort(finished.store, MODALITY, "mmse").of_subjects(finished.run.split.of("test"))
    network = untrained(load_trained(finished.run, finished.store), finished.store, cohort_of(
        finished.store, finished.recipe.data, "mmse"))  # fmt: skip
    stored = np.stack([finished.store.read(int(row), MODALITY) for row in cohort.rows_N]).astype(np.float32) / 255
    encoder = new_model(finished.recipe, finished.store).encoder.eval()
    with torch.no_grad():
        assert torch.equal(network.encoder(torch.from_numpy(stored)), encoder(torch.from_numpy(stored)))
    trained = load_trained(finished.run, finished.store).encoder
    assert not torch.equal(next(trained.parameters()), next(network.encoder.parameters()))
    assert network.score_head is None
    assert network.projector is None


def test_an_evaluation_lists_it_among_its_metrics_and_its_controls(evaluated: Finished) -> None:
    found = Evaluation.model_validate_json(evaluated.run.location.read(METRICS_NAME))
    (control,) = (one for one in found.controls if one.name == "untrained")
    for name in ("retrieval_at_1", "verification_auc", "verification_eer", "macro_f1"):
        assert found.metrics[f"untrained_{name}"] == control.scores[name]
        assert control.scores[name].num == found.metrics[name].num
    assert set(control.leads) == {"retrieval_at_1", "verification_auc"}
    for name, lead in control.leads.items():
        assert lead.value == pytest.approx(found.metrics[name].value - control.scores[name].value)
    assert control.lead is not None
    assert control.lead.value == pytest.approx(found.metrics["macro_f1"].value - control.scores["macro_f1"].value)
    # The recipe trains the projector by InfoNCE.
    assert found.metrics["projection_verification_auc"].num == found.metrics["verification_auc"].num


def test_weights_from_a_file_are_not_those_of_the_control(tmp_path: Path, silent: Callable[[int, int], None]) -> None:
    store = write_store(tmp_path / "store", default_scans(odd=False))
    other = new_model(tiny_recipe(seed=5), store).encoder
    torch.save(other.state_dict(), tmp_path / "weights.pt")
    recipe = tiny_recipe(optim={"epochs": 1}, encoder={"initial_weights": str(tmp_path / "weights.pt")})
    train_run(recipe, store, Location(tmp_path / "run"), progress=silent)
    (tmp_path / "weights.pt").unlink()
    trained = load_trained(Run.open(Location(tmp_path / "run")), store)
    found = untrained(trained, store, cohort_of(store, recipe.data, recipe.outcome.name)).encoder
    expected = new_model(tiny_recipe(), store).encoder
    assert all(torch.equal(one, two) for one, two in zip(found.parameters(), expected.parameters(), strict=True))


def test_a_probe_reads_it_where_the_target_is_a_score(tmp_path: Path, silent: Callable[[int, int], None]) -> None:
    store = write_store(tmp_path / "store", default_scans(num_subjects=15, odd=False))
    changes = {"task": "regression", "objective": [{"name": "learner"}], "data": {"sampling": "scans"}}
    run, control = measured(store, tmp_path / "run", tiny_recipe(**UNMOVED, **changes), silent)
    assert control.control.scores["probe_mae"].value == pytest.approx(run.metrics["probe_mae"].value, rel=1e-4)
    assert control.control.lead is None
    assert "untrained_macro_f1" not in control.metrics


def test_two_classes_are_told_by_a_head_fitted_on_its_standardised_modalities(
    tmp_path: Path, silent: Callable[[int, int], None]
) -> None:
    store = write_visits(tmp_path / "store")
    recipe = visit_recipe(split={"validation": 0.2, "test": 0.4})
    run, control = measured(store, tmp_path / "run", recipe, silent)
    cohort = cohort_of(store, recipe.data, recipe.outcome.name)
    network = untrained(run.trained, store, cohort)
    assert isinstance(network.encoder, VisitEncoder)
    assert isinstance(run.trained.encoder, VisitEncoder)
    for name in network.encoder.standardised:
        assert torch.equal(network.encoder.get_buffer(f"{name}_mean"), run.trained.encoder.get_buffer(f"{name}_mean"))
    held = cohort.of_subjects(run.trained.run.split.of("test"))
    exact = Compute(torch.device("cpu"), torch.float32)
    probability = network.class_probability(embed_visits(network.encoder, store, held, exact))
    assert control.control.scores["class_auc"].value == pytest.approx(roc_auc_score(held.scores_N, probability))
    assert control.control.leads == {}
