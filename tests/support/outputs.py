"""What networks might make of a batch: random embeddings and projections, with given scores and days."""

import torch

from trainer.objectives.terms import BatchOutput


def output_of(scores_BK: list[list[float]], days_BK: list[list[float]] | None = None, *, seed: int = 3) -> BatchOutput:
    """A batch of subjects 10, 11, ... whose scans or views have these scores; all on day 0 where none is given."""
    draws = torch.Generator().manual_seed(seed)
    shape = (len(scores_BK), len(scores_BK[0]))
    projections = torch.randn(*shape, 4, generator=draws)
    return BatchOutput(
        embeddings_BKE=torch.randn(*shape, 6, generator=draws, requires_grad=True),
        projections_BKP=(projections / projections.norm(dim=-1, keepdim=True)).requires_grad_(),
        predicted_BK=torch.randn(*shape, generator=draws, requires_grad=True),
        scores_BK=torch.tensor(scores_BK),
        subjects_B=torch.arange(len(scores_BK)) + 10,
        days_BK=torch.zeros(shape) if days_BK is None else torch.tensor(days_BK),
        anchor_E=torch.zeros(6),
    )


def two_views_of(*scores: float) -> BatchOutput:
    """A batch of two views of each scan."""
    return output_of([[score, score] for score in scores])
