"""What a run is trained with: made alike by every process from recipe and store, before anything is trained."""

from dataclasses import dataclass

from preprocess.console import LOG
from preprocess.store import Store
from trainer.data.splits import Split
from trainer.fit.context import score_statistics, training_cohort
from trainer.fit.distributed import Group
from trainer.fit.model import TrainingModel, new_model
from trainer.fit.precision import Compute
from trainer.fit.run_plan import RunPlan
from trainer.fit.supply import Supply, SupplyOptions
from trainer.fit.trial import scans_at_once, settle
from trainer.objectives.base import ScoreStatistics
from trainer.recipe import TrainRecipe


@dataclass(frozen=True)
class Parts:
    """What every process makes alike from recipe and store.

    Attributes:
        plan: who trains on what.
        store: where volumes are.
        compute: device and number format.
        group: the processes that train together.
        statistics: mean, sd and range of the training subjects' scores; None without two different ones.
        model: new networks.
        supply: streams of volumes.
    """

    plan: RunPlan
    store: Store
    compute: Compute
    group: Group
    statistics: ScoreStatistics | None
    model: TrainingModel
    supply: Supply

    @classmethod
    def read(
        cls,
        recipe: TrainRecipe,
        store: Store,
        compute: Compute,
        group: Group,
        options: SupplyOptions,
        split: Split | None,
    ) -> "Parts":
        """Read the cohort, plan the run and build the networks.

        Raises:
            InterscanError: the store does not fit the recipe, or the networks not the device.
        """
        cohort = training_cohort(store, recipe)
        if cohort.note and split is None and group.is_first:
            LOG.warning("%s", cohort.note)
        plan = RunPlan.of(recipe, cohort, split)
        recipe = plan.recipe
        model = new_model(recipe, store)
        compute = settle(
            compute,
            recipe.precision,
            model,
            {name: store.layout(name).shape for name in recipe.data.arrays},
            num_scans=scans_at_once(recipe.data, cache_chunk=recipe.optim.cache_chunk),
            group=group,
        )
        supply = Supply(
            store,
            recipe.data.arrays,
            num_volumes=len(plan.training) + len(plan.validation),
            in_flight=recipe.data.in_flight,
            max_left_out=recipe.data.max_left_out,
            resident=recipe.data.resident,
            options=options,
            compute=compute,
        )
        return cls(
            plan=plan,
            store=store,
            compute=compute,
            group=group,
            statistics=score_statistics(plan.training),
            model=model,
            supply=supply,
        )
