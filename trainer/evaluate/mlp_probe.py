"""The two-layer probe of ConPrO: 256 ReLU units with dropout 0.1, class-weighted cross-entropy, best validation epoch.

See docs/methods/conpro.md. Runs on the CPU in float32; the same data and seed give the same probe. Optimiser, batch and
number of epochs are ours, since the paper does not give them for its head.
"""

import copy

import numpy as np
import torch
from sklearn.metrics import f1_score
from sklearn.pipeline import Pipeline
from torch import nn
from torch.nn import functional as F  # noqa: N812 - torch's own habit

from preprocess.errors import UsageError
from trainer.evaluate.folds import fewest_subjects, patient_folds
from trainer.evaluate.probes import (
    NUM_INNER_FOLDS,
    Examples,
    FittedClassifier,
    Floats,
    balanced_log_loss,
    binary_threshold,
    preprocessing,
    training_classes,
)

HIDDEN, DROPOUT = 256, 0.1
LEARNING_RATE, WEIGHT_DECAY, BATCH_SIZE = 1e-3, 1e-4, 64


def mlp_probe(
    train: Examples,
    validation: Examples | None = None,
    *,
    seed: int,
    num_epochs: int = 60,
    hidden: int = HIDDEN,
    dropout: float = DROPOUT,
) -> FittedClassifier:
    """Fit the probe and keep the epoch with the highest macro-F1 on validation, of equal ones the lowest log-loss.

    Args:
        train: training subjects.
        validation: subjects that choose epoch and threshold; None holds back a fifth of the training subjects.
        seed: of weights, dropout, order of batches and the subjects held back.
        num_epochs: passes over the training rows.
        hidden: units of the hidden layer.
        dropout: probability behind the hidden layer.

    Raises:
        UsageError: one class only, a class of one subject and no validation, or a validation class never trained on.
    """
    classes_K = training_classes(train, validation)
    if validation is None:
        train, validation = _held_back(train, seed)
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
        threshold=binary_threshold(
            validation.labels_N, _probabilities(best, prepare, validation.features_NF), classes_K
        ),
        chosen={"epoch": float(epoch)},
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


def _held_back(train: Examples, seed: int) -> tuple[Examples, Examples]:
    rarest, count = fewest_subjects(train.subject_ids_N, train.labels_N)
    if count < 2:
        raise UsageError(f"class {rarest} has 1 training subject; choosing an epoch needs 2 or validation subjects")
    num_folds = min(NUM_INNER_FOLDS, count)
    fold = patient_folds(train.subject_ids_N, train.labels_N, num_folds=num_folds, num_repeats=1, seed=seed)[0]
    return train.take(fold.train_K), train.take(fold.test_L)
