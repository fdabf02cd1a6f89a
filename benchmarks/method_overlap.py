"""How far the divisions of one cohort by several seeds overlap, and a case's comparisons with that allowed for."""

from collections.abc import Mapping

import numpy as np

from benchmarks.method_cases import Case
from benchmarks.method_comparison import MethodComparison, Overlap, Table, compare_methods
from trainer.data.splits import split_subjects
from trainer.recipe import load_recipe


def overlap_of(case: Case, num_subjects: int, *, num_seeds: int) -> Overlap:
    """Subjects that the runs of a case train or validate on, and those that they hold out, on average over seeds.

    Args:
        case: whose arms share the split.
        num_subjects: subjects of its cohort, all with the score.
        num_seeds: seeds 0, 1, ...
    """
    settings = next(arm for arm in case.arms if arm.name == case.baseline)
    recipe = load_recipe(settings.recipe, (*case.settings, *settings.settings))
    names = [f"{number:06d}" for number in range(num_subjects)]
    splits = [split_subjects(names, **recipe.split.model_dump(), seed=seed) for seed in range(num_seeds)]
    return Overlap(
        num_train=float(np.mean([len(split.train) + len(split.validation) for split in splits])),
        num_test=float(np.mean([len(split.test) for split in splits])),
    )


def compare_case(
    case: Case, values: Mapping[str, Table], overlap: Overlap, *, baseline: str | None = None
) -> list[MethodComparison]:
    """The comparison of a case by each of its metrics that all arms have.

    Args:
        case: says which metrics, in which direction.
        values: by metric, arm and seed.
        overlap: how the seeds share subjects.
        baseline: another arm than the case's to hold the others against.
    """
    return [
        compare_methods(
            values[metric.name],
            metric=metric.name,
            baseline=baseline or case.baseline,
            higher_is_better=metric.higher_is_better,
            chance=metric.chance,
            overlap=overlap if metric.of_held_out else None,
        )
        for metric in case.metrics
        if values.get(metric.name, {}).keys() == {arm.name for arm in case.arms}
    ]
