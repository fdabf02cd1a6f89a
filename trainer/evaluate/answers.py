"""Metrics of the answers that a run gives for pairs, with intervals over people and the chance level beside each."""

import numpy as np

from preprocess.types import PROGRESSIONS
from trainer.evaluate.turns import Answers
from trainer.fit.run_files import ChangeSummary, HeadSummary
from trainer.metrics import progression
from trainer.metrics.evaluation import Metric
from trainer.metrics.intervals import cluster_bootstrap
from trainer.metrics.prediction_sets import SetThresholds, cross_members
from trainer.metrics.scanner_strata import scanner_strata
from trainer.metrics.tasks import change_accuracy, spearman


def answer_metrics(answers: Answers, head: HeadSummary | None, *, seed: int, num_resamples: int) -> dict[str, Metric]:
    """Every metric of the answers, by name.

    Args:
        answers: the answers of all turns.
        head: what the head was calibrated with; None where it is not known.
        seed: the bootstrap's seed.
        num_resamples: number of bootstrap resamples.
    """
    labels_P, probabilities_P3 = answers.labels_P, answers.probabilities_P3
    table, predicted_P = answers.table(), probabilities_P3.argmax(axis=1)
    people_P = table.subject_id
    draws = {"seed": seed, "num_resamples": num_resamples}
    scores = progression.progression_scores(labels_P, probabilities_P3)
    num, num_classes = scores.num, len(np.unique(labels_P))
    losses_P = progression.losses(labels_P, probabilities_P3)
    f1 = cluster_bootstrap(lambda rows: progression.macro_f1(labels_P[rows], predicted_P[rows]), people_P, **draws)
    loss = cluster_bootstrap(lambda rows: float(losses_P[rows].mean()), people_P, **draws)
    gap = cluster_bootstrap(
        lambda rows: progression.reliability_bins(labels_P[rows], probabilities_P3[rows]).expected_calibration_error,
        people_P,
        **draws,
    )
    base_rate = progression.label_entropy(labels_P)
    found = {
        "macro_f1": Metric.from_interval(f1, num=num, chance=scores.macro_f1_chance),
        "accuracy": change_accuracy(labels_P, predicted_P, people_P, **draws),
        "balanced_accuracy": Metric(value=scores.balanced_accuracy, num=num, chance=1 / num_classes),
        "log_loss": Metric.from_interval(loss, num=num, chance=base_rate),
        "base_rate_log_loss": Metric(value=base_rate, num=num),
        "brier": Metric(value=scores.brier, num=num),
        "calibration_error": Metric.from_interval(gap, num=num),
    }
    found |= scanner_strata(labels_P, probabilities_P3, table.scanner_earlier, table.scanner_later, people_P, **draws)
    for index, name in enumerate(PROGRESSIONS):
        found[f"recall_{name}"] = Metric(value=scores.recall[index], num=int((labels_P == index).sum()))
    if head is not None and head.change is not None:
        found |= _set_metrics(answers, head.change, draws)
        found |= _change_metrics(answers, draws)
    return found


def _set_metrics(answers: Answers, change: ChangeSummary, draws: dict[str, int]) -> dict[str, Metric]:
    """How often the prediction set holds the truth, how often a pair is left undecided, and how good decisions are.

    Undecided, as the service has it: several answers are in the set, or the one answer is a change that rescans show
    too, or there are too few rescans to tell. Checks of the scans themselves come on top of that.
    """
    thresholds = SetThresholds(change.least_probability, (), change.coverage, 0)
    labels_P, people_P = answers.labels_P, answers.table().subject_id
    *earlier, last = answers.turns
    members = [thresholds.members(last.probabilities_P3)]
    if earlier:
        unseen = Answers(tuple(earlier))
        members.insert(
            0,
            # These people set the thresholds, so that each is measured with those of the others.
            cross_members(
                unseen.probabilities_P3,
                unseen.labels_P,
                unseen.table().subject_id.tolist(),
                coverage=thresholds.coverage,
                seed=draws["seed"],
            ),
        )
    members_P3 = np.concatenate(members)
    covered_P = members_P3[np.arange(len(labels_P)), labels_P]
    several_P = members_P3.sum(axis=1) > 1
    predicted_P = answers.probabilities_P3.argmax(axis=1)
    floor, other_floor = change.noise_floor, change.two_scanner_floor
    is_change_P = predicted_P != PROGRESSIONS.index("stable")
    told_P = answers.improvements_P
    in_noise_P = is_change_P
    if floor is not None and other_floor is not None and told_P is not None:
        in_noise_P = is_change_P & (np.abs(told_P) <= np.where(_on_two_scanners(answers), other_floor, floor))
    undecided_P = several_P | in_noise_P
    right_P = predicted_P == labels_P
    coverage = cluster_bootstrap(lambda rows: float(covered_P[rows].mean()), people_P, **draws)
    undecided = cluster_bootstrap(lambda rows: float(undecided_P[rows].mean()), people_P, **draws)
    found = {
        "coverage": Metric.from_interval(coverage, num=len(labels_P)),
        "undecided_fraction": Metric.from_interval(undecided, num=len(labels_P)),
        "several_answers_fraction": Metric(value=float(several_P.mean()), num=len(labels_P)),
        "prediction_set_size": Metric(value=float(members_P3.sum(axis=1).mean()), num=len(labels_P)),
    }
    if not undecided_P.all():
        found["decided_accuracy"] = Metric(value=float(right_P[~undecided_P].mean()), num=int((~undecided_P).sum()))
    if floor is not None:
        found["noise_change_95"] = Metric(value=floor, num=len(change.noise_changes))
        found["smallest_change"] = Metric(value=change.smallest_change, num=change.num_people)
    return found


def _on_two_scanners(answers: Answers) -> np.ndarray:
    table = answers.table()
    is_known_P = (table.scanner_earlier != "") & (table.scanner_later != "")
    return np.asarray(is_known_P & (table.scanner_earlier != table.scanner_later))


def _change_metrics(answers: Answers, draws: dict[str, int]) -> dict[str, Metric]:
    """Told change of the score against its true change, in points."""
    told_P, people_P = answers.improvements_P, answers.table().subject_id
    if told_P is None:
        return {}
    sign = 1.0 if answers.higher_is_better else -1.0
    true_P = sign * answers.delta_P

    def slope(rows: np.ndarray) -> float:
        spread = float((true_P[rows] ** 2).sum())
        return float((told_P[rows] * true_P[rows]).sum()) / spread if spread > 0 else float("nan")

    rho = cluster_bootstrap(lambda rows: spearman(told_P[rows], true_P[rows]), people_P, **draws)
    steep = cluster_bootstrap(slope, people_P, **draws)
    error = float(np.sqrt(np.mean((told_P - true_P) ** 2)))
    return {
        "told_change_spearman": Metric.from_interval(rho, num=len(true_P), chance=0.0),
        "told_change_slope": Metric.from_interval(steep, num=len(true_P), chance=0.0),
        "told_change_error": Metric(value=error, chance=float(np.sqrt(np.mean(true_P**2))), num=len(true_P)),
    }
