"""Fits the progression head on frozen embeddings of training pairs, and its temperature on validation pairs.

Class-weighted cross-entropy with an L2 penalty. The penalty is chosen on the validation subjects' pairs by their
log-likelihood, and the temperature fitted on the same pairs. Scan-rescan pairs of training subjects join as `stable`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from preprocess.console import LOG
from preprocess.types import PROGRESSIONS
from trainer.encoders import ProgressionHead
from trainer.fit.run_files import HeadSummary

_STEPS = 200
"""L-BFGS steps; the default head is convex and is done after 30 to 60."""
_TEMPERATURES = np.geomspace(0.25, 8.0, 61)


@dataclass(frozen=True, slots=True)
class FittedHead:
    """A fitted head.

    Attributes:
        head: with its weights.
        temperature: what its logits are divided by.
        l2: the chosen penalty.
        num_train: training pairs.
        num_validation: validation pairs it was chosen and calibrated on.
    """

    head: ProgressionHead
    temperature: float
    l2: float
    num_train: int
    num_validation: int

    def summary(self) -> HeadSummary:
        """Everything but the weights."""
        return HeadSummary(
            temperature=self.temperature, l2=self.l2, num_train=self.num_train, num_validation=self.num_validation
        )


def fit_head(
    train_differences_PE: np.ndarray,
    train_labels_P: np.ndarray,
    validation_differences_PE: np.ndarray,
    validation_labels_P: np.ndarray,
    *,
    hidden: int,
    penalties: Sequence[float],
    seed: int,
) -> FittedHead | None:
    """Fit one head for each penalty and keep the best.

    Args:
        train_differences_PE: later minus earlier embedding of training pairs.
        train_labels_P: 0 improved, 1 stable, 2 declined.
        validation_differences_PE: the same of validation pairs; may be empty.
        validation_labels_P: their labels.
        hidden: hidden units of the head.
        penalties: L2 penalties to try.
        seed: decides the first weights of the hidden units.

    Returns:
        The head, or None when the training pairs show fewer than two classes or do not differ at all.
    """
    if len(np.unique(train_labels_P)) < 2:
        return None
    if not np.any(train_differences_PE):
        LOG.warning("all training pairs have one and the same embedding at both visits: the encoder has collapsed")
        return None
    differences = torch.as_tensor(train_differences_PE, dtype=torch.float32)
    labels = torch.as_tensor(train_labels_P)
    held_back = torch.as_tensor(validation_differences_PE, dtype=torch.float32)
    held_labels = torch.as_tensor(validation_labels_P)
    best: FittedHead | None = None
    best_loss = float("inf")
    for l2 in penalties:
        head = _fit(differences, labels, l2=l2, hidden=hidden, seed=seed)
        temperature, loss = _calibrate(head, held_back, held_labels)
        LOG.debug("progression head: l2 %g, validation log-loss %.3f at temperature %.2f", l2, loss, temperature)
        if best is None or loss < best_loss:
            best, best_loss = FittedHead(head, temperature, l2, len(labels), len(held_labels)), loss
    return best


def _fit(differences: torch.Tensor, labels: torch.Tensor, *, l2: float, hidden: int, seed: int) -> ProgressionHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = ProgressionHead(differences.shape[1], hidden)
    head.fit_scale(differences)
    counts = torch.bincount(labels, minlength=len(PROGRESSIONS)).float()
    # Inverse frequency; a class that never occurs has no say, and no infinite weight.
    class_weights = torch.where(counts > 0, len(labels) / (len(PROGRESSIONS) * counts.clamp(min=1)), 0.0)
    optimiser = torch.optim.LBFGS(
        head.parameters(), max_iter=_STEPS, history_size=20, line_search_fn="strong_wolfe", tolerance_grad=1e-6
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = F.cross_entropy(head(differences), labels, weight=class_weights) + l2 * head.l2_penalty()
        torch.autograd.backward(loss)
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return head.eval()


def _calibrate(head: ProgressionHead, differences: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
    """The temperature with the lowest log-loss on a fixed grid, and that loss; 1 where there are no pairs."""
    if len(labels) == 0:
        return 1.0, 0.0
    with torch.inference_mode():
        logits = head(differences)
        losses = [float(F.cross_entropy(logits / temperature, labels)) for temperature in _TEMPERATURES]
    best = int(np.argmin(losses))
    return float(_TEMPERATURES[best]), losses[best]
