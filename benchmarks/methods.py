"""The published methods and their baselines side by side on synthetic cohorts: equal data, encoder, epochs and seeds.

python benchmarks/methods.py [--quick] [--seeds 5] [--only one_cohort] [--cache FOLDER] [--figures FOLDER] [--out FILE]

Every arm of a comparison trains on the same store, split, encoder and number of epochs; seeds change split, initial
weights and order of batches, for all arms alike. Figures are of held-out subjects; intervals are over seeds, and
differences are paired by seed. About three hours on one idle core; with --cache, a run that was cut off goes on where
it stopped. `--quick` shows that it runs, no more.
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
from benchmarks.method_runs import Arm, distance_rho, strangers, train_arm
from benchmarks.running import finish, machine
from preprocess.store import Store
from trainer.evaluate.comparison import MethodComparison, compare_methods, methods_json, methods_table
from trainer.evaluate.comparison_figures import DistancePanel, distance_scatter, methods_figure
from trainer.evaluate.evaluation import Metric
from trainer.evaluate.pair_figures import ScoredPairs
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
            comparisons, pairs = run_case(case, folder, options)
            result[case.name] = {"claim": case.claim, "metrics": json.loads(methods_json(comparisons))}
            tables.append(f"### {case.name}\n\n{case.claim}.\n\n{methods_table(comparisons)}")
            if options.figures is not None:
                _draw(case, comparisons, pairs, options.figures)
            if options.out is not None:  # what is finished stays when the next comparison is cut off
                options.out.write_text(json.dumps(result, indent=2) + "\n")
    result["settings"] = {"seeds": options.seeds, "quick": options.quick}
    result["machine"] = before | {"load_1_min_after": machine("")["load_1_min"]}
    finish(result, "\n".join(tables), options.out)


def run_case(
    case: Case, folder: Path, options: argparse.Namespace
) -> tuple[list[MethodComparison], dict[str, ScoredPairs]]:
    """Train every arm with every seed; comparisons by each figure that all arms have, and pairs for the scatter."""
    store = open_cohort(case.cohort, folder, quick=options.quick)
    values: dict[str, dict[str, dict[int, float]]] = {figure.name: {} for figure in case.figures}
    pairs: dict[str, ScoredPairs] = {}
    for seed in range(options.seeds):
        for whole in case.arms:
            arm = whole.shortened() if options.quick else whole
            settings = (*case.settings, *(case.quick if options.quick else ()))
            is_drawn = arm.name in SCATTERED and seed == 0 and options.figures is not None
            kept = folder / "results" / f"{_digest(case, arm, seed, settings, store)}.json"
            if kept.exists() and not is_drawn:
                found = json.loads(kept.read_text())
            else:
                trained = train_arm(arm, store, seed, settings)
                found = case.measure(trained)
                kept.parent.mkdir(exist_ok=True)
                kept.write_text(json.dumps(found))
                if is_drawn:
                    pairs[arm.name] = strangers(trained)
            sys.stderr.write(
                f"{case.name} {arm.name} seed {seed}: " + ", ".join(f"{k} {v:.3f}" for k, v in found.items())
            )
            sys.stderr.write("\n")
            for name, of in values.items():
                if name in found:
                    of.setdefault(arm.name, {})[seed] = found[name]
    comparisons = [
        compare_methods(
            values[figure.name],
            metric=figure.name,
            baseline=case.baseline,
            higher_is_better=figure.higher_is_better,
            chance=figure.chance,
        )
        for figure in case.figures
        if values[figure.name].keys() == {arm.name for arm in case.arms}
    ]
    return comparisons, pairs


def _digest(case: Case, arm: Arm, seed: int, settings: tuple[str, ...], store: Store) -> str:
    """What decides a run: its recipe, its settings, its data."""
    recipe = load_recipe(arm.recipe, (*settings, *arm.settings, f"seed={seed}")).model_dump_json()
    return hashlib.sha256(f"{case.measure.__name__} {recipe} {store.manifest.index_sha256}".encode()).hexdigest()[:24]


def _draw(case: Case, comparisons: list[MethodComparison], pairs: dict[str, ScoredPairs], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{case.name}.png").write_bytes(methods_figure(comparisons))
    if pairs:
        panels = {
            name: DistancePanel(of, Metric(value=distance_rho(of), chance=0.0, num=len(of)))
            for name, of in pairs.items()
        }
        drawn = distance_scatter(panels, score_name="MMSE, points", pairs_name="pairs of different people")
        (folder / f"{case.name}_distances.png").write_bytes(drawn)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny cohorts, one epoch, two seeds")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", default="", help="one comparison by name")
    parser.add_argument("--cache", type=Path, help="folder for the cohorts, which are then made only once")
    parser.add_argument("--figures", type=Path, help="folder for pictures")
    parser.add_argument("--out", type=Path, help="file for the JSON as well")
    options = parser.parse_args()
    if options.quick:
        options.seeds = 2
    return options


if __name__ == "__main__":
    main()
