"""Phases follow each other by epoch, each with its own objectives and schedule; runs resume in any of them alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from preprocess.errors import Interrupted, RunError, UsageError
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import MODALITY, default_scans, tiny_recipe, write_store
from tests.support.loops import EXACT, build_loop
from trainer.contradictions import refuse_contradictions
from trainer.data.cohort import read_cohort
from trainer.fit.checkpoint import Checkpoints
from trainer.fit.embedding import embed_cohort
from trainer.fit.loop import Loop
from trainer.fit.phases import Phase, phase_of
from trainer.fit.stop import StopRequest
from trainer.recipe import TrainRecipe

PHASES: list[dict[str, Any]] = [
    {"name": "con", "epochs": 2, "objective": [{"name": "margin_contrast", "normal": 20.0}]},
    {
        "name": "pro",
        "epochs": 2,
        "learning_rate": 1e-4,
        "objective": [
            {"name": "preference", "normal": 20.0, "beta": 5.0, "num_normals": 2},
            {"name": "margin_contrast", "normal": 20.0, "weight": 0.5},
        ],
    },
]


def recipe_of(**changes: Any) -> TrainRecipe:
    return tiny_recipe(**{"objective": [], "phase": PHASES, "data": {"sampling": "scans"}, **changes})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return write_store(tmp_path / "store", default_scans(num_subjects=10, odd=False))


def run(loop: Loop, *, stop_at: int | None = None) -> None:
    stop = StopRequest()

    def progress(done: int, _: int) -> None:
        stop.requested = done == stop_at

    loop.run(stop, None, progress)


def test_an_epochs_phase_is_found_by_counting_and_the_last_never_ends() -> None:
    phases = [Phase("a", 2, []), Phase("b", 1, []), Phase("c", 3, [])]
    assert [phase_of(phases, epoch)[1].name for epoch in range(8)] == list("aabccccc")


def test_each_phase_has_its_own_objectives_and_begins_its_learning_rate_anew(store: Store, tmp_path: Path) -> None:
    recipe = recipe_of()
    loop, _ = build_loop(recipe, store, Location(tmp_path / "run"), seed=0)
    run(loop)
    history = loop.position.history
    assert [entry["phase"] for entry in history] == [0, 0, 1, 1]
    assert ["preference" in entry for entry in history] == [False, False, True, True]
    assert all("margin_contrast" in entry for entry in history)
    assert history[1]["learning_rate"] < 0.1 * recipe.optim.learning_rate
    assert 0 < history[2]["learning_rate"] <= 1e-4
    # Each phase ends its cosine at zero: the schedule has gone to the end of both.
    assert history[3]["learning_rate"] == pytest.approx(0.0, abs=1e-8)


def test_the_anchor_is_the_mean_of_normal_training_scans_under_the_weights_of_the_epochs_start(
    store: Store, tmp_path: Path
) -> None:
    loop, cohort = build_loop(recipe_of(), store, Location(tmp_path / "run"), seed=0)
    per_epoch = len(loop.sampler.batches(0))
    with pytest.raises(Interrupted):
        run(loop, stop_at=2 * per_epoch)
    assert not loop.model.anchor_E.any()
    before = {name: value.clone() for name, value in loop.model.encoder.state_dict().items()}
    with pytest.raises(Interrupted):
        run(loop, stop_at=2 * per_epoch + 1)
    other, _ = build_loop(recipe_of(), store, Location(tmp_path / "other"), seed=1)
    other.model.encoder.load_state_dict(before)
    normal = cohort.at(np.flatnonzero(cohort.scores_N == 20.0).tolist())
    embeddings = embed_cohort(other.model.encoder, store, (MODALITY,), normal, EXACT)
    distances = [
        float((loop.model.anchor_E - torch.from_numpy(embeddings[[i, j]].mean(axis=0))).abs().max())
        for i in range(len(normal))
        for j in range(i)
    ]
    assert min(distances) < 1e-6  # the mean of some two of them: num_normals is 2


@pytest.mark.parametrize("stop_at", [1, 5, 6, 9])
def test_a_run_stopped_in_any_phase_ends_at_the_same_weights(store: Store, tmp_path: Path, stop_at: int) -> None:
    whole, _ = build_loop(recipe_of(), store, Location(tmp_path / "whole"), seed=0)
    run(whole)
    location = Location(tmp_path / "run")
    loop, _ = build_loop(recipe_of(), store, location, seed=0)
    with pytest.raises(Interrupted):
        run(loop, stop_at=stop_at)
    again, _ = build_loop(recipe_of(), store, location, seed=7)
    state = Checkpoints(location, keep=2).load_latest()
    assert state is not None
    again.restore(state)
    run(again)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name


def test_without_a_normal_scan_the_preference_phase_says_so(store: Store, tmp_path: Path) -> None:
    phases = [{**PHASES[1], "objective": [{"name": "preference", "normal": 99.0}]}]
    loop, _ = build_loop(recipe_of(phase=phases), store, Location(tmp_path / "run"), seed=0)
    with pytest.raises(RunError, match=r"no training scan has the score 99, which preference calls normal"):
        run(loop)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objective": [{"name": "info_nce"}]}, "1 objectives and 2 phases"),
        ({"phase": []}, "0 objectives and 0 phases"),
        ({"checkpoint": {"best": "preference"}}, "checkpoint.best is 'preference' and the objectives are margin_contr"),
        (
            {"phase": [], "objective": [{"name": "nt_xent"}]},
            "nt_xent compares two views of a scan, data.views is 1; set data.views = 2",
        ),
        (
            {"phase": [], "objective": [{"name": "chrono_contrast"}]},
            "chrono_contrast orders three visits or more, data.sampling is 'scans'",
        ),
        (
            {"phase": [], "objective": [{"name": "info_nce"}], "data": {"sampling": "pairs", "views": 2}},
            "data.views is 2 and data.sampling is 'pairs'",
        ),
    ],
)
def test_settings_that_starve_an_objective_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        refuse_contradictions(recipe_of(**changes), where="mine.toml")


def test_two_views_are_read_once_and_differ(store: Store, tmp_path: Path) -> None:
    recipe = tiny_recipe(
        objective=[{"name": "nt_xent"}],
        data={"sampling": "scans", "views": 2},
        augment={"noise": 0.1},
        optim={"epochs": 1},
    )
    loop, cohort = build_loop(recipe, store, Location(tmp_path / "run"), seed=0)
    run(loop)
    (entry,) = loop.position.history
    assert entry["volumes"] == len(cohort)
    assert entry["nt_xent"] > 0
    assert len(read_cohort(store, MODALITY, "mmse")) == len(cohort)


def test_visits_of_a_subject_are_ordered_by_day(store: Store, tmp_path: Path) -> None:
    recipe = tiny_recipe(objective=[{"name": "chrono_contrast"}], data={"sampling": "visits"}, optim={"epochs": 1})
    loop, cohort = build_loop(recipe, store, Location(tmp_path / "run"), seed=0)
    for batch in loop.sampler.batches(0):
        assert batch.shape[1] == 3
        assert (np.diff(cohort.days_N[batch], axis=1) > 0).all()
        assert (cohort.subject_codes_N[batch] == cohort.subject_codes_N[batch[:, :1]]).all()
    run(loop)
    assert loop.position.history[0]["chrono_contrast"] > 0
