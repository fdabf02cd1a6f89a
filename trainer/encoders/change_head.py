"""Probabilities of improved, stable and declined from one number, the change of the score that two scans show.

An ordinal model with one direction: the further the predicted change lies beyond the threshold, the likelier it is
real. It has two free numbers, so that a few dozen pairs of people whom the networks have not seen calibrate it.
"""

import torch
from torch import nn

from preprocess.types import PROGRESSIONS
from trainer.encoders.heads import PreciseLinear
from trainer.objectives.losses.similarity import at_least_float32


class ChangeHead(nn.Module):
    """Log probabilities of a pair from the difference d of its embeddings.

    With the improvement z = direction . d, in points of the score, positive where the person got better:

        P(improved) = (1 - share) sigmoid(steepness z - offset) + share rate / 2
        P(declined) = (1 - share) sigmoid(-steepness z - offset) + share rate / 2
        P(stable) = what is left

    offset >= 0 keeps the three in [0, 1]. Exchanging the scans turns z into -z and so exchanges the first two, bit for
    bit. `share` mixes in the base rates, so that no probability is surer than the calibration data can support.

        head = ChangeHead(256)
        log_probabilities_B3 = head(later_BE - earlier_BE)

    Args:
        embedding_width: width E of the embedding.

    Attributes:
        steepness: per point of the score, above 0.
        offset: 0 or more.
        share: weight of the base rates, in (0, 1).
        rate: base rate of improved and declined together, in (0, 1).
        gain: what the improvement z is multiplied by to be told: 1 over the slope of predicted against true change.
    """

    steepness: torch.Tensor
    offset: torch.Tensor
    share: torch.Tensor
    rate: torch.Tensor
    gain: torch.Tensor

    def __init__(self, embedding_width: int) -> None:
        super().__init__()
        if embedding_width < 1:
            raise ValueError(f"embedding_width is {embedding_width}; it must be at least 1")
        self.embedding_width = embedding_width
        self.direction = PreciseLinear(embedding_width, 1, bias=False)
        for name, value in (("steepness", 1.0), ("offset", 1.0), ("share", 0.01), ("rate", 0.5), ("gain", 1.0)):
            self.register_buffer(name, torch.tensor(value))

    def improvement(self, differences_BE: torch.Tensor) -> torch.Tensor:
        """Z of shape (B,), in points of the score, before `gain`.

        Raises:
            ValueError: another shape.
        """
        shape = differences_BE.shape
        # While a graph is being recorded a size may be a tensor or a symbol; comparing it would fix it in the graph.
        if differences_BE.dim() != 2 or (isinstance(shape[1], int) and shape[1] != self.embedding_width):
            raise ValueError(f"differences have shape {tuple(shape)}; the head needs (B, {self.embedding_width})")
        improvement_B1: torch.Tensor = self.direction(at_least_float32(differences_BE))
        return improvement_B1.squeeze(1)

    def forward(self, differences_BE: torch.Tensor) -> torch.Tensor:
        """Answer log probabilities of shape (B, 3) in the order of `PROGRESSIONS`, float32 or above."""
        scaled_B = self.steepness * self.improvement(differences_BE)
        floor, kept = self.share * self.rate / 2, 1 - self.share
        improved_B = kept * torch.sigmoid(scaled_B - self.offset) + floor
        declined_B = kept * torch.sigmoid(-scaled_B - self.offset) + floor
        # Added before it is taken away: exchanging the two changes no bit of their sum.
        stable_B = 1 - (improved_B + declined_B)
        found = {"improved": improved_B, "stable": stable_B, "declined": declined_B}
        return torch.stack([found[progression] for progression in PROGRESSIONS], dim=1).log()
