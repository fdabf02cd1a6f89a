"""ClinImCL: two visits of one subject attract, visits of other subjects repel (docs/methods/clinimcl.md)."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.objectives.base import Term
from trainer.objectives.terms import BatchOutput, Value


class InfoNce(Term):
    """`info_nce` between the projections of the first and the second visit; chance is ln B."""

    name: Literal["info_nce"] = "info_nce"
    temperature: float = Field(default=0.07, gt=0)
    needs_sampling: ClassVar = ("pairs", "compares two visits")
    warns_at_chance: ClassVar[bool] = True
    trains_projection: ClassVar[bool] = True

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch of pairs."""
        from trainer.objectives.losses.contrast import info_nce, info_nce_chance

        loss = info_nce(
            output.projections_BKP[:, 0],
            output.projections_BKP[:, 1],
            temperature=self.temperature,
            subject_ids=output.subjects_B,
        )
        return Value(loss, info_nce_chance(len(output.subjects_B)))


TERMS = (InfoNce,)
