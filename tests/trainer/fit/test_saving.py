"""Checkpoints fall on every nth epoch and on the last, and the best is chosen among the epochs that were saved."""

from pathlib import Path

import pytest

from preprocess.errors import RunError
from preprocess.storage import Location
from trainer.fit.checkpoint import Best, Checkpoints
from trainer.fit.saving import Saving


def saving(tmp_path: Path, every_epochs: int, best: str = "") -> Saving:
    return Saving(Checkpoints(Location(tmp_path), keep=1), every_epochs, best)


def history(name: str, *values: float) -> list[dict[str, float]]:
    return [{"epoch": float(epoch), name: value} for epoch, value in enumerate(values)]


@pytest.mark.parametrize(("every_epochs", "due"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (7, [5])])
def test_an_epoch_is_saved_every_so_often_and_always_at_the_end(
    tmp_path: Path, every_epochs: int, due: list[int]
) -> None:
    chosen = saving(tmp_path, every_epochs)
    assert [done for done in range(1, 6) if chosen.is_due(done, num_epochs=5)] == due


def test_a_lower_loss_and_a_higher_retrieval_are_newly_best(tmp_path: Path) -> None:
    loss, retrieval = saving(tmp_path, 1, "loss"), saving(tmp_path, 1, "retrieval_at_1")
    assert loss.newly_best(history("loss", 0.5, 0.4), num_epochs=9) == Best("loss", 0.4)
    assert loss.newly_best(history("loss", 0.4, 0.5), num_epochs=9) is None
    assert loss.newly_best(history("loss", 0.4, 0.4), num_epochs=9) is None
    assert retrieval.newly_best(history("retrieval_at_1", 0.4, 0.5), num_epochs=9) == Best("retrieval_at_1", 0.5)
    assert saving(tmp_path, 1).newly_best(history("loss", 0.5, 0.4), num_epochs=9) is None


def test_an_epoch_that_was_not_saved_is_nobodys_rival(tmp_path: Path) -> None:
    metrics = history("loss", 0.1, 0.5, 0.2, 0.4)
    assert saving(tmp_path, 2, "loss").newly_best(metrics, num_epochs=9) == Best("loss", 0.4)


def test_a_metric_that_the_history_lacks_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"epoch 0 has no such figure; start a new run with checkpoint\.best = 'loss'"):
        saving(tmp_path, 1, "retrieval_at_1").newly_best(history("loss", 0.5), num_epochs=9)
