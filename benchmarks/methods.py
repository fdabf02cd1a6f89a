"""The published methods and their baselines side by side on synthetic cohorts: equal data, encoder, epochs and seeds.

python benchmarks/methods.py [--quick] [--seeds 5] [--only one_cohort] [--cache FOLDER] [--plots FOLDER] [--out FILE]

Every arm of a comparison trains on the same store, split, encoder and number of epochs; seeds change split, initial
weights and order of batches, for all arms alike. Metrics are of held-out subjects; intervals are over seeds, corrected
for the subjects that seeds share, and differences are paired by seed. About three hours on one idle core; with --cache,
a run that was cut off goes on where it stopped. `--quick` shows that it runs, no more. benchmarks/method_again.py
compares the figures of a result anew.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.method_cases import CASES, Case
from benchmarks.method_cohorts import open_cohort
from benchmarks.method_comparison import MethodComparison, methods_json, methods_table
from benchmarks.method_overlap import compare_case, overlap_of
from benchmarks.method_plots import DistancePanel, distance_scatter, methods_plot
from benchmarks.method_runs import Arm, numbers, strangers, train_arm
from benchmarks.running import finish, machine
from preprocess.store import Store
from trainer.recipe import load_recipe

SCATTERED = ("learner mse", "learner contrastive", "learner weighted", "learner regressed")
"""Arms whose distances are drawn against score differences, for the first seed."""


def main() -> None:
    """See the module."""
    options = _options()
    before = machine(torch.__version__)
    chosen = [case for case in CASES if options.only in ("", case.name)]
    if not chosen:
        sys.exit(f"--only {options.only}: no such comparison; there are {', '.join(case.name for case in CASES)}")
    result: dict[str, Any] = {}
    tables: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.cache or Path(temporary)
        for case in chosen:
            comparisons, panels = run_case(case, folder, options)
            result[case.name] = {"claim": case.claim, "metrics": json.loads(methods_json(comparisons))}
            tables.append(f"### {case.name}\n\n{case.claim}.\n\n{methods_table(comparisons)}")
            if options.plots is not None:
                _draw(case, comparisons, panels, options.plots)
            if options.out is not None:  # what is finished stays when the next comparison is cut off
                options.out.write_text(json.dumps(result, indent=2) + "\n")
    result["settings"] = {"seeds": options.seeds, "quick": options.quick}
    result["machine"] = before | {"load_1_min_after": machine("")["load_1_min"]}
    finish(result, "\n".join(tables), options.out)


def run_case(
    case: Case, folder: Path, options: argparse.Namespace
) -> tuple[list[MethodComparison], dict[str, DistancePanel]]:
    """Train every arm with every seed; comparisons by each metric that all arms have, and panels of the scatter."""
    store = open_cohort(case.cohort, folder, quick=options.quick)
    values: dict[str, dict[str, dict[int, float]]] = {metric.name: {} for metric in case.metrics}
    panels: dict[str, DistancePanel] = {}
    for seed in range(options.seeds):
        for whole in case.arms:
            arm = whole.shortened() if options.quick else whole
            settings = (*case.settings, *(case.quick if options.quick else ()))
            is_drawn = arm.name in SCATTERED and seed == 0 and options.plots is not None
            kept = folder / "results" / f"{_digest(arm, seed, settings, store)}.json"
            if kept.exists() and not is_drawn:
                found = json.loads(kept.read_text())
            else:
                trained = train_arm(arm, store, seed, settings)
                found = numbers(trained)
                kept.parent.mkdir(exist_ok=True)
                kept.write_text(json.dumps(found))
                if is_drawn:
                    panels[arm.name] = DistancePanel(*strangers(trained))
            metrics = {metric.name: found[metric.key] for metric in case.metrics if metric.key in found}
            sys.stderr.write(
                f"{case.name} {arm.name} seed {seed}: " + ", ".join(f"{k} {v:.3f}" for k, v in metrics.items())
            )
            sys.stderr.write("\n")
            for metric in case.metrics:
                if metric.key in found:
                    values[metric.name].setdefault(arm.name, {})[seed] = found[metric.key]
    overlap = overlap_of(case, len({record.person for record in store.records}), num_seeds=options.seeds)
    return compare_case(case, values, overlap), panels


def _digest(arm: Arm, seed: int, settings: tuple[str, ...], store: Store) -> str:
    """What decides the numbers of a run: how it is measured, its recipe and settings, its data."""
    recipe = load_recipe(arm.recipe, (*settings, *arm.settings, f"seed={seed}")).model_dump_json()
    return hashlib.sha256(f"as evaluate {recipe} {store.manifest.index_sha256}".encode()).hexdigest()[:24]


def _draw(case: Case, comparisons: list[MethodComparison], panels: dict[str, DistancePanel], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{case.name}.png").write_bytes(methods_plot(comparisons))
    if panels:
        drawn = distance_scatter(panels, score_name="MMSE, points", pairs_name="pairs of different people")
        (folder / f"{case.name}_distances.png").write_bytes(drawn)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny cohorts, one epoch, two seeds")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="one comparison by name")
    parser.add_argument("--cache", type=Path, help="folder for the cohorts, which are then made only once")
    parser.add_argument("--plots", type=Path, help="folder for pictures")
    parser.add_argument("--out", type=Path, help="file for the JSON as well")
    options = parser.parse_args()
    if options.quick:
        options.seeds = 2
    return options


if __name__ == "__main__":
    main()
