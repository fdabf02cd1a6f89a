"""The fusion head of Joint CMC + CSS: a logistic regression on the frozen, joined embeddings of a visit's modalities.

Class-weighted binary cross-entropy with an L2 penalty on standardised features, fitted on training subjects; the
penalty is the one of the lowest log-loss on the validation subjects. Means and sds are then folded into the weights,
so that the head takes unit embeddings side by side, absent ones zero, as `MultimodalEncoder.fuse` does.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from trainer.encoders.heads import PreciseLinear
from trainer.fit.embedding import VisitEmbeddings
from trainer.fit.run_files import FusionSummary
from trainer.objectives.losses.similarity import unit_rows

_STEPS = 200
"""L-BFGS steps; the problem is convex."""


@dataclass(frozen=True, slots=True)
class FusionExamples:
    """Visits with a known class.

    Attributes:
        features_NF: unit embeddings side by side, F = M * E.
        positive_N: whether the visit is of the positive class.
    """

    features_NF: torch.Tensor
    positive_N: torch.Tensor

    @classmethod
    def of(cls, visits: VisitEmbeddings, scores_N: np.ndarray, classes: tuple[float, float]) -> "FusionExamples":
        """The visits whose score is one of the two classes, the positive one last."""
        known_N = np.isin(scores_N, classes)
        modalities_NME = torch.as_tensor(visits.modalities_NME[known_N], dtype=torch.float32)
        return cls(unit_rows(modalities_NME).flatten(1), torch.as_tensor(scores_N[known_N] == classes[1]))

    def __len__(self) -> int:
        return len(self.positive_N)


@dataclass(frozen=True, slots=True)
class FittedFusion:
    """A fusion head and how well it separates the validation subjects' classes.

    Attributes:
        head: from (N, M * E) to logits (N, 1).
        classes: scores of the negative and the positive class.
        l2: the chosen penalty; None where the head was trained end to end.
        num_train: training visits.
        num_validation: validation visits.
        balanced_accuracy: on the validation visits at probability 0.5; None where they show one class.
        auc: likewise, area under the ROC curve.
    """

    head: PreciseLinear
    classes: tuple[float, float]
    l2: float | None
    num_train: int
    num_validation: int
    balanced_accuracy: float | None
    auc: float | None

    def summary(self) -> FusionSummary:
        """Everything but the weights."""
        return FusionSummary(
            classes=self.classes,
            l2=self.l2,
            num_train=self.num_train,
            num_validation=self.num_validation,
            validation_balanced_accuracy=self.balanced_accuracy,
            validation_auc=self.auc,
        )


def fit_fusion(
    training: FusionExamples,
    validation: FusionExamples,
    *,
    classes: tuple[float, float],
    penalties: Sequence[float],
) -> FittedFusion:
    """Fit one head for each penalty and keep the one that is best on the validation visits.

    Args:
        training: visits of training subjects, of both classes.
        validation: visits of validation subjects; where there are none the first penalty is taken.
        classes: scores of the negative and the positive class.
        penalties: L2 penalties to try.

    Raises:
        ValueError: the training visits are of one class.
    """
    if len(torch.unique(training.positive_N)) < 2:
        raise ValueError(f"all {len(training)} training visits are of one class; two are needed")
    heads = [_fit(training, l2) for l2 in penalties]
    losses = [_log_loss(head, validation) for head in heads]
    best = int(np.argmin(losses))
    return _judged(heads[best], training, validation, classes, penalties[best])


def judge_fusion(
    head: PreciseLinear, training: FusionExamples, validation: FusionExamples, *, classes: tuple[float, float]
) -> FittedFusion:
    """A head that was trained end to end, with its validation metrics."""
    return _judged(head, training, validation, classes, None)


@torch.inference_mode()
def positive_probability(head: PreciseLinear, features_NF: torch.Tensor) -> np.ndarray:
    """Probability (N,) of the positive class."""
    return np.asarray(torch.sigmoid(head(features_NF).squeeze(-1)).numpy())


def _judged(
    head: PreciseLinear,
    training: FusionExamples,
    validation: FusionExamples,
    classes: tuple[float, float],
    l2: float | None,
) -> FittedFusion:
    truth = validation.positive_N.numpy()
    accuracy = auc = None
    if len(np.unique(truth)) == 2:
        probability = positive_probability(head, validation.features_NF)
        accuracy = float(balanced_accuracy_score(truth, probability >= 0.5))
        auc = float(roc_auc_score(truth, probability))
    return FittedFusion(head, classes, l2, len(training), len(validation), accuracy, auc)


def _fit(training: FusionExamples, l2: float) -> PreciseLinear:
    mean_F = training.features_NF.mean(dim=0)
    sd_F = training.features_NF.std(dim=0, correction=0)
    sd_F = torch.where(sd_F > 0, sd_F, 1.0)
    features_NF = (training.features_NF - mean_F) / sd_F
    targets_N = training.positive_N.float()
    share = targets_N.mean()
    # Inverse frequency, mean 1: a class counts as much as the other however many visits show it.
    weights_N = torch.where(training.positive_N, 0.5 / share, 0.5 / (1 - share))
    head = PreciseLinear(features_NF.shape[1], 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    optimiser = torch.optim.LBFGS(
        head.parameters(), max_iter=_STEPS, history_size=20, line_search_fn="strong_wolfe", tolerance_grad=1e-6
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        logits_N = head(features_NF).squeeze(-1)
        loss = F.binary_cross_entropy_with_logits(logits_N, targets_N, weight=weights_N)
        loss = loss + l2 * head.weight.square().sum()
        torch.autograd.backward(loss)
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        head.weight.div_(sd_F)
        head.bias.sub_(head.weight[0] @ mean_F)
    return head.eval()


@torch.inference_mode()
def _log_loss(head: PreciseLinear, visits: FusionExamples) -> float:
    if not len(visits):
        return 0.0
    logits_N = head(visits.features_NF).squeeze(-1)
    return float(F.binary_cross_entropy_with_logits(logits_N, visits.positive_N.float()))
