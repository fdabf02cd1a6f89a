"""ChronoCon: the order of a subject's visits, without labels (docs/methods/order.md)."""

from typing import ClassVar, Literal

from pydantic import Field

from trainer.objectives.base import Term
from trainer.objectives.terms import BatchOutput, Value


class ChronoContrast(Term):
    """`chrono_contrast` on the embeddings of visits in order of day."""

    name: Literal["chrono_contrast"] = "chrono_contrast"
    temperature: float = Field(default=1.0, gt=0)
    needs_sampling: ClassVar = ("visits", "orders three visits or more")

    def __call__(self, output: BatchOutput) -> Value | None:
        """Value of a batch of visits."""
        from trainer.objectives.losses.order import chrono_contrast

        loss = chrono_contrast(
            output.embeddings_BKE.flatten(0, 1),
            output.days_BK.reshape(-1),
            output.scan_subjects_N,
            temperature=self.temperature,
        )
        return Value(loss, 0.0)


TERMS = (ChronoContrast,)
