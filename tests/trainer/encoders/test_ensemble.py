"""An ensemble's embedding is its members' side by side."""

import pytest
import torch

from trainer.encoders import build_encoder
from trainer.encoders.ensemble import EnsembleEncoder


@torch.inference_mode()
def test_embeddings_of_all_members_stand_side_by_side() -> None:
    torch.manual_seed(0)
    members = [build_encoder("fast", in_channels=1, embedding_width=width).eval() for width in (4, 6)]
    volumes = torch.rand(2, 1, 16, 16, 16)
    ensemble = EnsembleEncoder(members).eval()
    wanted = torch.cat([member(volumes) for member in members], dim=1)
    assert ensemble.width_joined() == 10
    assert torch.equal(ensemble(volumes), wanted)
    present = torch.ones(2, 1, dtype=torch.bool)
    embedded = ensemble.embed_visits({"T1w": volumes}, present)
    assert torch.equal(ensemble.join(embedded, present), wanted)


def test_an_ensemble_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="0 members"):
        EnsembleEncoder([])
