"""The head on predicted scores: directions from score heads, and calibration on subjects that no network has seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from preprocess.console import LOG
from preprocess.manifest import OutcomeSpec
from trainer.data.cohort import Cohort
from trainer.data.pairs import rescan_pairs, visit_pairs
from trainer.encoders import ScoreHead
from trainer.encoders.change_head import ChangeHead
from trainer.encoders.linear_score import LinearScore
from trainer.fit.change import COVERAGE, FEW_PAIRS, FEW_PEOPLE, Calibrated, calibrate, cross_calibrated
from trainer.fit.ridge import fit_ridge
from trainer.fit.run_files import ChangeSummary, HeadSummary
from trainer.metrics.prediction_sets import SetThresholds, fit_set_thresholds
from trainer.metrics.progression import label_entropy
from trainer.objectives.base import ScoreStatistics
from trainer.recipe import TrainRecipe

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ScoreDirection:
    """Score = weight . embedding + bias, in points.

    Attributes:
        weight_E: points per unit of the embedding.
        bias: points.
        sign: 1 where a higher score is better, else -1.
    """

    weight_E: npt.NDArray[np.float32]
    bias: float
    sign: int

    def scores(self, embeddings_NE: np.ndarray) -> Floats:
        """Predicted scores (N,) in points."""
        return np.asarray(embeddings_NE @ self.weight_E + self.bias, dtype=np.float64)

    def score_head(self, statistics: ScoreStatistics) -> ScoreHead:
        """The same as a head that answers standardised scores."""
        head = ScoreHead(len(self.weight_E))
        with torch.no_grad():
            head.linear.weight.copy_(torch.as_tensor(self.weight_E[None] / statistics.sd))
            head.linear.bias.fill_((self.bias - statistics.mean) / statistics.sd)
        return head


@dataclass(frozen=True)
class UnseenPairs:
    """What networks predict for pairs of subjects they were not trained on.

    Attributes:
        improvements_P: predicted change, in points, positive where people got better; of visits.
        true_P: true improvement.
        labels_P: 0, 1, 2 in the order of `PROGRESSIONS`.
        people_P: whose pair; subjects that share scans count as one.
        repeats_Q: predicted change of scan-rescan pairs.
        other_scanner_P: whether the two visits were on two scanners; not where one is unknown.
    """

    improvements_P: Floats
    true_P: Floats
    labels_P: npt.NDArray[np.int64]
    people_P: tuple[str, ...]
    repeats_Q: Floats
    other_scanner_P: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FittedChangeHead:
    """A calibrated head with what it was calibrated on."""

    head: ChangeHead
    calibrated: Calibrated
    thresholds: SetThresholds
    repeats_Q: Floats
    errors_P: Floats
    other_scanner_P: npt.NDArray[np.bool_]
    log_loss: float
    base_rate_log_loss: float
    base_rates_3: Floats

    def summary(self) -> HeadSummary:
        """Everything but the weights."""
        found = self.calibrated
        return HeadSummary(
            temperature=1.0,
            l2=0.0,
            num_train=0,
            num_validation=found.num_pairs,
            change=ChangeSummary(
                num_people=found.num_people,
                gain=found.gain,
                error_sd=float(np.sqrt(np.mean(self.errors_P**2))),
                least_probability=self.thresholds.least_3,
                coverage=self.thresholds.coverage,
                noise_changes=tuple(np.sort(np.abs(self.repeats_Q) * found.gain).tolist()),
                log_loss=self.log_loss,
                base_rate_log_loss=self.base_rate_log_loss,
                base_rates=tuple(map(float, self.base_rates_3)),
                other_scanner_errors=tuple(np.sort(np.abs(self.errors_P[self.other_scanner_P])).tolist()),
            ),
        )


def fit_linear_score(
    training: Cohort, features_NF: np.ndarray, recipe: TrainRecipe, statistics: ScoreStatistics, linear: LinearScore
) -> LinearScore:
    """Fit a linear score to the training subjects' changes; scans of one day tell that nothing changed.

    Args:
        training: the training subjects' scans.
        features_NF: their coarse brightness.
        recipe: outcome and pairs.
        statistics: mean and sd of the training scores, which standardise the score.
        linear: gets the weights; it answers the mean where nothing can be fitted.
    """
    visits = visit_pairs(training, recipe.outcome, which=recipe.head.pairs).labelled()
    repeats = rescan_pairs(training, recipe.outcome)
    earlier_P = np.concatenate([visits.earlier_P, repeats.earlier_P])
    ridge = fit_ridge(
        features_NF,
        training.scores_N,
        earlier_P,
        np.concatenate([visits.later_P, repeats.later_P]),
        np.concatenate([visits.delta_P, np.zeros(len(repeats))]),
        [training.groups[index] for index in earlier_P],
        seed=recipe.seed,
    )
    if ridge is None:
        LOG.warning("no linear score: no pair of training scans shows a change of %s", recipe.outcome.name)
        return linear
    with torch.no_grad():
        linear.weight_F.copy_(torch.as_tensor(ridge.weight_F / statistics.sd))
        linear.bias.fill_((ridge.bias - statistics.mean) / statistics.sd)
    return linear


def blended_head(network: ScoreHead, linear: LinearScore) -> ScoreHead:
    """The head on an embedding with the linear score behind it: the mean of both scores, or the network's alone."""
    width = network.linear.in_features
    head = ScoreHead(width + 1).to(network.linear.weight.device)
    own = 0.5 if bool(linear.weight_F.any()) else 1.0
    with torch.no_grad():
        head.linear.weight[:, :width] = own * network.linear.weight
        head.linear.weight[:, width] = 1 - own
        head.linear.bias.copy_(own * network.linear.bias)
    return head


