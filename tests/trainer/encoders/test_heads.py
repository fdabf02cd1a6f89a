"""Projector, score head, and the antisymmetry of the progression head."""

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from preprocess.types import PROGRESSIONS
from trainer.encoders import ProgressionHead, Projector, ScoreHead

IMPROVED, STABLE, DECLINED = (PROGRESSIONS.index(name) for name in ("improved", "stable", "declined"))
EXCHANGED = [DECLINED, STABLE, IMPROVED]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def randomised(width: int, hidden: int, seed: int = 0) -> ProgressionHead:
    """A head with every weight and bias away from zero, and a scale that is not a power of two."""
    head = ProgressionHead(width, hidden)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_(generator=generator)
    head.fit_scale(normal(50, width, seed=seed + 1) * 0.37)
    return head


def assert_antisymmetric(head: ProgressionHead, earlier: torch.Tensor, later: torch.Tensor) -> None:
    """Exchanging the scans exchanges improved and declined and keeps stable, bit for bit."""
    assert torch.equal(head(later - earlier)[:, EXCHANGED], head(earlier - later))


# Projector and score head


def test_projections_are_unit_rows_in_float32_under_autocast_too():
    projector = Projector(32, 16, 8)
    with torch.autocast("cpu", torch.bfloat16):
        projections = projector(normal(5, 32))
    assert projections.dtype == torch.float32
    torch.testing.assert_close(projections.norm(dim=1), torch.ones(5))
    expected = torch.nn.functional.normalize(projector.layers(normal(5, 32)))
    torch.testing.assert_close(projector(normal(5, 32)), expected)


def test_projector_of_the_paper_has_98688_parameters():
    assert sum(parameter.numel() for parameter in Projector().parameters()) == 98_688


