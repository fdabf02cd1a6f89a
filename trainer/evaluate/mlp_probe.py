"""The two-layer probe of ConPrO: 256 ReLU units with dropout 0.1, class-weighted cross-entropy, best validation epoch.

See docs/methods/conpro.md. Runs on the CPU in float32; the same data and seed give the same probe. Optimiser, batch and
number of epochs are ours, since the paper does not give them for its head.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import f1_score
from sklearn.pipeline import Pipeline
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from preprocess.errors import UsageError
from trainer.evaluate.probes import Examples, Floats, Labels, best_threshold, preprocessing

HIDDEN, DROPOUT = 256, 0.1
LEARNING_RATE, WEIGHT_DECAY, BATCH_SIZE = 1e-3, 1e-4, 64


@dataclass(frozen=True, eq=False)
class FittedClassifier:
    """A fitted probe for classes.

    Attributes:
        classes_K: (K,) the classes in the order of the probabilities.
        threshold: with two classes, probability of the second from which it is answered; None with more.
        epoch: after which epoch it is kept, from 1.
        probabilities: from (N, F) features to (N, K).
    """

    classes_K: Labels
    threshold: float | None
    epoch: int
    probabilities: Callable[[npt.NDArray[np.floating]], Floats]

    def predict_proba(self, features_NF: npt.NDArray[np.floating]) -> Floats:
        """Probabilities (N, K), rows summing to 1."""
        return self.probabilities(features_NF)

    def predict(self, features_NF: npt.NDArray[np.floating]) -> Labels:
        """Classes (N,): by the threshold with two classes, the likeliest with more."""
        probability_NK = self.predict_proba(features_NF)
        if self.threshold is not None:
            return np.asarray(self.classes_K[(probability_NK[:, 1] >= self.threshold).astype(np.int64)])
        return np.asarray(self.classes_K[probability_NK.argmax(1)])


def mlp_probe(
    train: Examples,
    validation: Examples,
    *,
    seed: int,
    num_epochs: int = 60,
    hidden: int = HIDDEN,
    dropout: float = DROPOUT,
) -> FittedClassifier:
    """Fit the probe and keep the epoch with the highest macro-F1 on validation, of equal ones the lowest log-loss.

    Args:
        train: training subjects.
        validation: subjects that choose epoch and threshold.
        seed: decides weights, dropout and the order of batches; the same seed gives the same probe.
        num_epochs: passes over the training rows.
        hidden: units of the hidden layer.
        dropout: probability behind the hidden layer.

    Raises:
        UsageError: one class only, or a validation class never trained on.
    """
    classes_K = _training_classes(train, validation)
    prepare = Pipeline(preprocessing()).fit(train.features_NF)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(
            nn.Linear(train.features_NF.shape[1], hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, len(classes_K)),
        )
        best, epoch = _train(network, prepare, train, validation, classes_K, num_epochs)
    return FittedClassifier(
        classes_K=classes_K,
        threshold=_binary_threshold(
            validation.labels_N, _probabilities(best, prepare, validation.features_NF), classes_K
        ),
        epoch=epoch,
        probabilities=lambda features_NF: _probabilities(best, prepare, features_NF),
    )


def _train(
    network: nn.Sequential,
    prepare: Pipeline,
    train: Examples,
    validation: Examples,
    classes_K: np.ndarray,
    num_epochs: int,
) -> tuple[nn.Sequential, int]:
    """The network after its best epoch, and which that was, from 1."""
    features_NF = torch.as_tensor(prepare.transform(train.features_NF), dtype=torch.float32)
    label_N = torch.as_tensor(np.searchsorted(classes_K, train.labels_N))
    weight_K = len(label_N) / (len(classes_K) * torch.bincount(label_N, minlength=len(classes_K)).float())
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    best, best_epoch, best_score = network, 0, (-1.0, 0.0)
    for epoch in range(1, num_epochs + 1):
        network.train()
        for rows in torch.split(torch.randperm(len(label_N)), BATCH_SIZE):
            optimiser.zero_grad()
            loss = F.cross_entropy(network(features_NF[rows]), label_N[rows], weight=weight_K)
            torch.autograd.backward(loss)
            optimiser.step()
        score = _validation_score(network, prepare, validation, classes_K)
        if score > best_score:
            best, best_epoch, best_score = copy.deepcopy(network), epoch, score
    return best, best_epoch


def _validation_score(
    network: nn.Sequential, prepare: Pipeline, validation: Examples, classes_K: np.ndarray
) -> tuple[float, float]:
    """Macro-F1 over the classes present, then minus the log-loss."""
    probability_NK = _probabilities(network, prepare, validation.features_NF)
    predicted_N = classes_K[probability_NK.argmax(1)]
    present = np.unique(validation.labels_N)
    macro_f1 = f1_score(validation.labels_N, predicted_N, labels=present, average="macro", zero_division=0)
    return float(macro_f1), -balanced_log_loss(validation.labels_N, probability_NK, classes_K)


def _probabilities(network: nn.Sequential, prepare: Pipeline, features_NF: np.ndarray) -> Floats:
    features = torch.as_tensor(prepare.transform(features_NF), dtype=torch.float32)
    network.eval()
    with torch.inference_mode():
        return np.asarray(network(features).double().softmax(1).numpy(), dtype=np.float64)


def _training_classes(train: Examples, validation: Examples) -> Labels:
    """The sorted classes of the training labels.

    Raises:
        UsageError: one class only, or a validation class that is never trained on.
    """
    classes_K = np.unique(train.labels_N)
    if len(classes_K) < 2:
        raise UsageError(f"all {len(train)} training rows are of class {classes_K[0]}; a probe needs two classes")
    if not np.isin(validation.labels_N, classes_K).all():
        extra = np.setdiff1d(validation.labels_N, classes_K)
        raise UsageError(f"class {extra[0]} is in validation but not in training; divide subjects by class")
    return classes_K


def _binary_threshold(labels_N: Labels, probability_NK: Floats, classes_K: Labels) -> float | None:
    """`best_threshold` for the second of two classes; None where there are more, 0.5 where only one class occurs."""
    if len(classes_K) != 2:
        return None
    positive_N = labels_N == classes_K[1]
    return best_threshold(positive_N, probability_NK[:, 1]) if 0 < positive_N.sum() < len(positive_N) else 0.5


def balanced_log_loss(labels_N: Labels, probability_NK: Floats, classes_K: Labels) -> float:
    """Mean over the classes present of the mean -log p of their rows, in nats.

    Args:
        labels_N: (N,) true classes, all in classes_K.
        probability_NK: (N, K).
        classes_K: (K,) sorted.
    """
    column_N = np.searchsorted(classes_K, labels_N)
    true_N = probability_NK[np.arange(len(column_N)), column_N].clip(np.finfo(np.float64).eps, 1.0)
    return float(np.mean([-np.log(true_N[column_N == column]).mean() for column in np.unique(column_N)]))
