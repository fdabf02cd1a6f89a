"""What each part of the recipe `change` adds: one store, one division into folds for all arms, every person held out.

python -m benchmarks.change STORE [--folds 5] [--only NAME ...] [--work FOLDER] [--out FILE]

An arm trains on the people outside a fold and answers for those in it; answers of all folds are pooled, and intervals
are over people. The ridge alone, which looks at the scans without a network, is fitted on the same people. With --work
what is finished stays. Five folds of all arms take about 40 minutes on two cores.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.running import finish, machine
from preprocess.storage import Location
from preprocess.store import Store
from trainer.data.cohort import Cohort
from trainer.evaluate.answers import answer_metrics
from trainer.evaluate.fold_plan import PlannedFold, plan_folds
from trainer.evaluate.measure import exact_compute, measure_run
from trainer.evaluate.ridge_control import ridge_controls
from trainer.evaluate.turns import Answers, Turn
from trainer.fit.context import cohort_of
from trainer.fit.run import Run
from trainer.fit.train import train_run
from trainer.metrics.evaluation import Metric
from trainer.metrics.intervals import cluster_bootstrap
from trainer.metrics.progression import macro_f1
from trainer.recipe import TrainRecipe, load_recipe

_ALONE = ("ensemble.members=1", "encoder.linear_grid=0", "encoder.mirror=false")
_NO_DIFFERENCE = "objective=[{name='learner', variant='regressed'}, {name='info_nce', weight=0.1, temperature=0.1}]"


@dataclass(frozen=True)
class Arm:
    """One line of the table.

    Attributes:
        name: in the table.
        settings: what it changes of the recipe `change`.
    """

    name: str
    settings: tuple[str, ...]


ARMS = (
    Arm("scores and identity, head on embeddings", (*_ALONE, _NO_DIFFERENCE, "head.on=embedding")),
    Arm("the same without shrinking", (*_ALONE, _NO_DIFFERENCE, "head.on=embedding", "encoder.shrink=1")),
    Arm("score and its difference", _ALONE),
    Arm("the same without shrinking", (*_ALONE, "encoder.shrink=1")),
    Arm("with the linear score", ("ensemble.members=1", "encoder.mirror=false")),
    Arm("with three members", ("encoder.mirror=false",)),
    Arm("with mirror images: the recipe", ()),
)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("store")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", nargs="*", type=int, help="numbers of arms, from 0")
    parser.add_argument("--work", type=Path, default=Path("change-work"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    before = machine(torch.__version__)
    store, base = Store.open(options.store), load_recipe("change")
    cohort = cohort_of(store, base.data, base.outcome.name)
    folds = folds_of(cohort, base, options.folds)
    found: dict[str, Answers] = {}
    for number, arm in enumerate(ARMS):
        if options.only is None or number in options.only:
            recipe = load_recipe("change", arm.settings)
            turns = [follow(recipe, store, fold, options.work / str(number)) for fold in folds]
            found[f"{number} {arm.name}"] = Answers(tuple(turns), recipe.outcome.higher_is_better)
    any_arm = next(iter(found.values()))
    ridges = ridge_answers(any_arm, store, cohort, base)
    found |= {f"{name}, no network": answers for name, answers in ridges.items()}
    metrics = {name: answer_metrics(answers, None, seed=0, num_resamples=2000) for name, answers in found.items()}
    errors = {name: error_sd(answers) for name, answers in found.items()}
    leads = {name: lead(answers, any_arm) for name, answers in found.items()}
    result: dict[str, Any] = {
        name: {
            "error_sd": errors[name],
            "lead": leads[name].model_dump(),
            "metrics": {key: metric.model_dump() for key, metric in own.items()},
        }
        for name, own in metrics.items()
    }
    result["machine"] = before | {"load_1_min_after": machine("")["load_1_min"]}
    finish(result, table(metrics, errors, leads), options.out)


def folds_of(cohort: Cohort, recipe: TrainRecipe, num_folds: int) -> list[PlannedFold]:
    """The one division into folds that all arms share."""
    return plan_folds(
        cohort,
        outcome=recipe.outcome.name,
        task="progression",
        num_folds=num_folds,
        num_repeats=1,
        validation=recipe.split.validation,
        seed=0,
    )


def ridge_answers(answers: Answers, store: Store, cohort: Cohort, recipe: TrainRecipe) -> dict[str, Answers]:
    """What each ridge answers to the pairs of all turns, fitted on the same people as those who answered there."""
    ends = np.cumsum([len(turn.pairs) for turn in answers.turns])[:-1]
    found = {}
    for ridge in ridge_controls(answers, store, cohort, recipe, exact_compute(recipe)):
        assert ridge.probabilities_P3 is not None
        parts = np.split(ridge.probabilities_P3, ends)
        turns = (
            Turn(turn.training, turn.cohort, turn.pairs, own_P3, None)
            for turn, own_P3 in zip(answers.turns, parts, strict=True)
        )
        found[ridge.name] = Answers(tuple(turns), answers.higher_is_better)
    return found


def follow(recipe: TrainRecipe, store: Store, fold: PlannedFold, folder: Path) -> Turn:
    """Train on the people outside a fold, and answer for those in it."""
    location = Location(folder / fold.name)
    own = recipe.model_copy(update={"seed": fold.seed})
    train_run(own, store, location, progress=lambda *_: None, split=fold.split)
    cohort = cohort_of(store, own.data, own.outcome.name)
    measured = measure_run(Run.open(location), store, cohort, num_resamples=0)
    if measured.answers is None:
        raise SystemExit(f"{location.uri}: no progression head; the cohort is too small for this benchmark")
    print(f"{folder.name} {fold.name}: macro-F1 {measured.metrics['macro_f1'].value:.3f}", flush=True)
    return measured.answers.turns[-1]


def error_sd(answers: Answers) -> float | None:
    """Standard deviation of told minus true change, in points; None for a head on embeddings."""
    if answers.improvements_P is None:
        return None
    sign = 1.0 if answers.higher_is_better else -1.0
    return float(np.std(answers.improvements_P - sign * answers.delta_P))


def lead(answers: Answers, over: Answers) -> Metric:
    """Macro-F1 more than another arm's on the same pairs, with an interval over people."""
    labels_P, own_P, other_P = (
        answers.labels_P,
        answers.probabilities_P3.argmax(axis=1),
        over.probabilities_P3.argmax(axis=1),
    )
    interval = cluster_bootstrap(
        lambda rows: macro_f1(labels_P[rows], own_P[rows]) - macro_f1(labels_P[rows], other_P[rows]),
        answers.table().subject_id,
        seed=0,
        num_resamples=2000,
    )
    return Metric.from_interval(interval, num=len(labels_P), chance=0.0)


def table(metrics: dict[str, dict[str, Metric]], errors: dict[str, float | None], leads: dict[str, Metric]) -> str:
    """The table of docs/methods/change.md."""
    lines = [
        "| arm | macro-F1 | lead over the first | same scanner | changed | log loss | calibration error | error, sd |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, own in metrics.items():
        values = [
            _shown(own["macro_f1"]),
            _shown(leads[name]),
            _shown(own["same_scanner_macro_f1"]),
            _shown(own["changed_scanner_macro_f1"]),
            _shown(own["log_loss"]),
            _shown(own["calibration_error"]),
            "" if errors[name] is None else f"{errors[name]:.2f}",
        ]
        lines.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join(lines)


def _shown(metric: Metric) -> str:
    if metric.value is None:
        return "none"
    between = "" if metric.low is None else f" ({metric.low:.2f} to {metric.high:.2f})"
    return f"{metric.value:.3f}{between}"


if __name__ == "__main__":
    main()
