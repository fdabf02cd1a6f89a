"""Coarse brightness against numpy, and the score beside an embedding."""

import numpy as np
import pytest
import torch

from trainer.encoders import build_encoder
from trainer.encoders.linear_score import CoarseBrightness, LinearScore, WithLinearScore, coarse_brightness

VOLUMES = torch.rand(3, 2, 24, 24, 24, generator=torch.Generator().manual_seed(0))


def blocks_by_numpy(grid: int) -> np.ndarray:
    edge = 24 // grid
    return VOLUMES.numpy().reshape(3, 2, grid, edge, grid, edge, grid, edge).mean(axis=(3, 5, 7)).reshape(3, -1)


@pytest.mark.parametrize("grid", [3, 12])
def test_coarse_brightness_is_the_mean_of_blocks(grid: int) -> None:
    np.testing.assert_allclose(coarse_brightness(VOLUMES, grid).numpy(), blocks_by_numpy(grid), atol=1e-6)
    embedder = CoarseBrightness(grid, in_channels=2)
    present = torch.ones(3, 1, dtype=torch.bool)
    embedded = embedder.join(embedder.embed_visits({"T1w": VOLUMES}, present), present)
    assert embedded.shape == (3, embedder.width_joined())
    assert torch.equal(embedded, coarse_brightness(VOLUMES, grid))


@torch.inference_mode()
def test_the_score_stands_behind_the_networks_embedding() -> None:
    torch.manual_seed(0)
    network = build_encoder("fast", in_channels=2, embedding_width=4).eval()
    linear = LinearScore(3, in_channels=2)
    linear.weight_F.copy_(torch.randn(54))
    linear.bias.fill_(0.5)
    encoder = WithLinearScore(network, linear).eval()
    embeddings = encoder(VOLUMES)
    assert embeddings.shape == (3, encoder.width_joined()) == (3, 5)
    assert torch.equal(embeddings[:, :4], network(VOLUMES))
    wanted = blocks_by_numpy(3) @ linear.weight_F.numpy() + 0.5
    np.testing.assert_allclose(embeddings[:, 4].numpy(), wanted, atol=1e-5)


def test_a_grid_without_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="grid is 0"):
        LinearScore(0, in_channels=1)
