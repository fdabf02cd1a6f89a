"""A threshold that is fitted comes from the training subjects alone, and every part of the run states the same one."""

import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from preprocess.errors import Interrupted, RunError, UsageError
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import TinyScan, default_scans, tiny_recipe, write_store
from trainer.evaluate.run import evaluate_run
from trainer.export.artefact import export_run
from trainer.fit.run import Run
from trainer.fit.train import train_run

Progress = Callable[[int, int], None]
TERTILES = tiny_recipe(head={"threshold": "tertiles"}, objective=[{"name": "learner", "variant": "weighted"}])


def graded_scans() -> list[TinyScan]:
    """Scores whose changes all differ in size, so that a third is a third."""
    scans = default_scans(num_subjects=15, odd=False, rescans=False)
    scores = np.random.default_rng(4).uniform(14, 26, len(scans))
    return [replace(scan, score=float(score)) for scan, score in zip(scans, scores, strict=True)]


def sizes_of(scans: list[TinyScan], subjects: set[str]) -> np.ndarray:
    """|change| between neighbouring visits of these subjects, by a loop."""
    found = []
    for subject in subjects:
        visits = sorted((scan for scan in scans if scan.subject_id == subject), key=lambda scan: scan.day)
        found += [abs(later.score - earlier.score) for earlier, later in pairwise(visits)]
    return np.array(found)


@pytest.fixture(scope="module")
def scans() -> list[TinyScan]:
    return graded_scans()


@pytest.fixture(scope="module")
def trained(scans: list[TinyScan], tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Location]:
    folder = tmp_path_factory.mktemp("tertiles")
    store = write_store(folder / "store", scans)
    train_run(TERTILES, store, Location(folder / "run"), progress=lambda done, total: None)
    return store, Location(folder / "run")


def test_the_record_states_numpys_quantile_of_the_training_subjects(
    scans: list[TinyScan], trained: tuple[Store, Location]
) -> None:
    record = json.loads(trained[1].read("run.json"))
    outcome, training = record["recipe"]["outcome"], set(record["split"]["train"])
    sizes = sizes_of(scans, training)
    assert outcome["threshold"] == np.quantile(sizes, 1 / 3, method="higher")
    assert outcome["threshold"] != TERTILES.outcome.threshold
    assert outcome["source"] == f"tertiles of {len(sizes)} training pairs of {len(training)} subjects"
    assert abs((sizes < outcome["threshold"]).mean() - 1 / 3) <= 1 / (3 * len(sizes)) + 1e-12


def test_scores_of_subjects_that_do_not_train_do_not_change_it(
    scans: list[TinyScan], trained: tuple[Store, Location], tmp_path: Path, silent: Progress
) -> None:
    run = Run.open(trained[1])
    others = [
        scan if scan.subject_id in run.split.of("train") else replace(scan, score=scan.score * 7 + scan.day)
        for scan in scans
    ]
    store = write_store(tmp_path / "store", others)
    train_run(TERTILES, store, Location(tmp_path / "run"), progress=silent)
    other = Run.open(Location(tmp_path / "run"))
    assert other.split == run.split
    assert other.recipe.outcome == run.recipe.outcome


def test_evaluation_and_artefact_state_the_same_number(trained: tuple[Store, Location], tmp_path: Path) -> None:
    run = Run.open(trained[1])
    outcome = run.recipe.outcome
    evaluation = evaluate_run(run)
    assert f"by at least {outcome.threshold:g} ({outcome.source}) between" in evaluation.notes[0]
    manifest = export_run(run, Location(tmp_path / "artefact"))
    assert manifest.outcome == outcome


def test_a_run_that_was_cut_off_resumes_and_a_finished_one_is_found_finished(
    trained: tuple[Store, Location], tmp_path: Path, silent: Progress
) -> None:
    store, finished = trained
    location = Location(tmp_path / "run")

    def cut(done: int, total: int) -> None:
        if done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted):
        train_run(TERTILES, store, location, progress=cut)
    train_run(TERTILES, store, location, progress=silent)
    ended, _ = Run.open(location).load_model()
    expected, _ = Run.open(finished).load_model()
    assert all(np.array_equal(ended["encoder"][name], expected["encoder"][name]) for name in expected["encoder"])
    # Also by the recipe that the run wrote down, with the number in it.
    assert train_run(Run.open(location).recipe, store, location, progress=silent) == Run.open(location).result()


def test_a_scalar_beside_tertiles_is_overruled_and_a_fixed_one_is_another_recipe(
    trained: tuple[Store, Location], silent: Progress
) -> None:
    store, location = trained
    scalar = TERTILES.model_copy(update={"outcome": TERTILES.outcome.model_copy(update={"threshold": 9.0})})
    assert train_run(scalar, store, location, progress=silent) == Run.open(location).result()
    fixed = tiny_recipe(objective=[{"name": "learner", "variant": "weighted"}])
    with pytest.raises(RunError, match=r"outcome\.threshold was .* and is 2\.0"):
        train_run(fixed, store, location, progress=silent)


def test_without_changes_tertiles_are_refused_and_leave_no_run_behind(tmp_path: Path, silent: Progress) -> None:
    scans = [replace(scan, score=20.0 + int(scan.subject_id[-2:])) for scan in default_scans(odd=False)]
    store = write_store(tmp_path / "store", scans)
    location = Location(tmp_path / "run")
    with pytest.raises(UsageError, match=r"of which 0 changed; .* set head\.threshold = 'fixed'") as raised:
        train_run(TERTILES, store, location, progress=silent)
    assert "\n" not in str(raised.value)
    assert location.names() == []
