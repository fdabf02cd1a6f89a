"""Rank-N-Contrast hands its function every view with a score."""

import torch

from tests.support.outputs import output_of
from trainer.objectives.losses import rank_n_contrast
from trainer.objectives.rank import RankNContrast

NAN = float("nan")


def test_rank_n_contrast_gets_every_view_with_a_score() -> None:
    output = output_of([[1.0, 2.0], [5.0, NAN]])
    value = RankNContrast(temperature=2.0)(output)
    assert value is not None
    features = output.embeddings_BKE.flatten(0, 1)[:3]
    torch.testing.assert_close(value.loss, rank_n_contrast(features, torch.tensor([1.0, 2.0, 5.0]), temperature=2.0))
    assert RankNContrast(temperature=2.0)(output_of([[1.0, 2.0]])) is None
