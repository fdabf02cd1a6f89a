"""A volume and its mirror image have one embedding, bit for bit."""

import torch

from trainer.encoders import build_encoder
from trainer.encoders.mirrored import MirroredEncoder


@torch.inference_mode()
def test_the_embedding_is_the_mean_of_both_sides() -> None:
    torch.manual_seed(0)
    network = build_encoder("fast", in_channels=1, embedding_width=6).eval()
    encoder, volumes = MirroredEncoder(network).eval(), torch.rand(3, 1, 16, 18, 20)
    assert torch.equal(encoder(volumes), encoder(volumes.flip(2)))
    assert torch.equal(encoder(volumes), (network(volumes) + network(volumes.flip(2))) / 2)
    assert not torch.equal(network(volumes), network(volumes.flip(2)))
    present = torch.ones(3, 1, dtype=torch.bool)
    embedded = encoder.embed_visits({"T1w": volumes}, present)
    assert torch.equal(encoder.join(embedded, present), encoder(volumes))
    assert encoder.width_joined() == 6
