"""Heads on embeddings: projector for contrast, score regression, and progression of a pair.

The answers of all three are float32 under autocast too. The progression head is antisymmetric by construction, so that
it can learn nothing from the order in which pairs happen to be listed.
"""

import torch
from torch import nn

from preprocess.types import PROGRESSIONS
from trainer.objectives.losses.similarity import at_least_float32, unit_rows


class PreciseLinear(nn.Linear):
    """A linear layer that autocast does not touch: it computes and answers in the dtype of its weights."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Apply the layer; see `torch.nn.Linear`."""
        features = input.to(self.weight.dtype)
        # Entered only where needed: recorded graphs, made without autocast, stay free of it.
        if torch.is_autocast_enabled(features.device.type):
            with torch.autocast(features.device.type, enabled=False):
                return super().forward(features)
        return super().forward(features)


class Projector(nn.Module):
    """Linear, ReLU, Linear, then L2 normalisation: the head of contrastive pretraining, left out of the artefact.

    98,688 parameters at the default widths, which are those of the ClinImCL paper.

    Args:
        width_in: width E of the embedding.
        hidden: width of the hidden layer.
        width_out: width of the projection.
    """

    def __init__(self, width_in: int = 256, hidden: int = 256, width_out: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width_in, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, width_out))

    def forward(self, embeddings_BE: torch.Tensor) -> torch.Tensor:
        """Project (B, E) to unit rows of shape (B, width_out), float32 (float64 for a float64 model)."""
        return unit_rows(self.layers(embeddings_BE))


class ScoreHead(nn.Module):
    """Linear prediction of the standardised score h = (score - mean) / sd from one embedding.

    Args:
        embedding_width: width E of the embedding.
    """

    def __init__(self, embedding_width: int) -> None:
        super().__init__()
        self.linear = PreciseLinear(embedding_width, 1)

    def forward(self, embeddings_BE: torch.Tensor) -> torch.Tensor:
        """Predict h of shape (B,) from embeddings_BE."""
        predicted_B: torch.Tensor = self.linear(embeddings_BE).squeeze(-1)
        return predicted_B


class ProgressionHead(nn.Module):
    """Three logits, improved, stable and declined, from the difference of two embeddings of one subject.

    With x = d / difference_scale: improved = f(x), declined = f(-x), stable = bias + g(x) + g(-x). Exchanging the two
    scans turns d into -d and therefore exchanges the logits of improved and declined, bit for bit, and leaves stable.

    By default f(x) = w . x and g(x) = v . |x| / 2: an ordinal model with one direction of change, in which v widens
    or narrows the stable class with the size of the change, whatever its sign. That is a convex problem of 2E + 1
    weights. On simulated pairs (E = 256; 200 and 600 pairs, L2 at its best) the |x| part gained 0.03 macro-F1 where
    change also showed in a direction of either sign, and cost at most 0.006 where it did not; 16 hidden units on top
    of it changed macro-F1 by 0.001 or less, which is why there are none by default. All weights start at zero except
    those into the hidden units.

    Args:
        embedding_width: width E of the embedding.
        hidden: tanh units shared by f and g, added to the linear parts; 0 for none.
    """

    difference_scale: torch.Tensor

    def __init__(self, embedding_width: int, hidden: int = 0) -> None:
        super().__init__()
        if embedding_width < 1 or hidden < 0:
            raise ValueError(f"embedding_width is {embedding_width} (at least 1), hidden is {hidden} (0 or more)")
        self.embedding_width = embedding_width
        self.direction = PreciseLinear(embedding_width, 1, bias=False)
        self.magnitude = PreciseLinear(embedding_width, 1, bias=True)
        self.hidden = PreciseLinear(embedding_width, hidden) if hidden else None
        # Columns: what a hidden unit adds to f, and to g.
        self.hidden_out = PreciseLinear(hidden, 2, bias=False) if hidden else None
        for layer in (self.direction, self.magnitude, self.hidden_out):
            if layer is not None:
                nn.init.zeros_(layer.weight)
        nn.init.zeros_(self.magnitude.bias)
        self.register_buffer("difference_scale", torch.ones(()))

    @torch.no_grad()
    def fit_scale(self, differences_BE: torch.Tensor) -> None:
        """Set the scale to the root mean square of the training differences, so that one L2 weight suits any encoder.

        One number for all features: scaling each by its own would raise those that hardly move, noise included.

        Args:
            differences_BE: later minus earlier embedding of the training pairs only, finite and not all zero.

        Raises:
            ValueError: another shape, or differences that are all zero or not finite.
        """
        self._refuse_wrong_shape(differences_BE)
        scale = differences_BE.double().square().mean().sqrt()
        if not (bool(scale.isfinite()) and float(scale) > 0):
            raise ValueError(
                f"root mean square of {len(differences_BE)} differences is {float(scale)}; "
                "it must be finite and above 0: do the scans differ at all?"
            )
        self.difference_scale.copy_(scale)

    def forward(self, differences_BE: torch.Tensor) -> torch.Tensor:
        """Answer the logits of a batch of pairs.

        Args:
            differences_BE: embedding of the later scan minus that of the earlier.

        Returns:
            logits of shape (B, 3) in the order of `preprocess.types.PROGRESSIONS`, float32 or above.

        Raises:
            ValueError: another shape.
        """
        self._refuse_wrong_shape(differences_BE)
        # Both are fresh tensors of one layout, so both run through the same kernels and exchange bit for bit.
        forward_BE = at_least_float32(differences_BE) / self.difference_scale
        backward_BE = -forward_BE
        improved_B1, declined_B1 = self.direction(forward_BE), self.direction(backward_BE)
        stable_B1 = self.magnitude(forward_BE.abs())
        if self.hidden is not None and self.hidden_out is not None:
            forward_B2 = self.hidden_out(self.hidden(forward_BE).tanh())
            backward_B2 = self.hidden_out(self.hidden(backward_BE).tanh())
            improved_B1 = improved_B1 + forward_B2[:, :1]
            declined_B1 = declined_B1 + backward_B2[:, :1]
            stable_B1 = stable_B1 + (forward_B2[:, 1:] + backward_B2[:, 1:])
        logits = {"improved": improved_B1, "stable": stable_B1, "declined": declined_B1}
        return torch.cat([logits[progression] for progression in PROGRESSIONS], dim=1)

    def l2_penalty(self) -> torch.Tensor:
        """Sum of the squares of all weights, biases excepted: what a fit adds to its loss, times the penalty."""
        weights = [parameter.square().sum() for name, parameter in self.named_parameters() if name.endswith("weight")]
        return torch.stack(weights).sum()

    def _refuse_wrong_shape(self, differences_BE: torch.Tensor) -> None:
        shape = differences_BE.shape
        # While a graph is being recorded a size may be a tensor or a symbol; comparing it would fix it in the graph.
        if differences_BE.dim() != 2 or (isinstance(shape[1], int) and shape[1] != self.embedding_width):
            raise ValueError(f"differences have shape {tuple(shape)}; the head needs (B, {self.embedding_width})")
