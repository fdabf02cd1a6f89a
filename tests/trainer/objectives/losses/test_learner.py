"""LEARNER's four variants against brute-force loops, torch's cosine_embedding_loss and closed forms."""

import math

import pytest
import torch

from trainer.objectives.losses import learner

SETTINGS = {"score_mean": 24.0, "score_sd": 4.0, "score_range": 30.0, "threshold": 2.0}
PAIR_VARIANTS = ["contrastive", "weighted", "regressed"]
VARIANTS = ["mse", *PAIR_VARIANTS]


def batch(num_scans: int = 8, width: int = 6, seed: int = 0, dtype: torch.dtype = torch.float32):
    """Embeddings, predicted standardised scores, raw MMSE-like scores and subjects with repeats."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(num_scans, width, generator=generator, dtype=dtype)
    predicted = torch.randn(num_scans, generator=generator, dtype=dtype)
    scores = torch.randint(18, 31, (num_scans,), generator=generator).to(dtype)
    return embeddings, predicted, scores, torch.arange(num_scans) // 2


def learner_by_loops(embeddings, predicted, scores, subjects, variant, margin, weight):
    rows, r, hs, who = embeddings.tolist(), predicted.tolist(), scores.tolist(), list(subjects)
    mse = sum((p - (s - 24.0) / 4.0) ** 2 for p, s in zip(r, hs, strict=True)) / len(hs)
    terms = []
    for i in range(len(hs)):
        for j in range(i + 1, len(hs)):
            if who[i] == who[j]:
                continue
            dot = sum(a * b for a, b in zip(rows[i], rows[j], strict=True))
            d = 1 - dot / math.hypot(*rows[i]) / math.hypot(*rows[j])
            w = abs(hs[i] - hs[j]) / 30.0
            alike = abs(hs[i] - hs[j]) <= 2.0
            terms.append(
                {
                    "mse": 0.0,
                    "contrastive": d if alike else max(0.0, margin - d),
                    "weighted": (1 - w) * d if alike else w * max(0.0, margin - d),
                    "regressed": (d - margin * w) ** 2,
                }[variant]
            )
    return mse + weight * sum(terms) / len(terms)


@pytest.mark.parametrize(("margin", "weight"), [(1.0, 1.0), (0.5, 0.3), (2.0, 4.0)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_value_is_that_of_brute_force_loops(variant, margin, weight):
    embeddings, predicted, scores, subjects = batch(dtype=torch.float64)
    loss = learner(embeddings, predicted, scores, subjects, variant=variant, margin=margin, weight=weight, **SETTINGS)
    expected = learner_by_loops(embeddings, predicted, scores, subjects.tolist(), variant, margin, weight)
    assert loss.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("margin", [0.4, 1.0, 1.7])
def test_contrastive_term_is_cosine_embedding_loss_with_margin_one_minus_ours(margin):
    embeddings, _, scores, _ = batch()
    exact = (scores - 24.0) / 4.0  # no regression error, so only the term is left
    loss = learner(embeddings, exact, scores, torch.arange(8), variant="contrastive", margin=margin, **SETTINGS)
    first, second = torch.triu_indices(8, 8, offset=1)
    target = torch.where((scores[first] - scores[second]).abs() <= 2.0, 1, -1)
    expected = torch.nn.functional.cosine_embedding_loss(
        embeddings[first], embeddings[second], target, margin=1 - margin
    )
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_regression_part_is_the_mean_squared_error_of_the_standardised_score(variant):
    embeddings, predicted, scores, subjects = batch()
    loss = learner(embeddings, predicted, scores, subjects, variant=variant, weight=0.0, **SETTINGS)
    torch.testing.assert_close(loss, torch.nn.functional.mse_loss(predicted, (scores - 24.0) / 4.0))


@pytest.mark.parametrize("variant", PAIR_VARIANTS)
def test_pairs_within_one_subject_do_not_count(variant):
    _, predicted, scores, _ = batch(3)
    embeddings = torch.eye(3)

    def loss(features: torch.Tensor) -> torch.Tensor:
        return learner(features, predicted, scores, ["a", "a", "b"], variant=variant, **SETTINGS)

    turned = embeddings.clone()
    turned[1] = torch.tensor([1.0, 1.0, 0.0])  # nearer to scan 0 of its own subject, as far from scan 2 as before
    torch.testing.assert_close(loss(turned), loss(embeddings))
    turned[1] = torch.tensor([0.0, 1.0, 0.5])  # nearer to scan 2 of another subject
    assert not torch.allclose(loss(turned), loss(embeddings))


def test_scores_just_at_the_threshold_are_alike():
    embeddings, predicted = torch.eye(2), torch.zeros(2)
    embeddings[1] = embeddings[0]  # distance 0: costs nothing when alike, the whole margin when not

    def term(difference: float) -> float:
        scores = torch.tensor([24.0, 24.0 + difference])
        exact = predicted + (scores - 24.0) / 4.0
        return learner(embeddings, exact, scores, [0, 1], variant="contrastive", margin=0.8, **SETTINGS).item()

    assert term(2.0) == pytest.approx(0.0, abs=1e-6)
    assert term(2.25) == pytest.approx(0.8, abs=1e-6)


def test_equal_scores_make_every_pair_alike():
    embeddings, _, _, _ = batch(4)
    scores = torch.full((4,), 24.0)
    loss = learner(embeddings, torch.zeros(4), scores, [0, 1, 2, 3], variant="weighted", **SETTINGS)
    first, second = torch.triu_indices(4, 4, offset=1)
    expected = (1 - torch.nn.functional.cosine_similarity(embeddings[first], embeddings[second])).mean()
    torch.testing.assert_close(loss, expected)


def test_regressed_is_zero_where_distance_is_proportional_to_the_difference_of_scores():
    angle = torch.arccos(torch.tensor(1 - 15.0 / 30.0))  # cosine distance 0.5 for scores 15 apart of 30
    embeddings = torch.stack((torch.tensor([1.0, 0.0]), torch.stack((angle.cos(), angle.sin())) * 9.0))
    scores = torch.tensor([28.0, 13.0])
    loss = learner(embeddings, (scores - 24.0) / 4.0, scores, [0, 1], variant="regressed", **SETTINGS)
    assert loss.item() == pytest.approx(0.0, abs=1e-9)


def test_weight_of_a_pair_never_exceeds_one():
    embeddings, scores = torch.eye(2), torch.tensor([0.0, 90.0])
    loss = learner(embeddings, (scores - 24.0) / 4.0, scores, [0, 1], variant="regressed", margin=0.25, **SETTINGS)
    assert loss.item() == pytest.approx((1 - 0.25) ** 2, abs=1e-5)


def test_margin_above_one_is_out_of_reach_of_embeddings_that_are_never_negative():
    embeddings, scores = torch.eye(2), torch.tensor([0.0, 30.0])  # orthogonal: the farthest such embeddings can be
    exact = (scores - 24.0) / 4.0
    assert learner(embeddings, exact, scores, [0, 1], variant="contrastive", margin=1.0, **SETTINGS).item() == 0
    assert learner(embeddings, exact, scores, [0, 1], variant="contrastive", margin=2.0, **SETTINGS).item() == 1


@pytest.mark.parametrize("variant", PAIR_VARIANTS)
@pytest.mark.parametrize("num_scans", [1, 4])
def test_batch_of_one_subject_is_refused_by_variants_that_need_pairs(variant, num_scans):
    embeddings, predicted, scores, _ = batch(num_scans)
    with pytest.raises(ValueError, match=f"none of the {num_scans} scans .* needs at least 2 subjects"):
        learner(embeddings, predicted, scores, ["sub-01"] * num_scans, variant=variant, **SETTINGS)


def test_batch_of_one_subject_is_enough_for_mse():
    embeddings, predicted, scores, _ = batch(4)
    assert learner(embeddings, predicted, scores, ["sub-01"] * 4, variant="mse", **SETTINGS).isfinite()


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_is_the_numerical_one(variant):
    embeddings, predicted, scores, subjects = batch(6, 4, dtype=torch.float64)

    def loss(features: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        return learner(features, answers, scores, subjects, variant=variant, **SETTINGS)

    inputs = (embeddings.requires_grad_(), predicted.requires_grad_())
    assert torch.autograd.gradcheck(loss, inputs)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("num_scans", [2, 512])
@pytest.mark.parametrize("norm", [0.0, 1e-25, 1e25])
def test_zero_and_extreme_embeddings_give_finite_loss_and_gradient(variant, num_scans, norm):
    embeddings, predicted, scores, _ = batch(num_scans)
    features, answers = (embeddings * norm).requires_grad_(), predicted.requires_grad_()
    loss = learner(features, answers, scores, torch.arange(num_scans), variant=variant, **SETTINGS)
    loss.backward()
    assert loss.isfinite()
    assert answers.grad is not None
    assert answers.grad.isfinite().all()
    assert features.grad is None or features.grad.isfinite().all()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_and_autocast_are_raised_to_float32(variant, dtype):
    embeddings, predicted, scores, subjects = batch()
    embeddings, predicted = embeddings.to(dtype), predicted.to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        loss = learner(embeddings, predicted, scores, subjects, variant=variant, **SETTINGS)
    expected = learner(embeddings.float(), predicted.float(), scores, subjects, variant=variant, **SETTINGS)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_subjects_may_be_strings_or_numbers(variant):
    embeddings, predicted, scores, subjects = batch()
    names = [f"sub-{subject}" for subject in subjects.tolist()]
    by_name = learner(embeddings, predicted, scores, names, variant=variant, **SETTINGS)
    assert torch.equal(by_name, learner(embeddings, predicted, scores, subjects, variant=variant, **SETTINGS))


def test_whole_number_scores_are_taken_as_they_are():
    embeddings, predicted, scores, subjects = batch()
    whole = learner(embeddings, predicted, scores.long(), subjects, variant="weighted", **SETTINGS)
    assert torch.equal(whole, learner(embeddings, predicted, scores, subjects, variant="weighted", **SETTINGS))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"variant": "triplet"}, "variant is 'triplet'; it must be one of mse"),
        ({"score_sd": 0.0}, "score_sd is 0.0"),
        ({"score_range": -30.0}, "score_range is -30.0"),
        ({"margin": 0.0}, "margin is 0.0"),
        ({"threshold": -1.0}, "threshold is -1.0"),
        ({"weight": math.nan}, "weight is nan"),
    ],
)
def test_setting_outside_its_limits_is_refused_with_its_value(change, message):
    with pytest.raises(ValueError, match=message):
        learner(*batch(), **{"variant": "weighted", **SETTINGS, **change})


def test_column_of_predictions_is_refused_before_it_broadcasts_against_the_scores():
    embeddings, predicted, scores, subjects = batch()
    with pytest.raises(ValueError, match=r"predicted_B has shape \(8, 1\); the batch needs \(8,\)"):
        learner(embeddings, predicted[:, None], scores, subjects, variant="mse", **SETTINGS)
    with pytest.raises(ValueError, match=r"scores_B has shape \(7,\)"):
        learner(embeddings, predicted, scores[:7], subjects, variant="mse", **SETTINGS)
    with pytest.raises(ValueError, match=r"embeddings_BE has shape \(8,\)"):
        learner(embeddings[:, 0], predicted, scores, subjects, variant="mse", **SETTINGS)


def test_missing_score_is_refused_and_counted():
    embeddings, predicted, scores, subjects = batch()
    scores[2:4] = math.nan
    with pytest.raises(ValueError, match="scores_B holds 2 values that are not finite"):
        learner(embeddings, predicted, scores, subjects, variant="mse", **SETTINGS)
