"""Cross-validates a whole recipe: one run a fold, measured on the fold's test subjects, summed up by repeat.

protocol.json                   recipe, store and number of folds; written first, and held against each later call
runs/repeat-00-fold-00/         the fold's run with its split; weights are deleted after measuring, unless --keep-runs
folds/repeat-00-fold-00.json    the fold's metrics; a fold that has them is done
cross_validation.json           the summary, written last

Encoder, standardisation, heads, epochs and thresholds are all fitted or chosen inside the fold. What was done is never
done again, and a fold that was cut off goes on from its checkpoint, so a second call ends where one call would have.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pydantic

from preprocess.console import LOG
from preprocess.errors import Interrupted, RunError, UsageError
from preprocess.lease import CROSS_VALIDATION, held
from preprocess.storage import Location
from preprocess.store import Store
from trainer.data.cohort import Cohort
from trainer.evaluate.fold_plan import PlannedFold, plan_folds
from trainer.evaluate.measure import measure_run
from trainer.fit.context import training_cohort
from trainer.fit.distributed import world_of
from trainer.fit.run import Run, differences, drop_weights, git_revision
from trainer.fit.run_files import RunFile, parse_file
from trainer.fit.stop import StopRequest, listening
from trainer.fit.supply import SupplyOptions
from trainer.fit.train import train_run
from trainer.metrics.evaluation import Metric
from trainer.metrics.repeated import FoldSize, RepeatedMetric, summed_up
from trainer.recipe import TrainRecipe, refuse_renamed

PROTOCOL_NAME = "protocol.json"
SUMMARY_NAME = "cross_validation.json"

HEADLINE = {
    "progression": "macro_f1",
    "regression": "probe_mae",
    "severity": "severity_macro_f1",
    "classification": "class_auc",
}
"""The metric of each task that the log shows while folds go by."""


class FoldMetrics(pydantic.BaseModel):
    """What one fold found.

    Attributes:
        repeat: which repeat it belongs to, from 0.
        fold: which fold of the repeat, from 0.
        split_sha256: digest of the fold's split.
        num_train: subjects with the outcome that trained or validated.
        num_test: subjects that were tested; all have the outcome.
        metrics: by name, without intervals, which few subjects of one fold could not carry.
    """

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    repeat: int
    fold: int
    split_sha256: str
    num_train: int
    num_test: int
    metrics: dict[str, Metric]


@dataclass(frozen=True)
class CrossValidation:
    """The summary.

    Attributes:
        recipe: its name.
        outcome: the score.
        fingerprint: fingerprint of the store's recipe.
        index_sha256: digest of the store's index.
        num_folds: number of folds in each repeat.
        num_repeats: how many times the subjects were divided into folds anew.
        num_subjects: with the outcome, each tested once a repeat.
        num_unscored: without the outcome, who only train.
        num_train: training subjects of a fold with the outcome, on average; those that validate count.
        num_test: test subjects of a fold, on average.
        metrics: by name, those that every fold has.
        incomplete: how many folds have each of the others.
    """

    recipe: str
    outcome: str
    fingerprint: str
    index_sha256: str
    num_folds: int
    num_repeats: int
    num_subjects: int
    num_unscored: int
    num_train: float
    num_test: float
    metrics: dict[str, RepeatedMetric]
    incomplete: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        # Summaries have called them `figures` from the beginning, and programs read that key.
        return {"figures" if name == "metrics" else name: value for name, value in asdict(self).items()}

    def table(self) -> str:
        """One line a metric, for a person."""
        width = max([len(name) for name in self.metrics], default=0)
        lines = [
            f"{self.recipe} on {self.outcome}: {self.num_folds} folds, repeats: {self.num_repeats}; "
            f"{self.num_train:.1f} training and {self.num_test:.1f} test subjects a fold",
            f"{'figure':{width}}  {'mean':>8}  {'95 % interval':>20}  {'sd of repeats':>13}  {'chance':>8}",
        ]
        for name, one in self.metrics.items():
            interval = "does not vary" if one.low is None else f"{one.low:.3f} to {one.high:.3f}"
            lines.append(
                f"{name:{width}}  {one.value:8.3f}  {interval:>20}  {_or_dash(one.sd):>13}  {_or_dash(one.chance):>8}"
            )
        lines.append("interval: corrected resampled t over all folds (Nadeau and Bengio 2003)")
        if self.incomplete:
            of = self.num_folds * self.num_repeats
            counted = ", ".join(f"{name} ({count} of {of} folds)" for name, count in self.incomplete.items())
            lines.append(f"left out, since some folds cannot have it: {counted}")
        return "\n".join(lines)


def cross_validate(
    recipe: TrainRecipe,
    store: Store,
    location: Location,
    *,
    num_folds: int,
    num_repeats: int,
    progress: Callable[[int, int], None],
    supply: SupplyOptions | None = None,
    keep_runs: bool = False,
) -> CrossValidation:
    """Train and measure every fold that is not done yet, then sum up.

    Args:
        recipe: every setting; its seed decides folds and runs, split.test is not used, and split.validation is the
            fraction of a fold's training subjects that validates.
        store: what to train on.
        location: folder of the cross-validation; the same again goes on, also with more repeats.
        num_folds: number of folds in each repeat.
        num_repeats: how many divisions into folds.
        progress: called with folds done and folds in all.
        supply: memory and disk cache of this machine.
        keep_runs: whether a fold's weights stay after it was measured.

    Returns:
        The summary over the requested repeats, as it is written.

    Raises:
        UsageError: the cohort cannot be divided so, or several processes were started.
        RunError: the folder holds another cross-validation, or another process works on this one.
        Interrupted: stopped on request, after a checkpoint or between two folds.
        InterscanError: as `train_run`.
    """
    if world_of(dict(os.environ)) is not None:
        raise UsageError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']} and folds are trained in one process; start it without torchrun"
        )
    cohort = training_cohort(store, recipe)
    if cohort.note:
        LOG.warning("%s", cohort.note)
    folds = plan_folds(
        cohort,
        outcome=recipe.outcome.name,
        task=recipe.task,
        num_folds=num_folds,
        num_repeats=num_repeats,
        validation=recipe.split.validation,
        train=recipe.split.train,
        seed=recipe.seed,
    )
    found = []
    with held(location, CROSS_VALIDATION, does="works on") as leased, listening() as stop:
        _begin(leased, recipe, store, num_folds)
        for done, fold in enumerate(folds):
            progress(done, len(folds))
            measured = _read_metrics(leased, fold)
            if measured is None:
                if stop.requested:
                    raise Interrupted(
                        f"stopped after {done} of {len(folds)} folds, their figures written; run the same command "
                        "again to go on"
                    )
                measured = _follow_fold(recipe, store, cohort, leased, fold, supply, stop, keep_runs)
            elif not keep_runs and _is_last_measured(leased, folds, done):
                # A cut between its metrics and the end of its weights has left them.
                drop_weights(_run_of(leased, fold))
            found.append(measured)
        progress(len(folds), len(folds))
        metrics, incomplete = summarise(found)
        summary = CrossValidation(
            recipe=recipe.name,
            outcome=recipe.outcome.name,
            fingerprint=store.manifest.fingerprint,
            index_sha256=store.manifest.index_sha256,
            num_folds=num_folds,
            num_repeats=num_repeats,
            num_subjects=len(cohort.scored().indices_by_subject),
            num_unscored=len(cohort.indices_by_subject) - len(cohort.scored().indices_by_subject),
            num_train=float(np.mean([fold.size.num_train for fold in folds])),
            num_test=float(np.mean([fold.size.num_test for fold in folds])),
            metrics=metrics,
            incomplete=incomplete,
        )
        leased.write(SUMMARY_NAME, json.dumps(summary.to_dict(), indent=2, allow_nan=False).encode())
    return summary


def summarise(found: Sequence[FoldMetrics]) -> tuple[dict[str, RepeatedMetric], dict[str, int]]:
    """Metrics that all folds have, summed up by repeat, and how many folds have each of the others.

    Chance is the mean over folds, where all have one.

    Args:
        found: the metrics of each fold, at least two folds.
    """
    sizes = [FoldSize(one.repeat, one.num_train, one.num_test) for one in found]
    metrics: dict[str, RepeatedMetric] = {}
    incomplete: dict[str, int] = {}
    for name in dict.fromkeys(name for one in found for name in one.metrics):
        measured = [one.metrics[name] for one in found if name in one.metrics]
        values = [metric.value for metric in measured if metric.value is not None]
        if len(values) < len(found):
            incomplete[name] = len(values)
            continue
        chances = [metric.chance for metric in measured if metric.chance is not None]
        chance = float(np.mean(chances)) if len(chances) == len(found) else None
        metrics[name] = summed_up(values, sizes, chance=chance)
    return metrics, incomplete


def _follow_fold(
    recipe: TrainRecipe,
    store: Store,
    cohort: Cohort,
    location: Location,
    fold: PlannedFold,
    supply: SupplyOptions | None,
    stop: StopRequest,
    keep_runs: bool,
) -> FoldMetrics:
    """Train and measure one fold; its metrics are written before its weights go."""
    run_location = _run_of(location, fold)
    own = recipe.model_copy(update={"seed": fold.seed})
    train_run(own, store, run_location, progress=lambda *_: None, supply=supply, split=fold.split, stop=stop)
    run = Run.open(run_location)
    found = FoldMetrics(
        repeat=fold.repeat,
        fold=fold.number,
        split_sha256=fold.split_sha256,
        num_train=fold.size.num_train,
        num_test=fold.size.num_test,
        metrics=measure_run(run, store, cohort, num_resamples=0).metrics,
    )
    # Before the weights go: without its metrics a fold would be trained again.
    location.write(_metrics_name(fold), found.model_dump_json(indent=2).encode())
    if not keep_runs:
        drop_weights(run_location)
    shown = found.metrics.get(HEADLINE[recipe.task])
    if shown is not None and shown.value is not None:
        LOG.info("%s: %s %.3f", fold.name, HEADLINE[recipe.task], shown.value)
    return found


def _read_metrics(location: Location, fold: PlannedFold) -> FoldMetrics | None:
    name = _metrics_name(fold)
    try:
        found = FoldMetrics.model_validate_json(location.read(name))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except pydantic.ValidationError as error:
        raise RunError(
            f"{location.uri}/{name}: not what this version writes; delete it and the fold's run to train it again"
        ) from error
    if found.split_sha256 != fold.split_sha256:
        raise RunError(
            f"{location.uri}/{name}: its split is {found.split_sha256[:12]}, this version's is "
            f"{fold.split_sha256[:12]}; go on with the version that began, or use another --out"
        )
    return found


class Protocol(RunFile):
    """protocol.json: what a cross-validation was begun with.

    Attributes:
        recipe: every setting, as a later version may no longer know it.
        store_uri: where the store was.
        fingerprint: fingerprint of the store's recipe.
        index_sha256: digest of the store's index.
        num_folds: folds of a repeat.
        git_revision: commit of the program that began it.
    """

    recipe: dict[str, Any]
    store_uri: str
    fingerprint: str
    index_sha256: str
    num_folds: int
    git_revision: str = "unknown"


def _begin(location: Location, recipe: TrainRecipe, store: Store, num_folds: int) -> None:
    """Write down what is cross-validated, or hold it against what was begun there."""
    protocol = Protocol(
        recipe=recipe.model_dump(mode="json"),
        store_uri=store.location.uri,
        fingerprint=store.manifest.fingerprint,
        index_sha256=store.manifest.index_sha256,
        num_folds=num_folds,
        git_revision=git_revision(),
    )
    if location.create(PROTOCOL_NAME, protocol.to_json()):
        return
    where = f"{location.uri}: this cross-validation was begun with another"
    remedy = "put back a copy of it, or use another --out"
    data = location.read(PROTOCOL_NAME)
    begun = parse_file(Protocol, data, where=f"{location.uri}/{PROTOCOL_NAME}", remedy=remedy)
    refuse_renamed(begun.recipe, where=f"{location.uri}/{PROTOCOL_NAME}", error=RunError)
    try:
        begun_with = TrainRecipe.model_validate(begun.recipe)
    except pydantic.ValidationError as error:
        raise RunError(f"{where} version; go on with that version, or use another --out") from error
    changed = list(differences(begun_with.deciding, recipe.deciding))
    if changed:
        raise RunError(f"{where} recipe ({', '.join(changed)}); use that recipe to go on, or another --out")
    for key, before, now in (
        ("fingerprint", begun.fingerprint, protocol.fingerprint),
        ("index_sha256", begun.index_sha256, protocol.index_sha256),
    ):
        if before != now:
            raise RunError(
                f"{where} store, whose {key} is {before}, {store.location.uri} has {now}; use that store to go on, or "
                "another --out"
            )
    if begun.num_folds != num_folds:
        raise RunError(
            f"{where} number of folds: it was {begun.num_folds} and is {num_folds}; use that number to go on, or "
            "another --out"
        )


def _is_last_measured(location: Location, folds: Sequence[PlannedFold], done: int) -> bool:
    """Whether no later fold has its metrics; they are followed in order."""
    return done + 1 == len(folds) or not location.exists(_metrics_name(folds[done + 1]))


def _run_of(location: Location, fold: PlannedFold) -> Location:
    return location.child(f"runs/{fold.name}")


def _metrics_name(fold: PlannedFold) -> str:
    return f"folds/{fold.name}.json"


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
