"""Validation metrics are those of the cohort's embeddings, in its order, with what checkpoint.best may name."""

from pathlib import Path

import numpy as np
import pytest
import torch

from preprocess.errors import UsageError
from preprocess.storage import Location
from tests.support.cohorts import MODALITY, default_scans, tiny_recipe, write_store
from tests.support.loops import EXACT, build_loop
from trainer.data.cohort import read_cohort
from trainer.fit.model import TrainingModel, new_model
from trainer.fit.stop import StopRequest
from trainer.fit.supply import Supply, SupplyOptions
from trainer.fit.validation import validation_figures, validation_metrics
from trainer.objectives.base import ScoreStatistics


def test_validation_sees_embeddings_in_the_cohorts_order_and_adds_its_metrics(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", default_scans(num_subjects=8, odd=False))
    cohort = read_cohort(store, MODALITY, "mmse")
    seen: list[np.ndarray] = []

    def score(_: TrainingModel, embeddings_NE: np.ndarray) -> dict[str, float]:
        seen.append(embeddings_NE)
        return {"count": float(len(embeddings_NE))}

    with Supply(store, (MODALITY,), num_volumes=len(cohort), options=SupplyOptions(), compute=EXACT) as supply:
        metrics = validation_metrics(supply, cohort, EXACT, [score])
        loop, _ = build_loop(tiny_recipe(), store, Location(tmp_path / "run"), seed=0, validate=metrics)
        loop.run(StopRequest(), None, lambda done, total: None)
    assert [entry["count"] for entry in loop.position.history] == [float(len(cohort))] * 2
    loop.model.eval()
    row = int(cohort.rows_N[5])
    volume = torch.from_numpy(store.read(row, MODALITY).astype(np.float32) / 255)[None]
    with torch.no_grad():
        np.testing.assert_allclose(seen[-1][5], loop.model.encoder(volume)[0].numpy(), atol=1e-5)


ON_SCORE = tiny_recipe(objective=[{"name": "learner", "variant": "mse"}], head={"on": "score"})
STATISTICS = ScoreStatistics(mean=20.0, sd=4.0, range=10.0)


def test_the_change_error_is_that_of_consecutive_visits_in_points(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", default_scans(num_subjects=4, odd=False, rescans=False))
    cohort = read_cohort(store, MODALITY, "mmse")
    model = new_model(ON_SCORE, store)
    # One number a scan, so that the true score can be its embedding but for a known error at every last visit.
    scores_N = np.array(cohort.scores_N)
    wrong_N = np.where(np.array(cohort.days_N) > 700, 1.5, 0.0)
    embeddings_NE = np.zeros((len(cohort), model.score_head.linear.in_features), dtype=np.float32)
    embeddings_NE[:, 0] = (scores_N + wrong_N) / STATISTICS.sd
    with torch.no_grad():
        model.score_head.linear.weight.zero_()
        model.score_head.linear.weight[0, 0] = 1.0

    found = [figure(model, embeddings_NE) for figure in validation_figures(cohort, ON_SCORE, STATISTICS)]

    # Of a person's two steps the second is 1.5 points off, and the first is right.
    assert found[1] == {"change_error": pytest.approx(1.5 / np.sqrt(2), rel=1e-5)}
    assert found[0].keys() == {"retrieval_at_1", "retrieval_chance"}


def test_a_head_on_embeddings_has_no_change_error_and_nothing_to_measure_embeds_nothing(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", default_scans(num_subjects=4, odd=False))
    cohort = read_cohort(store, MODALITY, "mmse")

    assert len(validation_figures(cohort, tiny_recipe(), STATISTICS)) == 1
    alone = cohort.of_subjects(cohort.groups[:1])
    assert validation_figures(alone, tiny_recipe(), STATISTICS) == []
    # No supply is asked.
    assert validation_metrics(None, alone, EXACT, [])(new_model(tiny_recipe(), store)) == {}  # type: ignore[arg-type]


def test_a_best_figure_that_these_people_cannot_show_is_refused(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", default_scans(with_scores=False))
    cohort = read_cohort(store, MODALITY, "mmse")
    recipe = ON_SCORE.model_copy(update={"checkpoint": ON_SCORE.checkpoint.model_copy(update={"best": "change_error"})})

    with pytest.raises(UsageError, match=r"checkpoint\.best is change_error and the \d+ .* no two visits with mmse"):
        validation_figures(cohort, recipe, STATISTICS)
