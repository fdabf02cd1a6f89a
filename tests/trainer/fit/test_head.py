"""The fitted head is the minimum of the stated loss, as scipy finds it; validation chooses penalty and temperature."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax

from trainer.fit.head import fit_head

WIDTH = 5
NO_PAIRS = (np.zeros((0, WIDTH)), np.zeros(0, dtype=np.int64))


def pairs(num: int, seed: int, *, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Differences along one direction, with labels by that direction; unbalanced on purpose."""
    draws = np.random.default_rng(seed)
    differences = draws.normal(size=(num, WIDTH)) * 0.01
    level = differences[:, 0] / 0.01 + noise * draws.normal(size=num)
    return differences, np.where(level > 0.5, 0, np.where(level < -1.0, 2, 1))


def fit(train, validation=NO_PAIRS, *, hidden: int = 0, penalties=(0.01,), seed: int = 0):
    return fit_head(*train, *validation, hidden=hidden, penalties=penalties, seed=seed)


def logits_of(weights: np.ndarray, differences: np.ndarray, scale: float) -> np.ndarray:
    """The head's equation in numpy: f(x) = w.x, stable = bias + v.|x|, declined = f(-x)."""
    direction, magnitude, bias = weights[:WIDTH], weights[WIDTH:-1], weights[-1]
    unit = differences / scale
    return np.stack([unit @ direction, bias + np.abs(unit) @ magnitude, -(unit @ direction)], axis=1)


def stated_loss(weights: np.ndarray, differences: np.ndarray, labels: np.ndarray, scale: float, l2: float) -> float:
    counts = np.bincount(labels, minlength=3)
    class_weight = np.divide(1.0, counts, out=np.zeros(3), where=counts > 0)[labels]
    terms = -log_softmax(logits_of(weights, differences, scale), axis=1)[np.arange(len(labels)), labels]
    return float((class_weight * terms).sum() / class_weight.sum() + l2 * (weights[:-1] ** 2).sum())


def weights_of(head: torch.nn.Module) -> np.ndarray:
    parts = (head.direction.weight, head.magnitude.weight, head.magnitude.bias)
    return np.concatenate([part.detach().numpy().ravel() for part in parts]).astype(np.float64)


@pytest.mark.parametrize("l2", [1e-3, 1e-1])
def test_the_fit_is_the_minimum_that_scipy_finds(l2: float) -> None:
    differences, labels = pairs(120, 0)
    fitted = fit((differences, labels), penalties=(l2,))
    assert fitted is not None
    scale = float(np.sqrt((differences**2).mean()))
    expected = minimize(stated_loss, np.zeros(2 * WIDTH + 1), args=(differences, labels, scale, l2), tol=1e-12)
    found = weights_of(fitted.head)
    assert stated_loss(found, differences, labels, scale, l2) == pytest.approx(expected.fun, abs=1e-6)
    np.testing.assert_allclose(found, expected.x, atol=5e-3)


def test_a_class_that_never_occurs_has_no_say() -> None:
    differences, labels = pairs(80, 1)
    two = labels != 2
    fitted = fit((differences[two], labels[two]))
    assert fitted is not None
    assert all(bool(one.isfinite().all()) for one in fitted.head.state_dict().values())


@pytest.mark.parametrize("labels", [[], [1, 1, 1], [0]])
def test_one_kind_of_change_gives_no_head(labels: list[int]) -> None:
    differences = np.random.default_rng(0).normal(size=(len(labels), WIDTH))
    assert fit((differences, np.array(labels, dtype=np.int64))) is None


def test_a_collapsed_encoder_gives_no_head() -> None:
    assert fit((np.zeros((6, WIDTH)), np.array([0, 1, 2, 0, 1, 2]))) is None


@pytest.mark.parametrize("hidden", [0, 4])
def test_exchanging_two_scans_exchanges_improved_and_declined_bit_for_bit(hidden: int) -> None:
    fitted = fit(pairs(60, 2), hidden=hidden)
    assert fitted is not None
    differences = torch.as_tensor(pairs(33, 3)[0], dtype=torch.float32)
    with torch.no_grad():
        forward, backward = fitted.head(differences), fitted.head(-differences)
    assert torch.equal(forward, backward.flip(1))


def test_the_temperature_minimises_the_validation_log_loss() -> None:
    train, validation = pairs(40, 4, noise=0.2), pairs(200, 5, noise=2.5)
    fitted = fit(train, validation, penalties=(1e-4,))
    assert fitted is not None
    with torch.no_grad():
        logits = fitted.head(torch.as_tensor(validation[0], dtype=torch.float32)).double().numpy()

    def log_loss(temperature: float) -> float:
        return float(-log_softmax(logits / temperature, axis=1)[np.arange(200), validation[1]].mean())

    best = minimize_scalar(log_loss, bounds=(0.25, 8.0), method="bounded")
    assert best.x > 1.2
    # The grid has 61 steps in 5 octaves: neighbours differ by 6 %.
    assert fitted.temperature == pytest.approx(best.x, rel=0.06)


def test_the_penalty_with_the_lowest_calibrated_validation_loss_is_kept() -> None:
    train, validation = pairs(25, 6, noise=2.0), pairs(300, 7, noise=2.0)
    penalties = (1e-5, 1e-2, 1e-1, 10.0)

    def loss_of(penalty: float) -> float:
        one = fit(train, validation, penalties=(penalty,))
        assert one is not None
        with torch.no_grad():
            logits = one.head(torch.as_tensor(validation[0], dtype=torch.float32)).double().numpy() / one.temperature
        return float(-log_softmax(logits, axis=1)[np.arange(300), validation[1]].mean())

    fitted = fit(train, validation, penalties=penalties)
    assert fitted is not None
    assert fitted.l2 == min(penalties, key=loss_of)
    assert fitted.summary().to_dict() == {
        "temperature": fitted.temperature, "l2": fitted.l2, "num_train": 25, "num_validation": 300
    }  # fmt: skip


def test_without_validation_pairs_the_temperature_is_one() -> None:
    fitted = fit(pairs(40, 8))
    assert fitted is not None
    assert (fitted.temperature, fitted.num_validation) == (1.0, 0)


@pytest.mark.parametrize("hidden", [0, 3])
def test_the_same_seed_gives_the_same_head_and_the_global_generator_stays(hidden: int) -> None:
    before = torch.get_rng_state()
    first, second = (fit(pairs(50, 9), hidden=hidden, seed=5) for _ in range(2))
    assert first is not None
    assert second is not None
    assert torch.equal(before, torch.get_rng_state())
    for name, value in first.head.state_dict().items():
        assert torch.equal(value, second.head.state_dict()[name])
