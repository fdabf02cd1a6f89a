"""Held-out scans embedded by the encoders that a run kept on its way: one an epoch, and the untrained one."""

from collections.abc import Sequence

import numpy as np
import torch

from preprocess.store import Store
from trainer.data.cohort import Cohort
from trainer.fit.checkpoint import Checkpoints
from trainer.fit.embedding import embed_cohort
from trainer.fit.model import encoder_for, new_model
from trainer.fit.precision import Compute, choose_compute
from trainer.fit.run import Run
from trainer.fit.tracking import read_history
from trainer.recipe import TrainRecipe

_ENCODER = "encoder."
"""What the names of the encoder's weights begin with in a checkpoint, which holds the whole training model."""


def kept_epochs(run: Run) -> tuple[int, ...]:
    """Epochs done at each kept checkpoint, in order; 0, before training, where those weights can be made again.

    The seed makes them again, unless they came from a file, which may have changed, or inputs were standardised by the
    training subjects. A checkpoint that was written within an epoch is passed over.

    Args:
        run: with any number of checkpoints.
    """
    recipe = run.recipe
    kept = tuple(sorted(_step_by_epoch(run)))
    remade = not recipe.encoder.initial_weights and not recipe.data.modalities
    return (0, *kept) if remade else kept


def spread(epochs: Sequence[int], most: int) -> tuple[int, ...]:
    """At most so many epochs, the first and last among them, the others near to equal ratios: much happens early.

    Args:
        epochs: ascending.
        most: 2 or more.
    """
    if len(epochs) <= most:
        return tuple(epochs)
    # One is added so that epoch 0 has a logarithm; nearest by ratio, and no epoch twice.
    positions = np.log1p(np.asarray(epochs, dtype=np.float64))
    chosen = [0]
    for rank in range(1, most):
        ideal = positions[0] + (positions[-1] - positions[0]) * rank / (most - 1)
        free = np.arange(chosen[-1] + 1, len(epochs) - (most - 1 - rank))
        chosen.append(int(free[np.abs(positions[free] - ideal).argmin()]))
    return tuple(epochs[index] for index in chosen)


def embed_epochs(run: Run, store: Store, cohort: Cohort, epochs: Sequence[int]) -> dict[int, np.ndarray]:
    """Embeddings of a cohort's scans by the encoder as it was after each of some epochs.

    Args:
        run: whose checkpoints are read, one at a time.
        store: where the scans are.
        cohort: which scans.
        epochs: some of `kept_epochs`.

    Returns:
        embeddings_NE by epoch, float32, computed in float32 on the run's device.

    Raises:
        RunError: a checkpoint is missing or damaged.
        KeyError: an epoch is not kept.
    """
    recipe = run.recipe
    # As in training: a checkpoint of another recipe or store is refused, not drawn.
    written = TrainRecipe.model_validate(run.record.recipe)
    origin = {"recipe": written.deciding, "fingerprint": run.record.fingerprint}
    checkpoints = Checkpoints(run.location, keep=recipe.checkpoint.keep, origin=origin)
    step_by_epoch = _step_by_epoch(run)
    compute = Compute(choose_compute(recipe.device, "float32").device, torch.float32)
    found: dict[int, np.ndarray] = {}
    for epoch in epochs:
        if epoch == 0:
            encoder = new_model(recipe, store).encoder
        else:
            weights = checkpoints.load_kept(step_by_epoch[epoch])["model"]
            encoder = encoder_for(recipe.encoder, recipe.data, store)
            encoder.load_state_dict(
                {name.removeprefix(_ENCODER): value for name, value in weights.items() if name.startswith(_ENCODER)}
            )
        found[epoch] = embed_cohort(encoder.to(compute.device), store, recipe.data.arrays, cohort, compute)
    return found


def _step_by_epoch(run: Run) -> dict[int, int]:
    """Steps done at the end of each epoch, counted from 1, whose checkpoint is kept."""
    kept = set(Checkpoints(run.location, keep=1).kept())
    ends = {int(entry["epoch"]) + 1: int(entry["step"]) for entry in read_history(run.location)}
    return {epoch: step for epoch, step in ends.items() if step in kept}
