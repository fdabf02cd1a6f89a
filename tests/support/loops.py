"""A training loop on a tiny store, as the loop's own tests and those of several processes need it."""

from collections.abc import Callable

import torch

from preprocess.storage import Location
from preprocess.store import Store
from tests.support.cohorts import MODALITY
from trainer.data.augment import Augment
from trainer.data.cohort import Cohort, read_cohort
from trainer.data.sampling import Sampler
from trainer.fit.batches import TrainingBatches
from trainer.fit.checkpoint import Checkpoints
from trainer.fit.context import build_objectives, score_statistics
from trainer.fit.distributed import ALONE, Group
from trainer.fit.loop import Loop
from trainer.fit.model import TrainingModel, scan_model
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
    compute: Compute = EXACT,
    supply: Supply | None = None,
    augment: Augment | None = None,
    validate: Callable[[TrainingModel], dict[str, float]] = lambda model: {},
    every_epochs: int = 0,
    best: str = "",
    group: Group = ALONE,
) -> tuple[Loop, Cohort]:
    """A loop over all scans of a store, and the scans.

    Args:
        recipe: every setting.
        store: from `tests.support.cohorts`.
        run: where checkpoints go.
        seed: of the initial weights.
        compute: device and number format.
        supply: streams of the batches; one that keeps nothing when not given.
        augment: random views; those of the recipe when not given.
        validate: metrics of the model after an epoch.
        every_epochs: epochs between checkpoints; those of the recipe when 0.
        best: metric whose best checkpoint is kept.
        group: the processes that train together.
    """
    cohort = read_cohort(store, MODALITY, "mmse")
    torch.manual_seed(seed)
    if supply is None:
        # Nothing is kept, so that each epoch reads what it plans.
        supply = Supply(
            store,
            recipe.data.arrays,
            num_volumes=len(cohort),
            in_flight=recipe.data.in_flight,
            max_left_out=recipe.data.max_left_out,
            options=SupplyOptions(keep_resident=False),
            compute=compute,
        )
    sampler = Sampler(
        cohort,
        sampling=recipe.data.sampling,
        num_visits=recipe.data.num_visits,
        batch_size=recipe.data.batch_size,
        subjects_per_epoch=recipe.data.subjects_per_epoch,
        seed=recipe.seed,
    )
    loop = Loop(
        scan_model(recipe.encoder, in_channels=1),
        [
            Phase(
                phase.name,
                phase.epochs,
                build_objectives(phase.objective, score_statistics(cohort), outcome=recipe.outcome),
                phase.learning_rate,
            )
            for phase in recipe.phases
        ],
        TrainingBatches(
            sampler,
            supply,
            augment={MODALITY: augment or Augment(**recipe.augment.model_dump())},
            num_views=recipe.data.views,
            compute=compute,
            group=group,
        ),
        optimisation=Optimisation(**recipe.optim.model_dump(exclude={"epochs"})),
        compute=compute,
        saving=Saving(Checkpoints(run, keep=2), every_epochs or recipe.checkpoint.every_epochs, best),
        validate=validate,
        group=group,
    )
    return loop, cohort
