"""The fusion head is scikit-learn's weighted logistic regression, judged on visits it was not fitted on."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from trainer.encoders.multimodal import ModalitySpec, MultimodalEncoder
from trainer.fit.embedding import VisitEmbeddings
from trainer.fit.fusion import FusionExamples, fit_fusion, judge_fusion, positive_probability

CLASSES = (0.0, 1.0)


def examples(num: int, seed: int, *, share: float = 0.3) -> tuple[FusionExamples, np.ndarray, np.ndarray]:
    draws = np.random.default_rng(seed)
    scores = (draws.random(num) < share).astype(float)
    modalities = draws.normal(size=(num, 2, 3)).astype(np.float32)
    modalities[:, 0, 0] += 1.5 * scores + 1
    present = draws.random((num, 2)) < 0.85
    modalities[~present] = 0
    visits = VisitEmbeddings(np.zeros((num, 6)), modalities, present)
    return FusionExamples.of(visits, scores, CLASSES), scores, modalities


def test_features_are_those_that_the_encoders_own_fusion_takes() -> None:
    made, _, modalities = examples(20, 0)
    encoder = MultimodalEncoder(
        {"a": ModalitySpec("vector", (2,)), "b": ModalitySpec("vector", (2,))}, embedding_width=3
    )
    present = torch.from_numpy((modalities != 0).any(axis=2))
    with torch.no_grad():
        expected = encoder.fuse(torch.from_numpy(modalities), present)
        torch.testing.assert_close(encoder.fusion(made.features_NF).squeeze(-1), expected)


@pytest.mark.parametrize("l2", [1e-3, 1e-2, 1e-1])
def test_the_head_is_scikit_learns_on_standardised_features_with_balanced_classes(l2: float) -> None:
    training, scores, _ = examples(300, 1)
    validation, _, _ = examples(80, 2)
    fitted = fit_fusion(training, validation, classes=CLASSES, penalties=[l2])
    # Theirs: sum of weighted losses + |w|^2 / (2 C); ours: their mean + l2 |w|^2.
    oracle = LogisticRegression(C=1 / (2 * l2 * len(scores)), class_weight="balanced", tol=1e-10, max_iter=10_000)
    scaler = StandardScaler().fit(training.features_NF.numpy())
    oracle.fit(scaler.transform(training.features_NF.numpy()), scores)
    expected = oracle.predict_proba(scaler.transform(validation.features_NF.numpy()))[:, 1]
    np.testing.assert_allclose(positive_probability(fitted.head, validation.features_NF), expected, atol=2e-4)


def test_its_metrics_are_scikit_learns_on_the_validation_visits_and_the_penalty_is_the_best_there() -> None:
    training, _, _ = examples(60, 3)
    validation, truth, _ = examples(50, 4)
    penalties = [1e-4, 1e-2, 1.0]
    fitted = fit_fusion(training, validation, classes=CLASSES, penalties=penalties)
    probability = positive_probability(fitted.head, validation.features_NF)
    assert fitted.balanced_accuracy == pytest.approx(balanced_accuracy_score(truth, probability >= 0.5))
    assert fitted.auc == pytest.approx(roc_auc_score(truth, probability))
    assert (fitted.num_train, fitted.num_validation) == (60, 50)
    losses = {}
    for l2 in penalties:
        one = positive_probability(
            fit_fusion(training, validation, classes=CLASSES, penalties=[l2]).head, validation.features_NF
        )
        losses[l2] = -np.mean(np.log(np.where(truth == 1, one, 1 - one)))
    assert fitted.l2 == min(losses, key=lambda l2: losses[l2])


def test_validation_visits_of_one_class_or_none_give_no_metrics() -> None:
    training, _, _ = examples(60, 3)
    for num, share in ((10, 0.0), (0, 0.5)):
        validation, _, _ = examples(num, 5, share=share)
        fitted = fit_fusion(training, validation, classes=CLASSES, penalties=[0.1, 1.0])
        assert fitted.balanced_accuracy is None
        assert fitted.auc is None
    with pytest.raises(ValueError, match="all 9 training visits are of one class"):
        fit_fusion(examples(9, 5, share=0.0)[0], validation, classes=CLASSES, penalties=[0.1])


def test_visits_without_a_class_are_left_out() -> None:
    visits = VisitEmbeddings(np.zeros((4, 3)), np.eye(4, 3, dtype=np.float32)[:, None], np.ones((4, 1), dtype=bool))
    made = FusionExamples.of(visits, np.array([2.0, np.nan, 5.0, 3.0]), (2.0, 5.0))
    assert made.positive_N.tolist() == [False, True]
    np.testing.assert_array_equal(made.features_NF.numpy(), np.eye(3)[[0, 2]])


def test_a_head_trained_end_to_end_is_judged_as_it_is() -> None:
    training, _, _ = examples(30, 6)
    validation, truth, _ = examples(40, 7)
    encoder = MultimodalEncoder(
        {"a": ModalitySpec("vector", (2,)), "b": ModalitySpec("vector", (2,))}, embedding_width=3
    )
    weight = encoder.fusion.weight.clone()
    judged = judge_fusion(encoder.fusion, training, validation, classes=CLASSES)
    assert judged.l2 is None
    assert judged.auc == pytest.approx(
        roc_auc_score(truth, positive_probability(encoder.fusion, validation.features_NF))
    )
    assert torch.equal(judged.head.weight, weight)
