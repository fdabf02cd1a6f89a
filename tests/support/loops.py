"""A training loop on a tiny store, as the loop's own tests and those of several processes need it."""

from typing import Any

import torch

from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import MODALITY
from trainer.data.augment import Augment
from trainer.data.cohort import Cohort, read_cohort
from trainer.data.sampling import Sampler
from trainer.fit.checkpoint import Checkpoints
from trainer.fit.context import build_objectives, score_statistics
from trainer.fit.loop import Loop
from trainer.fit.model import TrainingModel
from trainer.fit.optim import Optimisation
from trainer.fit.phases import Phase
from trainer.fit.precision import Compute
from trainer.fit.saving import Saving
from trainer.fit.supply import Supply, SupplyOptions
from trainer.recipe import TrainRecipe

EXACT = Compute(torch.device("cpu"), torch.float32)


def build_loop(
    recipe: TrainRecipe,
    store: Store,
    run: Location,
    *,
    seed: int,
    every_epochs: int = 0,
    best: str = "",
    **changes: Any,
) -> tuple[Loop, Cohort]:
    """A loop over all scans of a store, and the scans.

    Args:
        recipe: every setting.
        store: from `tests.support.cohorts`.
        run: where checkpoints go.
        seed: of the initial weights.
        every_epochs: epochs between checkpoints, when not those of the recipe.
        best: figure whose best checkpoint is kept.
        changes: arguments of the loop to set differently.
    """
    cohort = read_cohort(store, MODALITY, "mmse")
    torch.manual_seed(seed)
    arguments: dict[str, Any] = {
        "data": recipe.data,
        # Nothing is kept, so that each epoch reads what it plans.
        "supply": Supply(
            store, recipe.data, num_volumes=len(cohort), options=SupplyOptions(keep_resident=False), pin_memory=False
        ),
        "optimisation": Optimisation(**recipe.optim.model_dump(exclude={"epochs"})),
        "augment": Augment(**recipe.augment.model_dump()),
        "compute": EXACT,
        "saving": Saving(Checkpoints(run, keep=2), every_epochs or recipe.checkpoint.every_epochs, best),
        "validate": lambda model: {},
    }
    loop = Loop(
        TrainingModel(recipe.encoder, in_channels=1),
        [
            Phase(
                phase.name,
                phase.epochs,
                build_objectives(phase.objective, score_statistics(cohort), outcome=recipe.outcome),
                phase.learning_rate,
            )
            for phase in recipe.phases
        ],
        store,
        Sampler(
            cohort,
            sampling=recipe.data.sampling,
            num_visits=recipe.data.num_visits,
            batch_size=recipe.data.batch_size,
            subjects_per_epoch=recipe.data.subjects_per_epoch,
            seed=recipe.seed,
        ),
        **{**arguments, **changes},
    )
    return loop, cohort
