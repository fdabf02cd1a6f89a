"""Which epochs of a run are saved, and whether the newest of them is the best so far."""

from dataclasses import dataclass

from preprocess.errors import RunError
from trainer.fit.checkpoint import Best, Checkpoints
from trainer.fit.tracking import History
from trainer.recipe import higher_is_better


@dataclass(frozen=True, slots=True)
class Saving:
    """Where checkpoints go, and when one is written.

        saving = Saving(checkpoints, every_epochs=2, best="loss")
        if saving.is_due(epochs_done=4, num_epochs=9):
            saving.checkpoints.save_async(state, step=step, best=saving.newly_best(history, num_epochs=9))

    Attributes:
        checkpoints: where they go; only the first process of a group writes.
        every_epochs: epochs between checkpoints.
        best: metric of the history whose best checkpoint is kept; empty for none.
    """

    checkpoints: Checkpoints
    every_epochs: int
    best: str = ""

    def is_due(self, epochs_done: int, *, num_epochs: int) -> bool:
        """Whether a checkpoint follows after so many epochs; one always follows the last."""
        return epochs_done % self.every_epochs == 0 or epochs_done == num_epochs

    def newly_best(self, history: History, *, num_epochs: int) -> Best | None:
        """The metric of the newest epoch, if no earlier epoch that was saved reached it.

        Args:
            history: one entry an epoch, the newest of which is being saved.
            num_epochs: number of epochs of the whole run.

        Raises:
            RunError: the newest epoch has no such metric.
        """
        if not self.best:
            return None
        saved = [entry for entry in history if self.is_due(int(entry["epoch"]) + 1, num_epochs=num_epochs)]
        if self.best not in saved[-1]:
            raise RunError(
                f"checkpoint.best is {self.best} and epoch {int(saved[-1]['epoch'])} has no such figure; "
                "start a new run with checkpoint.best = 'loss'"
            )
        sign = 1.0 if higher_is_better(self.best) else -1.0
        *earlier, newest = [sign * entry[self.best] for entry in saved if self.best in entry]
        return Best(self.best, saved[-1][self.best]) if all(newest > one for one in earlier) else None