def test_score_head_answers_one_number_a_scan_in_float32():
    head = ScoreHead(6)
    embeddings = normal(4, 6)
    expected = embeddings @ head.linear.weight[0] + head.linear.bias
    torch.testing.assert_close(head(embeddings), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(head(embeddings), head(embeddings.float()))
        assert head(embeddings).dtype == torch.float32
    assert head(embeddings[:1]).shape == (1,)


# Progression head


@pytest.mark.parametrize("hidden", [0, 7, 16])
@pytest.mark.parametrize("width", [3, 24, 256])
@pytest.mark.parametrize("num_pairs", [1, 3, 64])
def test_exchanging_the_scans_exchanges_improved_and_declined_bit_for_bit(width, hidden, num_pairs):
    for seed in range(5):
        head = randomised(width, hidden, seed)
        assert_antisymmetric(head, normal(num_pairs, width, seed=seed + 10), normal(num_pairs, width, seed=seed + 20))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_antisymmetry_holds_in_other_precisions_and_under_autocast(dtype):
    head = randomised(32, 8)
    earlier, later = normal(9, 32).to(dtype), normal(9, 32, seed=1).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        assert_antisymmetric(head, earlier, later)
    assert_antisymmetric(head, earlier, later)


def test_antisymmetry_holds_for_differences_that_are_a_slice_of_a_larger_tensor():
    head = randomised(33, 5)
    differences = normal(8, 35)[1:, 1:34]
    assert torch.equal(head(differences)[:, EXCHANGED], head(-differences))


@pytest.mark.parametrize("hidden", [0, 8])
def test_training_on_pairs_in_one_order_only_does_not_break_the_antisymmetry(hidden):
    torch.manual_seed(0)
    head = ProgressionHead(16, hidden)
    differences = normal(60, 16) + 0.5
    head.fit_scale(differences)
    labels = torch.full((60,), DECLINED)
    labels[:10] = STABLE
    optimiser = torch.optim.AdamW(head.parameters(), lr=0.05)
    before = torch.nn.functional.cross_entropy(head(differences), labels).item()
    for _ in range(30):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(head(differences), labels)
        loss.backward()
        optimiser.step()
    assert loss.item() < before
    assert_antisymmetric(head, normal(20, 16, seed=3), normal(20, 16, seed=4))


def test_identical_scans_favour_neither_direction():
    logits = randomised(16, 8)(torch.zeros(2, 16))
    assert torch.equal(logits[:, IMPROVED], logits[:, DECLINED])


def test_untrained_head_answers_thirds():
    torch.manual_seed(0)
    for hidden in (0, 8):
        chances = ProgressionHead(16, hidden)(normal(4, 16)).softmax(dim=1)
        torch.testing.assert_close(chances, torch.full((4, 3), 1 / 3))


def test_logits_are_those_of_the_formula():
    head = randomised(5, 0)
    with torch.no_grad():
        head.difference_scale.fill_(2.0)
    difference = normal(1, 5)
    x, w, v = difference[0] / 2, head.direction.weight[0], head.magnitude.weight[0]
    expected = torch.stack((w @ x, v @ x.abs() + head.magnitude.bias[0], -(w @ x)))
    torch.testing.assert_close(head(difference)[0], expected)


def test_improved_against_declined_is_learned_as_well_as_by_logistic_regression():
    """With stable pairs absent the head is a logistic regression without intercept on the difference."""
    differences = normal(300, 8, dtype=torch.float64)
    truth = differences @ normal(8, seed=1, dtype=torch.float64) + normal(300, seed=2, dtype=torch.float64)
    labels = torch.where(truth > 0, IMPROVED, DECLINED)
    head = ProgressionHead(8).double()
    optimiser = torch.optim.LBFGS(head.direction.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        two_logits = head(differences)[:, [DECLINED, IMPROVED]]
        # scikit-learn's penalty is |coef|^2 / 2 with coef = 2 w, C = 1.
        penalty = 2 * head.direction.weight.square().sum()
        target = (labels == IMPROVED).long()
        loss = torch.nn.functional.cross_entropy(two_logits, target, reduction="sum") + penalty
        loss.backward()
        return loss

    optimiser.step(closure)
    oracle = LogisticRegression(C=1.0, fit_intercept=False, tol=1e-8).fit(differences.numpy(), labels == IMPROVED)
    torch.testing.assert_close(
        2 * head.direction.weight.detach()[0], torch.from_numpy(oracle.coef_[0]), rtol=1e-3, atol=1e-3
    )


def test_magnitude_weights_can_tell_stable_from_changed_whatever_the_sign():
    head = ProgressionHead(4)
    with torch.no_grad():
        head.magnitude.weight.fill_(-1.0)
        head.magnitude.bias.fill_(2.0)
    small, large = torch.full((1, 4), 0.1), torch.full((1, 4), 1.0)
    assert head(small).argmax() == head(-small).argmax() == STABLE
    assert head(large)[0, STABLE] < head(large)[0, IMPROVED]
    assert head(-large)[0, STABLE] < head(-large)[0, DECLINED]


def test_scale_is_the_root_mean_square_and_makes_the_head_blind_to_the_encoders_unit():
    differences = normal(40, 6)
    head, other = ProgressionHead(6), ProgressionHead(6)
    head.fit_scale(differences)
    other.fit_scale(differences * 1e-3)
    torch.testing.assert_close(head.difference_scale, differences.square().mean().sqrt())
    with torch.no_grad():
        for first, second in zip(head.parameters(), other.parameters(), strict=True):
            second.copy_(first.normal_())
    torch.testing.assert_close(head(differences), other(differences * 1e-3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", [0.0, float("nan"), float("inf")])
def test_scale_of_differences_that_say_nothing_is_refused(value):
    with pytest.raises(ValueError, match=f"root mean square of 3 differences is {value}"):
        ProgressionHead(4).fit_scale(torch.full((3, 4), value))


@pytest.mark.parametrize("hidden", [0, 3])
def test_penalty_sums_the_squares_of_weights_without_biases(hidden):
    head = ProgressionHead(4, hidden)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.fill_(2.0)
    # direction and magnitude 4 each; hidden in 4 x 3, hidden out 3 x 2.
    num_weights = 8 + (18 if hidden else 0)
    assert head.l2_penalty().item() == 4 * num_weights
    head.l2_penalty().backward()
    assert head.magnitude.bias.grad is None


def test_wrong_shapes_and_widths_are_refused():
    with pytest.raises(ValueError, match=r"differences have shape \(4, 5\); the head needs \(B, 6\)"):
        ProgressionHead(6)(torch.zeros(4, 5))
    with pytest.raises(ValueError, match=r"differences have shape \(6,\)"):
        ProgressionHead(6).fit_scale(torch.ones(6))
    with pytest.raises(ValueError, match="hidden is -1"):
        ProgressionHead(6, -1)


def test_state_dict_carries_weights_and_scale():
    head, copy = randomised(6, 4), ProgressionHead(6, 4)
    copy.load_state_dict(head.state_dict())
    assert torch.equal(copy(normal(3, 6)), head(normal(3, 6)))


@pytest.mark.parametrize("hidden", [0, 4])
def test_traced_and_exported_heads_answer_alike_and_stay_antisymmetric(hidden):
    head = randomised(6, hidden).eval()
    with pytest.warns(DeprecationWarning, match=r"torch\.jit\.trace"):
        traced = torch.jit.trace(head, normal(2, 6))
    free_batch = ({0: torch.export.Dim("batch", min=1)},)
    exported = torch.export.export(head, (normal(2, 6),), dynamic_shapes=free_batch).module()
    for num_pairs in (1, 3, 8):
        differences = normal(num_pairs, 6, seed=num_pairs)
        for graph in (traced, exported):
            torch.testing.assert_close(graph(differences), head(differences))
            assert torch.equal(graph(differences)[:, EXCHANGED], graph(-differences))
