"""Measuring gives the metrics of the written evaluation, with its intervals or without, and writes nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from preprocess.errors import RunError
from preprocess.storage import Location
from tests.support.cohorts import default_scans, tiny_recipe, write_store
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
    # The untrained network is measured by `evaluate` alone.
    listed = {name: one for name, one in expected.items() if not name.startswith("untrained_")}
    assert full.metrics == listed
    assert len(listed) < len(expected)
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


def test_macro_f1_by_scanner_is_that_of_the_pairs_of_each_kind(
    tmp_path: Path, silent: Callable[[int, int], None]
) -> None:
    scans = [
        replace(scan, scanner="" if scan.subject_id == "sub-01" else "AB"[int(scan.day == 730.0)])
        for scan in default_scans(num_subjects=15, odd=False)
    ]
    store, recipe = write_store(tmp_path / "store", scans), tiny_recipe(split={"test": 0.5}, optim={"epochs": 1})
    train_run(recipe, store, Location(tmp_path / "run"), progress=silent)
    run = Run.open(Location(tmp_path / "run"))
    measured = measure_run(run, store, cohort_of(store, recipe.data, "mmse"), num_resamples=20)
    found, labelled = measured.metrics, measured.held_out.labelled
    num_known = len(run.split.of("test") - {"sub-01"})
    assert found["same_scanner_macro_f1"].num == found["changed_scanner_macro_f1"].num == num_known
    assert measured.probabilities_P3 is not None
    guess_P = measured.probabilities_P3.argmax(axis=1)
    scanners = np.array(measured.held_out.cohort.scanners)
    changed_P = scanners[labelled.later_P] == "B"  # the third visit, after one on scanner A
    for name, rows in (("changed_scanner_macro_f1", changed_P), ("same_scanner_macro_f1", ~changed_P)):
        rows = rows & (scanners[labelled.later_P] != "")
        truth, classes = labelled.labels_P[rows], np.unique(labelled.labels_P[rows])
        expected = f1_score(truth, guess_P[rows], labels=classes, average="macro", zero_division=0)
        assert found[name].value == pytest.approx(expected)
    assert ("left out" in found["changed_scanner_macro_f1"].note) == ("sub-01" in run.split.of("test"))


def test_weights_that_were_deleted_are_named(finished: Finished, tmp_path: Path) -> None:
    run = finished.copy_to(tmp_path / "run")
    cohort = cohort_of(finished.store, finished.recipe.data, finished.recipe.outcome.name)
    drop_weights(run.location)
    with pytest.raises(RunError, match=r"model\.pt: not there"):
        measure_run(run, finished.store, cohort)
