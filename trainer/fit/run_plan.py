"""What a run is made of before it trains: subjects, scans and batches; a pure function of recipe and scans.

`train` follows it, `plan` counts it, `cross-validate` makes one for each fold, and the demo finds the held-out
subjects with it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trainer.data.cohort import Cohort
from trainer.data.sampling import Sampler
from trainer.data.splits import Split, member_splits, split_subjects
from trainer.fit.context import require_modalities, with_threshold
from trainer.recipe import TrainRecipe


@dataclass(frozen=True)
class RunPlan:
    """The parts of one run.

        plan = RunPlan.of(recipe, cohort_of(store, recipe.data, recipe.outcome.name))
        plan.sampler.batches(0)  # what the first epoch trains on

    Attributes:
        recipe: every setting, with the threshold that the training subjects give.
        split: who trains, validates and is held out.
        training: scans of the training subjects.
        validation: scans of the validation subjects.
    """

    recipe: TrainRecipe
    split: Split
    training: Cohort
    validation: Cohort

    @classmethod
    def of(cls, recipe: TrainRecipe, cohort: Cohort, split: Split | None = None) -> "RunPlan":
        """Plan a run.

        Args:
            recipe: every setting.
            cohort: all scans of the store that the recipe reads.
            split: drawn as the recipe says when not given.

        Raises:
            UsageError: too few subjects to split, no training subject has a modality, or no threshold can be fitted.
        """
        split = split or draw_split(recipe, cohort.subject_ids, together=cohort.together)
        training, validation = (cohort.of_subjects(split.of(part)) for part in ("train", "validation"))
        require_modalities(training, recipe.data.modalities)
        return cls(with_threshold(recipe, training), split, training, validation)

    def members(self, cohort: Cohort) -> tuple["RunPlan", ...]:
        """The runs that are trained for this one: one for each member of an ensemble, else itself.

        Args:
            cohort: all scans of the store that the recipe reads.

        Raises:
            UsageError: fewer training subjects than members.
        """
        num_members = self.recipe.ensemble.members
        if num_members == 1:
            return (self,)
        splits = member_splits(self.split, num_members, seed=self.recipe.seed, together=cohort.together)
        return tuple(
            RunPlan.of(member_recipe(self.recipe, number), cohort, split) for number, split in enumerate(splits)
        )

    @cached_property
    def sampler(self) -> Sampler:
        """The batches of every epoch."""
        data = self.recipe.data
        # A batch in which no scan has a score would teach an objective of scores nothing.
        only_scores = all(term.needs_scores for term in self.recipe.terms)
        return Sampler(
            self.training.scored() if only_scores else self.training,
            sampling=data.sampling,
            num_visits=data.num_visits,
            batch_size=data.batch_size,
            subjects_per_epoch=data.subjects_per_epoch,
            seed=self.recipe.seed,
        )


def member_recipe(recipe: TrainRecipe, number: int) -> TrainRecipe:
    """The recipe of one member, counted from 0: a single network with a seed of its own."""
    state = np.random.SeedSequence([recipe.seed, number, 0xE5E]).generate_state(1)[0]
    single = recipe.ensemble.model_copy(update={"members": 1})
    # 31 bits, which every library takes.
    return recipe.model_copy(update={"ensemble": single, "seed": int(state) >> 1})


def draw_split(recipe: TrainRecipe, subject_ids: Iterable[str], *, together: Collection[frozenset[str]] = ()) -> Split:
    """Who trains, validates and is held out, as a recipe's split and seed say.

    Args:
        recipe: whose split and seed are read.
        subject_ids: in any order, repeats allowed.
        together: sets of subjects that stay on one side.

    Raises:
        UsageError: too few subjects.
    """
    return split_subjects(
        subject_ids,
        validation=recipe.split.validation,
        test=recipe.split.test,
        train=recipe.split.train,
        seed=recipe.seed,
        together=together,
    )
