"""The phases of a run: consecutive epochs with objectives of their own."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.objectives.terms import Objective


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase.

    Attributes:
        name: for the history.
        epochs: how many.
        objectives: parts of the loss.
        learning_rate: at its highest; that of the optimiser when None.
    """

    name: str
    epochs: int
    objectives: Sequence[Objective]
    learning_rate: float | None = None


def phase_of(phases: Sequence[Phase], epoch: int) -> tuple[int, Phase]:
    """Number and phase of an epoch, counted from 0; the last one for all later epochs."""
    for number, phase in enumerate(phases):
        if epoch < phase.epochs:
            return number, phase
        epoch -= phase.epochs
    return len(phases) - 1, phases[-1]
