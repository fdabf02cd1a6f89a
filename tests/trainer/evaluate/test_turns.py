"""Training people are answered by the one member that has not seen them, and calibrated on other people."""

from pathlib import Path

import numpy as np
import pytest
import torch

from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import MODALITY, default_scans, ensemble_recipe, write_store
from trainer.data.cohort import read_cohort
from trainer.evaluate.measure import measure_run
from trainer.evaluate.ridge_control import ridge_controls
from trainer.evaluate.turns import Answers, member_turns
from trainer.fit.precision import Compute
from trainer.fit.run import Run
from trainer.fit.train import train_run
from trainer.fit.trained import load_trained
from trainer.recipe import TrainRecipe

EXACT = Compute(torch.device("cpu"), torch.float32)


def recipe(members: int) -> TrainRecipe:
    return ensemble_recipe(ensemble={"members": members}, split={"validation": 0.15, "test": 0.15})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_store(tmp_path_factory.mktemp("turns") / "store", default_scans(num_subjects=40, odd=False))


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    location = Location(tmp_path_factory.mktemp("turns") / "run")
    train_run(recipe(2), store, location, progress=lambda done, total: None)
    return Run.open(location)


@pytest.fixture(scope="module")
def answers(run: Run, store: Store) -> Answers:
    cohort = read_cohort(store, MODALITY, "mmse")
    measured = measure_run(run, store, cohort, num_resamples=0, in_turns=True)
    assert measured.answers is not None
    return measured.answers


def test_everybody_who_was_not_kept_for_validation_is_answered_once_by_networks_that_have_not_seen_them(
    run: Run, answers: Answers
) -> None:
    answered = [frozenset(turn.cohort.subject_ids) for turn in answers.turns]
    assert len(answered) == 3
    assert sum(map(len, answered)) == len(frozenset.union(*answered))
    assert frozenset.union(*answered) == run.split.of("train") | run.split.of("test")
    assert answered[-1] == run.split.of("test")
    for turn, people in zip(answers.turns, answered, strict=True):
        assert not turn.training & people
        assert turn.training <= run.split.of("train")


def test_answers_are_those_of_the_consecutive_visits_and_as_good_as_the_held_out_ones(answers: Answers) -> None:
    labels_P, told_P = answers.labels_P, answers.improvements_P
    assert len(labels_P) == len(answers.probabilities_P3) == len(answers.table()) == len(answers.delta_P)
    assert told_P is not None
    assert np.corrcoef(told_P, answers.delta_P)[0, 1] > 0.9
    assert (answers.probabilities_P3.argmax(axis=1) == labels_P).mean() > 0.8
    assert (np.sign(answers.delta_P) == np.array([1, 0, -1])[labels_P]).all()


def test_a_single_network_answers_held_out_people_alone(store: Store, tmp_path: Path) -> None:
    location = Location(tmp_path / "run")
    train_run(recipe(1), store, location, progress=lambda done, total: None)
    cohort = read_cohort(store, MODALITY, "mmse")
    assert member_turns(load_trained(Run.open(location), store), store, cohort, EXACT) == ()


def test_the_ridge_answers_every_pair_without_a_network(run: Run, store: Store, answers: Answers) -> None:
    cohort = read_cohort(store, MODALITY, "mmse")
    (control,) = ridge_controls(answers, store, cohort, run.recipe, EXACT)
    assert control.name == "brightness_ridge"  # 12 blocks do not divide an edge of 16 voxels
    assert control.probabilities_P3 is not None
    assert control.probabilities_P3.shape == (len(answers.labels_P), 3)
    np.testing.assert_allclose(control.probabilities_P3.sum(axis=1), 1)
    # The tiny heads' middle is as bright as their score, which a linear model can tell.
    assert control.macro_f1 > 0.8
