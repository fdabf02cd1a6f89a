"""Embedding a cohort equals the encoder applied to each stored volume, in the cohort's order."""

from pathlib import Path

import numpy as np
import pytest
import torch

from preprocess.transforms import unit_scale
from tests.support.cohorts import MODALITY, Dtype, write_store
from trainer.data.cohort import read_cohort
from trainer.encoders import build_encoder
from trainer.fit.embedding import embed_cohort
from trainer.fit.precision import Compute

EXACT = Compute(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
def test_embeddings_are_those_of_single_volumes_in_evaluation_mode(tmp_path: Path, dtype: Dtype) -> None:
    store = write_store(tmp_path, dtype=dtype)
    cohort = read_cohort(store, MODALITY, "mmse")
    torch.manual_seed(0)
    encoder = build_encoder("reference", in_channels=1, embedding_width=8)
    encoder(torch.rand(8, 1, 16, 16, 16))
    statistics = {name: value.clone() for name, value in encoder.named_buffers()}
    found = embed_cohort(encoder, store, (MODALITY,), cohort, EXACT)
    assert encoder.training
    assert all(torch.equal(value, statistics[name]) for name, value in encoder.named_buffers())
    assert (found.shape, found.dtype) == ((len(cohort), 8), np.float32)
    encoder.eval()
    scale = np.float32(unit_scale(dtype))
    with torch.no_grad():
        for index, row in enumerate(cohort.rows_N):
            volume = torch.from_numpy(store.read(int(row), MODALITY).astype(np.float32) * scale)[None]
            np.testing.assert_allclose(found[index], encoder(volume)[0].numpy(), atol=2e-6)


def test_an_encoder_in_evaluation_mode_stays_there(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    encoder = build_encoder("reference", in_channels=1, embedding_width=8).eval()
    embed_cohort(encoder, store, (MODALITY,), read_cohort(store, MODALITY, "mmse"), EXACT)
    assert not encoder.training
    assert not any(module.training for module in encoder.modules())


def test_a_cohort_of_scans_is_refused_where_visits_are_embedded(tmp_path: Path) -> None:
    store = write_store(tmp_path)
    encoder = build_encoder("reference", in_channels=1, embedding_width=8)
    with pytest.raises(ValueError, match="does not say who has SC, FC; read it with read_visits"):
        embed_cohort(encoder, store, ("SC", "FC"), read_cohort(store, MODALITY, "mmse"), EXACT)
