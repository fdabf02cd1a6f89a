"""Measuring gives the metrics of the written evaluation, with its intervals or without, and writes nothing."""

from collections.abc import Callable
from pathlib import Path

import pytest

from preprocess.errors import RunError
from preprocess.storage import Location
from tests.support.cohorts import tiny_recipe
from tests.trainer.conftest import Finished
from trainer.evaluate.measure import measure_run
from trainer.evaluate.run import METRICS_NAME
from trainer.fit.context import cohort_of
from trainer.fit.run import Run, drop_weights
from trainer.fit.train import train_run
from trainer.metrics.evaluation import Evaluation


def test_metrics_are_those_of_the_evaluation_and_nothing_is_written(finished: Finished, evaluated: Finished) -> None:
    expected = Evaluation.model_validate_json(evaluated.run.location.read(METRICS_NAME)).metrics
    cohort = cohort_of(finished.store, finished.recipe.data, finished.recipe.outcome.name)
    before = finished.run.location.names()
    full = measure_run(finished.run, finished.store, cohort)
    assert full.metrics == expected
    assert full.probabilities_P3 is not None
    assert full.probabilities_P3.shape == (len(full.held_out.labelled), 3)
    assert finished.run.location.names() == before


def test_without_resampling_every_metric_stays_and_every_interval_goes(
    finished: Finished, tmp_path: Path, silent: Callable[[int, int], None]
) -> None:
    recipe = tiny_recipe(split={"test": 0.5}, optim={"epochs": 1})
    train_run(recipe, finished.store, Location(tmp_path / "run"), progress=silent)
    run = Run.open(Location(tmp_path / "run"))
    cohort = cohort_of(finished.store, recipe.data, recipe.outcome.name)
    full, bare = (measure_run(run, finished.store, cohort, num_resamples=num).metrics for num in (50, 0))
    assert full.keys() == bare.keys()
    assert {"macro_f1", "accuracy", "mae", "retrieval_at_1", "stranger_correlation"} <= {
        name for name, metric in full.items() if metric.low is not None
    }
    for name, metric in bare.items():
        assert (metric.value, metric.chance, metric.num) == (full[name].value, full[name].chance, full[name].num)
        assert metric.low is metric.high is None


def test_weights_that_were_deleted_are_named(finished: Finished, tmp_path: Path) -> None:
    run = finished.copy_to(tmp_path / "run")
    cohort = cohort_of(finished.store, finished.recipe.data, finished.recipe.outcome.name)
    drop_weights(run.location)
    with pytest.raises(RunError, match=r"model\.pt: not there"):
        measure_run(run, finished.store, cohort)
