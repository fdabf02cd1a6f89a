"""SimCLR: two random views of one scan attract, all other views repel (docs/methods/baselines.md)."""

import math
from typing import ClassVar, Literal

from pydantic import Field

from trainer.objectives.base import Term
from trainer.objectives.terms import BatchOutput, Value


class NtXent(Term):
    """`nt_xent` between the projections of two views of each scan; chance is ln(2B - 1)."""

    name: Literal["nt_xent"] = "nt_xent"
    temperature: float = Field(default=0.5, gt=0)
    needs_views: ClassVar[bool] = True
    warns_at_chance: ClassVar[bool] = True
    trains_projection: ClassVar[bool] = True

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch of views."""
        from trainer.objectives.losses.contrast import nt_xent

        first_BP, second_BP = output.projections_BKP[:, 0], output.projections_BKP[:, 1]
        loss = nt_xent(first_BP, second_BP, temperature=self.temperature)
        return Value(loss, math.log(2 * len(first_BP) - 1))


TERMS = (NtXent,)
