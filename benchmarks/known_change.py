"""Told changes against the true ones, which only the generator of a synthetic cohort knows.

interscan synth brain COHORT --subjects 110 --spacing-mm 2 [--score-noise 2.8]
interscan preprocess COHORT STORE && interscan train change --store STORE --run RUN
python -m benchmarks.known_change RUN COHORT/truth.tsv [--out FILE]

Everybody is answered by networks that have not seen them. A perfect reader tells the true change without error: what
it misses of the observed labels is the noise of the test. Intervals are over people.
"""

import argparse
import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.running import finish, machine
from preprocess.index import subject_of
from preprocess.storage import Location
from trainer.evaluate.measure import measure_run
from trainer.evaluate.turns import Answers
from trainer.export.guarantees import slope_through_zero
from trainer.fit.context import cohort_of
from trainer.fit.run import Run
from trainer.metrics.evaluation import Metric
from trainer.metrics.intervals import cluster_bootstrap
from trainer.metrics.progression import label_entropy, macro_f1
from trainer.metrics.tasks import spearman

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class KnownPairs:
    """Pairs of visits with what was told and what is true, in points of the score.

    Attributes:
        people_P: whose.
        told_P: told change.
        true_P: change of the score without noise.
        observed_P: change of the observed score.
        is_changed_P: whether the scanner changed.
        probabilities_P3: improved, stable, declined.
        threshold: a change that counts.
    """

    people_P: npt.NDArray[np.str_]
    told_P: Floats
    true_P: Floats
    observed_P: Floats
    is_changed_P: npt.NDArray[np.bool_]
    probabilities_P3: Floats
    threshold: float

    def labels(self, change_P: Floats) -> npt.NDArray[np.int64]:
        """0 improved, 1 stable, 2 declined."""
        return np.where(change_P >= self.threshold, 0, np.where(change_P <= -self.threshold, 2, 1))

    def of(self, keep_P: npt.NDArray[np.bool_]) -> "KnownPairs":
        """Some of the pairs."""
        arrays = ("people_P", "told_P", "true_P", "observed_P", "is_changed_P", "probabilities_P3")
        return KnownPairs(*(getattr(self, name)[keep_P] for name in arrays), self.threshold)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run")
    parser.add_argument("truth", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    before = machine(torch.__version__)
    run = Run.open(Location(options.run))
    store = run.open_store(None)
    cohort = cohort_of(store, run.recipe.data, run.recipe.outcome.name)
    answers = measure_run(run, store, cohort, num_resamples=0, in_turns=True).answers
    if answers is None:
        raise SystemExit(f"{options.run}: no progression head; train the recipe change on more people")
    pairs = known_pairs(answers, read_truth(options.truth), run.recipe.outcome.threshold)
    found = measure(pairs)
    result: dict[str, Any] = {name: metric.model_dump() for name, metric in found.items()}
    result["machine"] = before | {"load_1_min_after": machine("")["load_1_min"]}
    finish(result, table(found), options.out)


def read_truth(path: Path) -> dict[tuple[str, str], float]:
    """The score without noise of each subject and session; truth.tsv names both as BIDS does."""
    with path.open(newline="") as file:
        return {
            (row["subject_id"], row["session_id"]): float(row["mmse_true"])
            for row in csv.DictReader(file, delimiter="\t")
        }


def known_pairs(answers: Answers, truth: dict[tuple[str, str], float], threshold: float) -> KnownPairs:
    """The answered pairs with their true change.

    Raises:
        SystemExit: a scan is not in the truth, or the answers tell no points.
    """
    if answers.improvements_P is None:
        raise SystemExit("the run tells no change in points; train a recipe whose head is on the score")
    true_P = []
    for turn in answers.turns:
        names = [
            (subject_of(person), session)
            for person, session in zip(turn.cohort.subject_ids, turn.cohort.sessions, strict=True)
        ]
        missing = [name for name in names if name not in truth]
        if missing:
            raise SystemExit(f"{missing[0]} is not in the truth; give the truth.tsv of the run's cohort")
        scores_N = np.array([truth[name] for name in names])
        true_P.append(scores_N[turn.pairs.later_P] - scores_N[turn.pairs.earlier_P])
    pairs = answers.table()
    sign = 1.0 if answers.higher_is_better else -1.0
    return KnownPairs(
        people_P=pairs.subject_id,
        told_P=sign * answers.improvements_P,
        true_P=np.concatenate(true_P),
        observed_P=answers.delta_P,
        is_changed_P=pairs.scanner_earlier != pairs.scanner_later,
        probabilities_P3=answers.probabilities_P3,
        threshold=threshold,
    )


def measure(pairs: KnownPairs) -> dict[str, Metric]:
    """Slope and rank of told against true changes, on one scanner and on two, and macro-F1 by both kinds of label."""
    found: dict[str, Metric] = {}
    for where, own in (
        ("all", pairs),
        ("same scanner", pairs.of(~pairs.is_changed_P)),
        ("scanner changed", pairs.of(pairs.is_changed_P)),
    ):
        found[f"slope, {where}"] = _with_interval(
            own, lambda rows, own=own: slope_through_zero(own.told_P[rows], own.true_P[rows])
        )
        found[f"Spearman, {where}"] = _with_interval(
            own, lambda rows, own=own: spearman(own.told_P[rows], own.true_P[rows])
        )
    observed_P, true_P = pairs.labels(pairs.observed_P), pairs.labels(pairs.true_P)
    guess_P = pairs.probabilities_P3.argmax(axis=1)
    for name, labels_P, answer_P in (
        ("macro-F1 against observed labels", observed_P, guess_P),
        ("macro-F1 against true labels", true_P, guess_P),
        ("macro-F1 of a perfect reader against observed labels", observed_P, true_P),
    ):
        found[name] = _with_interval(
            pairs, lambda rows, labels_P=labels_P, answer_P=answer_P: macro_f1(labels_P[rows], answer_P[rows])
        )
    losses_P = -np.log(pairs.probabilities_P3[np.arange(len(observed_P)), observed_P])
    found["log loss against observed labels"] = _with_interval(pairs, lambda rows: float(losses_P[rows].mean()))
    found["log loss of the base rates"] = Metric(value=label_entropy(observed_P), num=len(observed_P))
    return found


def table(found: dict[str, Metric]) -> str:
    """One line a figure."""
    lines = ["| figure | value | pairs |", "|---|---|---|"]
    for name, metric in found.items():
        between = "" if metric.low is None else f" ({metric.low:.2f} to {metric.high:.2f})"
        lines.append(f"| {name} | {metric.value:.2f}{between} | {metric.num} |")
    return "\n".join(lines)


def _with_interval(pairs: KnownPairs, statistic: Callable[[npt.NDArray[np.int64]], float]) -> Metric:
    interval = cluster_bootstrap(statistic, pairs.people_P, seed=0, num_resamples=2000)
    return Metric.from_interval(interval, num=len(pairs.people_P))


if __name__ == "__main__":
    main()
