"""The terms of visits use what each may use of a batch, with the chance level of embeddings that say nothing."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from preprocess.manifest import OutcomeSpec
from trainer.objectives.base import ScoreStatistics, TrainingScores
from trainer.objectives.joint import CrossModality, CrossSubject, FusionBce
from trainer.objectives.losses.multimodal import cross_modality, cross_subject
from trainer.objectives.terms import BatchOutput, total

NAN = float("nan")
PRESENT = [[1, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 0], [1, 1, 1]]
SCORES = [1.0, 0.0, 1.0, NAN, 0.0]
IMPAIRED = OutcomeSpec(name="impaired", higher_is_better=False, threshold=1.0)
CLASSES = TrainingScores(IMPAIRED, ScoreStatistics(0.5, 0.5, 1.0), classes=(0.0, 1.0))


def output_of(
    scores: list[float], present: list[list[int]], *, alike: bool = False, fused: list[float] | None = None
) -> BatchOutput:
    draws = torch.Generator().manual_seed(0)
    present_BM = torch.tensor(present, dtype=torch.bool)
    shape = (*present_BM.shape, 4)
    modalities = torch.ones(shape) if alike else torch.randn(shape, generator=draws)
    modalities = modalities.masked_fill(~present_BM[..., None], 0.0)
    num = len(scores)
    return BatchOutput(
        embeddings_BKE=modalities.flatten(1)[:, None],
        projections_BKP=modalities.flatten(1)[:, None],
        predicted_BK=torch.zeros(num, 1),
        scores_BK=torch.tensor(scores)[:, None],
        subjects_B=torch.arange(num),
        days_BK=torch.zeros(num, 1),
        anchor_E=torch.zeros(12),
        modalities_BME=modalities.requires_grad_(),
        present_BM=present_BM,
        fused_B=torch.zeros(num) if fused is None else torch.tensor(fused),
    )


def test_cross_modality_takes_all_visits_scored_or_not() -> None:
    output = output_of(SCORES, PRESENT)
    value = CrossModality(temperature=0.5)(output)
    assert value is not None
    expected = cross_modality(output.modalities_BME, output.present_BM, temperature=0.5)
    torch.testing.assert_close(value.loss, expected)


def test_cross_subject_takes_visits_with_a_score_and_the_score_as_class() -> None:
    output = output_of(SCORES, PRESENT)
    value = CrossSubject(temperature=0.5)(output)
    assert value is not None
    known = [0, 1, 2, 4]
    expected = cross_subject(output.modalities_BME[known], [1, 0, 1, 0], output.present_BM[known], temperature=0.5)
    torch.testing.assert_close(value.loss, expected)


def test_chance_is_the_loss_of_embeddings_that_are_all_alike() -> None:
    output = output_of(SCORES, PRESENT, alike=True)
    value = CrossModality(temperature=0.7)(output)
    assert value is not None
    assert value.chance == pytest.approx(float(value.loss.detach()), abs=1e-6)
    everything = output_of([1.0, 0.0, 1.0, 0.0], [[1, 1, 1]] * 4, alike=True)
    value = CrossSubject(temperature=0.7)(everything)
    assert value is not None
    assert value.chance == pytest.approx(float(value.loss.detach()), abs=1e-6)
    assert value.chance == pytest.approx(math.log(3))


def test_a_batch_that_shows_nothing_is_passed_over_by_the_term_that_cannot_use_it() -> None:
    lonely = output_of([1.0, 0.0, NAN], [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    assert CrossModality(temperature=0.7)(lonely) is None
    assert CrossSubject(temperature=0.7)(lonely) is None
    assert FusionBce().objective(CLASSES)(output_of([NAN, NAN], [[1, 1, 1]] * 2)) is None
    empty = output_of([1.0, 1.0, 0.0], [[1, 0, 0], [0, 0, 0], [1, 1, 1]])
    assert CrossSubject(temperature=0.7)(empty) is None


def test_fusion_bce_is_scikit_learns_log_loss_over_the_known_classes() -> None:
    fused = [0.3, -1.2, 2.0, 5.0, 0.1]
    value = FusionBce().objective(CLASSES)(output_of(SCORES, PRESENT, fused=fused))
    assert value is not None
    known = [0, 1, 2, 4]
    probability = 1 / (1 + np.exp(-np.array(fused)[known]))
    assert float(value.loss.detach()) == pytest.approx(log_loss(np.array(SCORES)[known], probability), rel=1e-6)
    assert value.chance == pytest.approx(math.log(2))


def test_both_terms_stand_one_to_one_in_the_loss() -> None:
    terms = [CrossModality(temperature=0.7), CrossSubject(temperature=0.7)]
    output = output_of(SCORES, PRESENT)
    loss, values = total(terms, output)
    torch.testing.assert_close(loss, values["cross_modality"].loss + values["cross_subject"].loss)
    torch.autograd.backward(loss)
    assert output.modalities_BME is not None
    assert output.modalities_BME.grad is not None
    assert output.present_BM is not None
    assert not output.modalities_BME.grad[~output.present_BM].any()
