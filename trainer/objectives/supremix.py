"""SupReMix: contrast for regression with mixtures of embeddings as hard pairs (docs/methods/supremix.md)."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.objectives.base import Term
from trainer.objectives.supcon import binned
from trainer.objectives.terms import BatchOutput, Value


class SupReMix(Term):
    """`supremix` on the embeddings of two views of each scan.

    Attributes:
        temperature: what similarities are divided by.
        window: largest score difference over which two scans are mixed into a positive.
        bin_width: scores are rounded to multiples of it, since equal labels make positives; 0 leaves them as they are.
        mix_positives: whether positives are mixed.
        mix_negatives: whether negatives are mixed.
        magnify: whether negatives weigh by their distance in score.
    """

    name: Literal["supremix"] = "supremix"
    temperature: float = Field(default=0.2, gt=0)
    window: float = Field(default=5.0, gt=0)
    bin_width: float = Field(default=1.0, ge=0)
    mix_positives: bool = True
    mix_negatives: bool = True
    magnify: bool = True
    needs_scores: ClassVar[bool] = True
    needs_views: ClassVar[bool] = True

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch; None when fewer than two scans have a score."""
        from trainer.objectives.losses.supremix import supremix

        known_B = output.scores_BK[:, 0].isfinite()
        if int(known_B.sum()) < 2:
            return None
        loss = supremix(
            output.embeddings_BKE[known_B],
            binned(output.scores_BK[known_B, 0], self.bin_width),
            temperature=self.temperature,
            window=self.window,
            mix_positives=self.mix_positives,
            mix_negatives=self.mix_negatives,
            magnify=self.magnify,
        )
        return Value(loss, 0.0)


TERMS = (SupReMix,)
