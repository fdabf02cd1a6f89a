"""ClinImCL's plot on the synthetic heads of the comparison: held-out people's paths at several epochs of one run.

python benchmarks/method_trajectories.py --out FILE.png [--cache FOLDER] [--seed 0] [--epochs 0 1 5 10 20] [--quick]

Store, split, encoder and epochs are those of the case `one_cohort`; every checkpoint is kept. The plot goes into the
file, its numbers as JSON to stdout.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.method_cases import CASES
from benchmarks.method_cohorts import open_cohort
from preprocess.errors import InterscanError
from preprocess.storage import Location
from preprocess.store import Store
from trainer.evaluate.trajectories import embed_epochs, kept_epochs
from trainer.fit.context import cohort_of
from trainer.fit.run import Run
from trainer.fit.train import train_run
from trainer.metrics.embedding_space import same_subject_retrieval, within_between
from trainer.recipe import load_recipe
from trainer.report.trajectory_plots import epoch_trajectories

CASE = next(case for case in CASES if case.name == "one_cohort")


def main() -> None:
    """See the module."""
    options = _options()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.cache or Path(temporary)
        store = open_cohort(CASE.cohort, folder, quick=options.quick)
        try:
            png, metrics = draw(store, Path(temporary), seed=options.seed, epochs=options.epochs)
        except InterscanError as error:
            sys.exit(str(error))
    options.out.write_bytes(png)
    print(json.dumps(metrics, indent=2))


def draw(
    store: Store, folder: Path, *, seed: int, epochs: list[int]
) -> tuple[bytes, dict[int, dict[str, float | None]]]:
    """Train ClinImCL, keep every checkpoint, and draw the held-out subjects at some epochs.

    Args:
        store: of the cohort.
        folder: for the run.
        seed: of split, weights and batches.
        epochs: 0 for the untrained encoder; those that were not kept are left out, and stderr says so.

    Returns:
        The plot as PNG, and retrieval@1 and within / between by epoch.
    """
    num_epochs = load_recipe("clinimcl", CASE.settings).epochs
    recipe = load_recipe("clinimcl", (*CASE.settings, f"checkpoint.keep={num_epochs}", f"seed={seed}"))
    location = Location(folder / "run")
    train_run(recipe, store, location, progress=lambda *_: None)
    run = Run.open(location)
    held = cohort_of(store, recipe.data, recipe.outcome.name).of_subjects(run.split.of("test"))
    there = kept_epochs(run)
    # A checkpoint that waits for an upload gives way to the next one, so a fast run may lack some.
    if lacking := [epoch for epoch in epochs if epoch not in there]:
        sys.stderr.write(f"not kept, and not drawn: epochs {', '.join(map(str, lacking))}; kept: {there}\n")
    embeddings = embed_epochs(run, store, held, [epoch for epoch in there if epoch in epochs])
    metrics = {
        epoch: {
            "retrieval_at_1": same_subject_retrieval(embeddings_NE, held.subject_ids, held.days_N).value,
            "within_between": within_between(embeddings_NE, held.subject_ids, held.days_N).ratio,
        }
        for epoch, embeddings_NE in embeddings.items()
    }
    return epoch_trajectories(embeddings, held.labels, held.days_N, seed=seed), metrics


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the tiny cohort")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, nargs="+", default=[0, 1, 5, 10, 20])
    parser.add_argument("--cache", type=Path, help="folder for the cohort, which is then made only once")
    parser.add_argument("--out", type=Path, required=True, help="PNG file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
