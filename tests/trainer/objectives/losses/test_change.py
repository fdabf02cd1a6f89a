"""The squared error of a predicted difference against a loop over pairs, its gradient, and what it refuses."""

from itertools import combinations

import pytest
import torch

from trainer.objectives.losses import pair_change

NAN = float("nan")


def by_loops(predicted: list[list[float]], scores: list[list[float]], sd: float) -> float:
    errors = [
        ((r[j] - r[i]) - (s[j] - s[i]) / sd) ** 2
        for r, s in zip(predicted, scores, strict=True)
        for i, j in combinations(range(len(s)), 2)
        if s[i] == s[i] and s[j] == s[j]
    ]
    return sum(errors) / len(errors)


@pytest.mark.parametrize("num_visits", [2, 3, 4])
def test_every_two_scans_of_a_person_with_known_scores_count_once(num_visits: int) -> None:
    draws = torch.Generator().manual_seed(num_visits)
    predicted = torch.randn(5, num_visits, generator=draws)
    scores = 20 + 5 * torch.randn(5, num_visits, generator=draws)
    scores[1, 0] = NAN
    scores[3] = NAN
    wanted = by_loops(predicted.tolist(), scores.tolist(), 4.0)
    assert float(pair_change(predicted, scores, score_sd=4.0)) == pytest.approx(wanted, rel=1e-6)


def test_what_all_scans_of_a_person_share_changes_nothing() -> None:
    draws = torch.Generator().manual_seed(0)
    predicted, scores = torch.randn(4, 3, generator=draws), torch.randn(4, 3, generator=draws)
    shifted = predicted + torch.tensor([[1.0], [-3.0], [0.0], [8.0]])
    torch.testing.assert_close(pair_change(shifted, scores, score_sd=1.0), pair_change(predicted, scores, score_sd=1.0))


def test_gradient_is_the_numerical_one_and_misses_scans_without_a_score() -> None:
    draws = torch.Generator().manual_seed(1)
    scores = torch.randn(3, 3, generator=draws, dtype=torch.float64)
    scores[0, 2] = NAN
    predicted = torch.randn(3, 3, generator=draws, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: pair_change(given, scores, score_sd=2.0), (predicted,))
    pair_change(predicted, scores, score_sd=2.0).backward()
    assert predicted.grad is not None
    assert float(predicted.grad[0, 2]) == 0.0


def test_half_precision_is_computed_in_float32() -> None:
    predicted, scores = torch.zeros(2, 2, dtype=torch.bfloat16), torch.tensor([[0.0, 1.0], [0.0, 300.0]])
    assert pair_change(predicted, scores, score_sd=1.0).dtype == torch.float32


@pytest.mark.parametrize(
    ("predicted", "scores", "sd", "message"),
    [
        (torch.zeros(2, 2), torch.zeros(2, 3), 1.0, r"\(2, 2\), scores \(2, 3\)"),
        (torch.zeros(2, 2), torch.zeros(2, 2), 0.0, "score_sd is 0.0"),
        (torch.zeros(2, 2), torch.full((2, 2), NAN), 1.0, "no two scores of one person"),
    ],
)
def test_what_is_refused(predicted: torch.Tensor, scores: torch.Tensor, sd: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pair_change(predicted, scores, score_sd=sd)