def score_direction(
    state: dict[str, torch.Tensor], statistics: ScoreStatistics, outcome: OutcomeSpec
) -> ScoreDirection:
    """A trained score head in points of the score."""
    weight_E = state["linear.weight"].float().numpy()[0] * np.float32(statistics.sd)
    bias = float(state["linear.bias"][0]) * statistics.sd + statistics.mean
    return ScoreDirection(weight_E, bias, 1 if outcome.higher_is_better else -1)


def mean_direction(directions: Sequence[ScoreDirection]) -> ScoreDirection:
    """What answers the mean of all, from their embeddings side by side."""
    weight_E = np.concatenate([one.weight_E / np.float32(len(directions)) for one in directions])
    return ScoreDirection(weight_E, float(np.mean([one.bias for one in directions])), directions[0].sign)


def unseen_pairs(cohort: Cohort, scores_N: Floats, recipe: TrainRecipe) -> UnseenPairs:
    """The pairs of a cohort that the networks behind the predicted scores were not trained on."""
    sign = 1 if recipe.outcome.higher_is_better else -1
    visits = visit_pairs(cohort, recipe.outcome, which=recipe.head.pairs).labelled()
    repeats = rescan_pairs(cohort, recipe.outcome)
    groups, scanners = cohort.groups, np.array(cohort.scanners)
    first_P, second_P = scanners[visits.earlier_P], scanners[visits.later_P]
    return UnseenPairs(
        improvements_P=sign * (scores_N[visits.later_P] - scores_N[visits.earlier_P]),
        true_P=sign * visits.delta_P,
        labels_P=visits.labels_P,
        people_P=tuple(groups[index] for index in visits.earlier_P),
        repeats_Q=sign * (scores_N[repeats.later_P] - scores_N[repeats.earlier_P]),
        other_scanner_P=(first_P != second_P) & (first_P != "") & (second_P != ""),
    )


def fit_on_unseen(
    parts: Sequence[UnseenPairs], direction: ScoreDirection, *, seed: int, change_noise: float = 0.0
) -> FittedChangeHead | None:
    """Calibrate on pairs of subjects whom the network that answered had not seen.

    Args:
        parts: by network.
        direction: what the head predicts a score with.
        seed: divides people for the thresholds of prediction sets.
        change_noise: variance of the test's own error in a change of the score.

    Returns:
        None where fewer than `FEW_PEOPLE` people or two kinds of change are known.
    """
    improvement_P, true_P, label_P, repeats_Q, other_scanner_P = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("improvements_P", "true_P", "labels_P", "repeats_Q", "other_scanner_P")
    )
    people_P = tuple(person for part in parts for person in part.people_P)
    if len(set(people_P)) < FEW_PEOPLE or len(np.unique(label_P)) < 2:
        LOG.warning(
            "no progression head: %d subjects that no network was trained on have two scores, and their pairs show %d "
            "kinds of change; %d subjects and 2 kinds are needed",
            len(set(people_P)), len(np.unique(label_P)), FEW_PEOPLE,
        )  # fmt: skip
        return None
    calibrated = calibrate(improvement_P, label_P, true_P, people_P, change_noise=change_noise)
    honest_P3 = cross_calibrated(improvement_P, label_P, true_P, people_P, seed=seed)
    head = ChangeHead(len(direction.weight_E))
    with torch.no_grad():
        head.direction.weight.copy_(torch.as_tensor(direction.sign * direction.weight_E[None]))
        for name in ("steepness", "offset", "share", "rate", "gain"):
            getattr(head, name).fill_(getattr(calibrated, name))
    return FittedChangeHead(
        head=head.eval(),
        calibrated=calibrated,
        thresholds=fit_set_thresholds(honest_P3, label_P, coverage=COVERAGE, few_pairs=FEW_PAIRS),
        repeats_Q=repeats_Q,
        errors_P=calibrated.gain * improvement_P - true_P,
        other_scanner_P=other_scanner_P,
        log_loss=float(-np.log(honest_P3[np.arange(len(label_P)), label_P]).mean()),
        base_rate_log_loss=label_entropy(label_P),
        base_rates_3=np.bincount(label_P, minlength=3) / len(label_P),
    )
