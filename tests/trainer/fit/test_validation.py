"""Validation metrics are those of the cohort's embeddings, in its order."""

from pathlib import Path

import numpy as np
import torch

from preprocess.storage import Location
from tests.support.cohorts import MODALITY, default_scans, tiny_recipe, write_store
from tests.support.loops import EXACT, build_loop
from trainer.data.cohort import read_cohort
from trainer.fit.stop import StopRequest
from trainer.fit.supply import Supply, SupplyOptions
from trainer.fit.validation import validation_metrics


def test_validation_sees_embeddings_in_the_cohorts_order_and_adds_its_metrics(tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", default_scans(num_subjects=8, odd=False))
    cohort = read_cohort(store, MODALITY, "mmse")
    seen: list[np.ndarray] = []

    def score(embeddings_NE: np.ndarray) -> dict[str, float]:
        seen.append(embeddings_NE)
        return {"count": float(len(embeddings_NE))}

    with Supply(store, (MODALITY,), num_volumes=len(cohort), options=SupplyOptions(), compute=EXACT) as supply:
        metrics = validation_metrics(supply, cohort, EXACT, score)
        loop, _ = build_loop(tiny_recipe(), store, Location(tmp_path / "run"), seed=0, validate=metrics)
        loop.run(StopRequest(), None, lambda done, total: None)
    assert [entry["count"] for entry in loop.position.history] == [float(len(cohort))] * 2
    loop.model.eval()
    row = int(cohort.rows_N[5])
    volume = torch.from_numpy(store.read(row, MODALITY).astype(np.float32) / 255)[None]
    with torch.no_grad():
        np.testing.assert_allclose(seen[-1][5], loop.model.encoder(volume)[0].numpy(), atol=1e-5)
