"""From a cohort with ages over training and export to the trajectory of a person whom the model has not seen."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from interscan import load_artefact, predict_pair, predict_trajectory
from preprocess.manifest import AGE_REFERENCE_ARRAYS, REFERENCES_NAME
from preprocess.storage import Location
from tests.support.cohorts import MODALITY, default_scans, tiny_recipe, write_store
from trainer.evaluate.run import evaluate_run
from trainer.export.artefact import export_run
from trainer.fit.run import Run
from trainer.fit.train import train_run


@pytest.mark.slow
def test_an_unseen_person_is_told_a_change_a_year_among_people_of_that_age(tmp_path: Path) -> None:
    scans = [replace(scan, age=70.0) for scan in default_scans(num_subjects=60, odd=False)]
    store = write_store(tmp_path / "store", scans)
    recipe = tiny_recipe(
        objective=[{"name": "learner", "variant": "mse"}, {"name": "pair_change", "weight": 3.0}],
        head={"on": "score"},
        ensemble={"members": 2},
        encoder={"name": "fast"},
        optim={"epochs": 1},
    )
    train_run(recipe, store, Location(tmp_path / "run"), progress=lambda done, total: None)
    run = Run.open(Location(tmp_path / "run"))
    evaluate_run(run)
    export_run(run, Location(tmp_path / "model"))
    model = load_artefact(tmp_path / "model")
    person = min(run.split.of("test"))
    visits = sorted(
        (record.day, record.row) for record in store.records if record.person == person and record.run == ""
    )
    days, volumes = [day for day, _ in visits], [store.read(row, MODALITY) for _, row in visits]

    answer = predict_trajectory(model, volumes, days, age=72, accept_unproven=True)

    pairs = [predict_pair(model, volumes[0], volume).predicted_change for volume in volumes[1:]]
    told = [0.0, *(pair.points for pair in pairs if pair is not None)]
    assert answer.annual_change is not None
    assert answer.annual_change.points_per_year == pytest.approx(np.polyfit(np.array(days) / 365.25, told, 1)[0])
    assert [visit.told_change for visit in answer.visits] == pytest.approx(told, abs=1e-9)
    # Training people change by -3, 0 or 3 points from visit to visit, 365 days apart.
    known = answer.percentile_for_age
    assert known is not None
    assert known.num_people == len(run.split.of("train")) >= 30
    with np.load(io.BytesIO((tmp_path / "model" / REFERENCES_NAME).read_bytes())) as arrays:
        assert AGE_REFERENCE_ARRAYS.keys() <= set(arrays.files)
        assert set(np.round(arrays["annual_changes_P"] * 365 / 365.25, 3)) == {-3.0, 0.0, 3.0}
        assert set(arrays["ages_P"]) == {70.0}
