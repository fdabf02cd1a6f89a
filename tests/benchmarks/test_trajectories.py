"""The benchmark of trajectories counts what the answers say of the run's unseen people."""

from pathlib import Path

import numpy as np
import pytest

from app.registry import load_artefact
from benchmarks.trajectories import UNSEEN, measure
from preprocess.storage import Location
from tests.support.artefacts import RECIPE, decision_part, write_artefact
from tests.support.cohorts import MODALITY, default_scans, tiny_recipe, write_store
from trainer.data.cohort import read_cohort
from trainer.fit.run import Run
from trainer.fit.train import train_run


@pytest.mark.parametrize(("error_sd", "coverage"), [(1000.0, 1.0), (0.0, None)])
def test_every_unseen_person_with_several_visits_is_answered_once(tmp_path: Path, error_sd, coverage) -> None:
    store = write_store(tmp_path / "store", default_scans(rescans=False, odd=False))
    train_run(tiny_recipe(), store, Location(tmp_path / "run"), progress=lambda done, total: None)
    part = decision_part() | {"error_sd": error_sd}
    artefact = str(write_artefact(tmp_path / "line", decision=part, judges=True))

    found = measure(str(tmp_path / "run"), artefact)

    run = Run.open(Location(tmp_path / "run"))
    people = [person for name in UNSEEN for person in run.split.of(name)]
    assert found["num_people"] == len(people) == sum(found["decisions"].values())
    assert (found["visits"], found["median_span_years"], found["with_percentile"]) == ([3, 3], 2.0, 0.0)
    # By hand: the tiny model tells a fixed direction times the embeddings, the scores fall by their slope.
    model, cohort = load_artefact(artefact), read_cohort(store, MODALITY, "mmse").of_subjects(people)
    assert model.manifest.inputs.volume_recipe == RECIPE
    weights_E = np.linspace(-40.0, 60.0, 8)
    errors = []
    for indices in cohort.indices_by_subject.values():
        volumes = np.stack([store.read(int(row), MODALITY) for row in cohort.rows_N[indices]])
        years = cohort.days_N[indices] / 365.25
        told = np.polyfit(years, model.engine.embed(volumes).astype(np.float64) @ weights_E, 1)[0]
        errors.append(told - np.polyfit(years, cohort.scores_N[indices], 1)[0])
    assert found["error_sd"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), abs=0.006)
    if coverage is None:
        assert found["scatter_larger"] == 1.0
    else:
        assert (found["coverage_95"], found["scatter_larger"]) == (coverage, 0.0)
