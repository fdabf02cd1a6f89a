"""What N4 and rigid registration do to the change figures: one synthetic cohort, one division into folds for all ways.

python -m benchmarks.preparation COHORT [--folds 5] [--work FOLDER] [--out FILE]

COHORT is a BIDS folder of `interscan synth brain`, whose heads are too unlike the template to be registered to it.
Each way preprocesses all of it; what is finished in --work stays. Then, with no network, so that nothing but the
preparation differs: what part of the difference between two visits a rescan of the same day shows too, by scanner; and
the two ridges of `trainer.evaluate.ridge_control`, fitted on the people outside a fold and answering for those in it.
Intervals are over people, leads on the same pairs.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.change import folds_of, lead, ridge_answers
from benchmarks.running import finish, machine
from preprocess.engine import preprocess
from preprocess.recipe import VolumeRecipe
from preprocess.storage import Location
from preprocess.store import Store
from preprocess.transforms import unit_scale
from preprocess.types import PROGRESSIONS
from trainer.data.cohort import Cohort
from trainer.data.pairs import rescan_pairs, visit_pairs
from trainer.evaluate.answers import answer_metrics
from trainer.evaluate.fold_plan import PlannedFold
from trainer.evaluate.turns import Answers, Turn
from trainer.fit.context import cohort_of
from trainer.metrics.evaluation import Metric
from trainer.metrics.intervals import cluster_bootstrap
from trainer.recipe import TrainRecipe, load_recipe

WAYS: dict[str, dict[str, Any]] = {
    "none": {},
    "n4": {"bias_field": "n4"},
    "subject": {"registration": "subject"},
    "n4, subject": {"bias_field": "n4", "registration": "subject"},
}
_INNER = 0.5
"""Half axes of the ellipsoid in which volumes are compared, in half edges of the box: brain, and no skull."""


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("cohort")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--work", type=Path, default=Path("preparation-work"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    before = machine(torch.__version__)
    base = load_recipe("change")
    result: dict[str, Any] = {}
    first: dict[str, Answers] = {}
    for name, settings in WAYS.items():
        store, seconds = made(options.cohort, options.work / name.replace(", ", "-"), VolumeRecipe(**settings))
        cohort = cohort_of(store, base.data, base.outcome.name)
        folds = folds_of(cohort, base, options.folds)
        found: dict[str, Any] = {"s_per_scan": seconds, "prepared": prepared(store)}
        found["rescan_share"] = {key: one.model_dump() for key, one in rescan_shares(store, cohort, base).items()}
        for ridge, answers in ridges(store, cohort, base, folds).items():
            metrics = answer_metrics(answers, None, seed=0, num_resamples=2000)
            first.setdefault(ridge, answers)
            found[ridge] = {key: metric.model_dump() for key, metric in metrics.items()}
            found[ridge]["lead_over_none"] = lead(answers, first[ridge]).model_dump()
        result[name] = found
        print(name, "done", flush=True)
    result["machine"] = before | {"load_1_min_after": machine("")["load_1_min"]}
    finish(result, table(result), options.out)


def made(source: str, folder: Path, recipe: VolumeRecipe) -> tuple[Store, float | None]:
    """The store of one way, and seconds a scan; None where it was there already."""
    location = Location(str(folder))
    is_there = location.exists("store.json")
    start = time.monotonic()
    manifest = preprocess(source, location.uri, recipe, workers=2)
    seconds = None if is_there else (time.monotonic() - start) / manifest.num_kept
    return Store.open(location), seconds


def prepared(store: Store) -> dict[str, Any]:
    """What the index says was done: counts, and medians of what was measured."""
    steps = [one.preparation for one in store.records if one.preparation is not None]
    counts: dict[str, Any] = {"scans": len(store.records)}
    for one in steps:
        if one.registered_to:
            counts[one.registered_to] = counts.get(one.registered_to, 0) + 1
    for key in ("bias_ratio", "turn_deg", "shift_mm", "agreement"):
        values = [getattr(one, key) for one in steps if getattr(one, key) is not None]
        if values:
            counts[key] = float(np.median(values))
    return counts


def rescan_shares(store: Store, cohort: Cohort, recipe: TrainRecipe) -> dict[str, Metric]:
    """Mean difference of grey values within the brain: of scans of one day over that of declined visits, by scanner."""
    repeats, visits = rescan_pairs(cohort, recipe.outcome), visit_pairs(cohort, recipe.outcome, which="consecutive")
    declined = visits.labels_P == PROGRESSIONS.index("declined")
    people, scanners = np.array(cohort.groups), np.array(cohort.scanners)

    def differences(earlier_P: npt.NDArray[Any], later_P: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        return np.array([difference(store, cohort, *pair) for pair in zip(earlier_P, later_P, strict=True)])

    same_P = scanners[repeats.earlier_P] == scanners[repeats.later_P]
    again_P = differences(repeats.earlier_P, repeats.later_P)
    own_P = declined & (scanners[visits.earlier_P] == scanners[visits.later_P])
    change_P = differences(visits.earlier_P[own_P], visits.later_P[own_P])
    shares = {}
    for name, chosen_P in (("same scanner", same_P), ("other scanner", ~same_P)):
        if chosen_P.any():
            values_P, whose_P = again_P[chosen_P], people[repeats.earlier_P[chosen_P]]
            interval = cluster_bootstrap(
                lambda rows, values_P=values_P: float(values_P[rows].mean() / change_P.mean()),
                whose_P,
                seed=0,
                num_resamples=2000,
            )
            shares[name] = Metric.from_interval(interval, num=len(values_P), chance=None)
    return shares


def difference(store: Store, cohort: Cohort, first: int, second: int) -> float:
    """Mean absolute difference of two stored volumes within the inner ellipsoid, in brightness."""
    recipe = store.manifest.recipe
    one, other = (
        store.read(int(cohort.rows_N[index]), "T1w")[0].astype(np.float32) * np.float32(unit_scale(recipe.dtype))
        for index in (first, second)
    )
    ticks = [np.linspace(-1, 1, edge) for edge in one.shape]
    inner = ticks[0][:, None, None] ** 2 + ticks[1][:, None] ** 2 + ticks[2] ** 2 <= _INNER**2
    return float(np.abs(one - other)[inner].mean())


def ridges(store: Store, cohort: Cohort, base: TrainRecipe, folds: list[PlannedFold]) -> dict[str, Answers]:
    """The answers of each ridge for all people, each by one fitted on people of other folds."""
    turns = []
    for fold in folds:
        tested = cohort.of_subjects(frozenset(fold.split.test))
        pairs = visit_pairs(tested, base.outcome, which="consecutive").labelled()
        training = frozenset(fold.split.train) | frozenset(fold.split.validation)
        turns.append(Turn(training, tested, pairs, np.full((len(pairs), 3), 1 / 3), None))
    return ridge_answers(Answers(tuple(turns), base.outcome.higher_is_better), store, cohort, base)


def table(result: dict[str, Any]) -> str:
    """The table of docs/preparation.md."""
    lines = [
        "| way | s a scan | rescan over decline, same scanner | other scanner "
        "| brightness ridge: macro-F1, log loss | tissue ridge: macro-F1, log loss |",
        "|---|---|---|---|---|---|",
    ]
    for name in WAYS:
        own = result[name]
        shares = [_shown(own["rescan_share"].get(key)) for key in ("same scanner", "other scanner")]
        figures = [
            f"{_shown(own[ridge]['macro_f1'])}, {own[ridge]['log_loss']['value']:.2f}" if ridge in own else "none"
            for ridge in ("brightness_ridge", "tissue_ridge")
        ]
        seconds = "" if own["s_per_scan"] is None else f"{own['s_per_scan']:.2f}"
        lines.append(f"| {name} | {seconds} | {' | '.join([*shares, *figures])} |")
    return "\n".join(lines)


def _shown(metric: dict[str, Any] | None) -> str:
    if metric is None or metric["value"] is None:
        return "none"
    between = "" if metric["low"] is None else f" ({metric['low']:.2f} to {metric['high']:.2f})"
    return f"{metric['value']:.2f}{between}"


if __name__ == "__main__":
    main()
