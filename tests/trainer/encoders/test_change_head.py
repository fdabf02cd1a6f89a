"""Probabilities from one number: exact under exchange, bounded, and those that the calibration computes."""

import numpy as np
import pytest
import torch

from trainer.encoders.change_head import ChangeHead
from trainer.fit.change import Calibrated


def filled_head(width: int = 5) -> ChangeHead:
    head = ChangeHead(width)
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():
        head.direction.weight.copy_(torch.randn(1, width, generator=draws))
        for name, value in (("steepness", 1.7), ("offset", 2.5), ("share", 0.02), ("rate", 0.6)):
            getattr(head, name).fill_(value)
    return head.eval()


@torch.inference_mode()
def test_exchanging_the_scans_exchanges_improved_and_declined_bit_for_bit() -> None:
    head = filled_head()
    draws = torch.Generator().manual_seed(1)
    earlier, later = (3 * torch.randn(500, 5, generator=draws) for _ in range(2))
    there, back = head(later - earlier), head(earlier - later)
    assert torch.equal(there, back.flip(1))


@torch.inference_mode()
def test_no_probability_is_surer_than_the_share_of_base_rates_allows() -> None:
    probability = filled_head()(torch.tensor([[1e4] * 5, [-1e4] * 5, [0.0] * 5])).exp()
    torch.testing.assert_close(probability.sum(dim=1), torch.ones(3))
    assert float(probability.max()) <= 1 - 0.02 * (1 - 0.6 / 2) + 1e-6
    assert float(probability.min()) >= 0.02 * min(0.6 / 2, 0.4) - 1e-6


@torch.inference_mode()
def test_the_head_computes_what_the_calibration_fitted() -> None:
    head = filled_head()
    differences = torch.randn(50, 5, generator=torch.Generator().manual_seed(2))
    wanted = Calibrated(1.7, 2.5, 0.02, 0.6, 1.0, 48, 90).probabilities(head.improvement(differences).numpy())
    np.testing.assert_allclose(head(differences).exp().numpy(), wanted, atol=2e-6)


def test_the_change_is_linear_in_the_difference() -> None:
    head = filled_head()
    first, second = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        head.improvement(first + second), head.improvement(first) + head.improvement(second), atol=1e-5, rtol=0
    )


def test_wrong_widths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 6\); the head needs \(B, 5\)"):
        filled_head()(torch.zeros(4, 6))
    with pytest.raises(ValueError, match="embedding_width is 0"):
        ChangeHead(0)
