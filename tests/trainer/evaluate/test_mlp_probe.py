"""The MLP probe learns what a linear one cannot, keeps its best validation epoch, and repeats itself to the bit."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from preprocess.errors import UsageError
from trainer.evaluate import mlp_probe as source
from trainer.evaluate.mlp_probe import balanced_log_loss, mlp_probe
from trainer.evaluate.probes import Examples, best_threshold


def rings(num_subjects: int, seed: int, *, num_classes: int = 3) -> Examples:
    """Classes are rings around one centre: no direction tells them apart."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_subjects) % num_classes, 3)
    angle = generator.uniform(0, 2 * np.pi, len(labels))
    radius = 1 + 2 * labels + generator.normal(0, 0.25, len(labels))
    features = np.column_stack([radius * np.cos(angle), 100 + 30 * radius * np.sin(angle)])
    return Examples(features, labels, np.repeat(np.arange(num_subjects), 3))


def macro_f1(probe, held: Examples) -> float:
    return f1_score(held.labels_N, probe.predict(held.features_NF), average="macro")


def test_probe_tells_rings_apart_which_a_linear_one_cannot() -> None:
    train, validation, test = (rings(90, seed) for seed in range(3))
    assert macro_f1(mlp_probe(train, validation, seed=0), test) > 0.9
    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(train.features_NF, train.labels_N)
    assert f1_score(test.labels_N, linear.predict(test.features_NF), average="macro") < 0.6


def test_kept_epoch_is_the_one_that_validation_likes_best(monkeypatch: pytest.MonkeyPatch) -> None:
    # Labels without a pattern: the best epoch is a matter of luck, and hardly ever the last.
    train, validation = (
        Examples(drawn.features_NF, np.random.default_rng(seed).integers(0, 3, len(drawn)), drawn.subject_ids_N)
        for seed, drawn in enumerate((rings(30, 0), rings(30, 1)))
    )
    seen: list[tuple[float, float]] = []
    score = source._validation_score
    monkeypatch.setattr(source, "_validation_score", lambda *given: seen.append(score(*given)) or seen[-1])
    probe = mlp_probe(train, validation, seed=0, num_epochs=25)
    assert len(seen) == 25
    assert probe.epoch == 1 + seen.index(max(seen)) < 25
    predicted = probe.predict(validation.features_NF)
    assert max(seen)[0] == pytest.approx(f1_score(validation.labels_N, predicted, average="macro"))
    loss = balanced_log_loss(validation.labels_N, probe.predict_proba(validation.features_NF), probe.classes_K)
    assert max(seen)[1] == pytest.approx(-loss)


def test_same_seed_gives_the_same_probe_to_the_bit_and_another_seed_another() -> None:
    train, validation, test = rings(30, 0), rings(15, 2), rings(10, 1)

    def answers(seed: int) -> np.ndarray:
        return mlp_probe(train, validation, seed=seed, num_epochs=5).predict_proba(test.features_NF)

    assert np.array_equal(answers(1), answers(1))
    assert not np.array_equal(answers(1), answers(2))


def test_fitting_leaves_torchs_own_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    mlp_probe(rings(15, 0), rings(15, 1), seed=0, num_epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_answers_are_without_dropout_and_probabilities() -> None:
    train = rings(30, 0)
    probe = mlp_probe(train, rings(15, 1), seed=0, num_epochs=3, dropout=0.5)
    first, second = probe.predict_proba(train.features_NF), probe.predict_proba(train.features_NF)
    assert np.array_equal(first, second)
    assert first.sum(1) == pytest.approx(np.ones(len(train)))


def test_rare_classes_weigh_as_much_as_common_ones() -> None:
    generator = np.random.default_rng(0)

    def drawn(num_rare: int, num_common: int) -> Examples:
        labels = np.repeat([1, 0], [num_rare, num_common])
        return Examples(generator.normal(size=(len(labels), 1)) + labels[:, None], labels, np.arange(len(labels)))

    train, validation = drawn(40, 760), drawn(300, 300)
    probability = mlp_probe(train, validation, seed=0, num_epochs=10).predict_proba(np.array([[0.5]]))[0, 1]
    # Midway between the classes the odds are even by weight; by frequency they would be 1 to 19.
    assert 0.3 < probability < 0.7


def test_threshold_of_two_classes_comes_from_validation() -> None:
    train, validation = rings(30, 0, num_classes=2), rings(30, 1, num_classes=2)
    probe = mlp_probe(train, validation, seed=0, num_epochs=4)
    score = probe.predict_proba(validation.features_NF)[:, 1]
    assert probe.threshold == best_threshold(validation.labels_N == 1, score)


def test_balanced_log_loss_is_scikit_learns_with_a_weight_a_class() -> None:
    generator = np.random.default_rng(0)
    labels, probability = generator.choice([2, 5, 9], 50, p=(0.1, 0.6, 0.3)), generator.dirichlet((1, 2, 1), 50)
    weight = np.array([1 / (labels == label).sum() for label in labels])
    expected = log_loss(labels, probability, labels=[2, 5, 9], sample_weight=weight)
    assert balanced_log_loss(labels, probability, np.array([2, 5, 9])) == pytest.approx(expected)


def test_classes_may_be_names() -> None:
    drawn, other = rings(30, 0, num_classes=2), rings(15, 1, num_classes=2)
    names = np.array(["normal", "abnormal"])
    train, validation = (Examples(one.features_NF, names[one.labels_N], one.subject_ids_N) for one in (drawn, other))
    probe = mlp_probe(train, validation, seed=0)
    assert probe.classes_K.tolist() == ["abnormal", "normal"]
    assert (probe.predict(train.features_NF) == train.labels_N).mean() > 0.9


def test_what_cannot_be_fitted_is_refused_in_one_line() -> None:
    train = rings(10, 0)
    one_class = Examples(train.features_NF, np.zeros(30, dtype=int), train.subject_ids_N)
    unseen = Examples(train.features_NF, np.full(30, 7), train.subject_ids_N)
    for call, said in (
        (lambda: mlp_probe(one_class, train, seed=0), "needs two classes"),
        (lambda: mlp_probe(train, unseen, seed=0), "class 7 is in validation but not in training"),
    ):
        with pytest.raises(UsageError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)
