"""Rows become embeddings in order, whatever the batch, and progress is told."""

from pathlib import Path

import numpy as np
import pytest

from app.embedding import embed_rows
from app.registry import load_artefact
from preprocess.engine import preprocess
from preprocess.store import Store
from tests.support.artefacts import RECIPE
from tests.support.studies import made_up_head, put


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_each_row_has_its_own_embedding_and_each_batch_is_told(batch_size: int, artefact: Path, tmp_path: Path) -> None:
    for number in range(5):
        put(tmp_path / "raw", f"sub-{number}/anat/sub-{number}_T1w.nii.gz", made_up_head(number))
    preprocess(str(tmp_path / "raw"), str(tmp_path / "store"), RECIPE, workers=0)
    model, store = load_artefact(str(artefact)), Store.open(tmp_path / "store")
    told: list[tuple[int, int]] = []
    found = embed_rows(model, store, [4, 0, 2, 1, 3], batch_size, lambda *counts: told.append(counts))
    for place, row in enumerate([4, 0, 2, 1, 3]):
        alone = model.engine.embed(store.read(row, "T1w")[None])[0]
        np.testing.assert_allclose(found[place], alone, atol=1e-6)
    assert told[-1] == (5, 5)
    assert len(told) == -(-5 // batch_size)
