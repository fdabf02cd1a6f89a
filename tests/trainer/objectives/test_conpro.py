"""ConPrO's terms pair the scans of a batch as docs/methods/conpro.md says; pairs of one subject are never formed."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

from preprocess.errors import RunError
from preprocess.manifest import OutcomeSpec
from trainer.objectives.base import ScoreStatistics, TrainingScores
from trainer.objectives.conpro import MarginContrast, Preference
from trainer.objectives.losses import margin_contrast, preference
from trainer.objectives.terms import BatchOutput, Objective

NAN = float("nan")
ANCHOR = torch.tensor([1.0, 0.5, 0.0, -1.0])


def output_of(scores: list[float], views: int = 1) -> BatchOutput:
    draws = torch.Generator().manual_seed(5)
    shape = (len(scores), views)
    return BatchOutput(
        embeddings_BKE=torch.randn(*shape, 4, generator=draws, requires_grad=True),
        projections_BKP=torch.randn(*shape, 3, generator=draws),
        predicted_BK=torch.zeros(shape),
        scores_BK=torch.tensor(scores)[:, None].repeat(1, views),
        subjects_B=torch.arange(len(scores)),
        days_BK=torch.zeros(shape),
        anchor_E=ANCHOR,
    )


def preference_term(higher_is_better: bool, *, beta: float = 1.0) -> Objective:
    outcome = OutcomeSpec(name="grade", higher_is_better=higher_is_better, threshold=1.0)
    statistics = ScoreStatistics(1.0, 1.0, 3.0)
    return Preference(beta=beta, normal=0.0, num_normals=8).objective(TrainingScores(outcome, statistics))


def pairs_of(scores: list[float]) -> list[tuple[int, int]]:
    known = [index for index, score in enumerate(scores) if score == score]
    return list(combinations(known, 2))


def test_all_scored_pairs_are_contrasted_and_two_abnormal_ones_are_alike() -> None:
    scores = [0.0, 3.0, 1.0, NAN, 0.0]
    output = output_of(scores)
    value = MarginContrast(margin=2.0, normal=0.0)(output)
    assert value is not None
    first, second = map(list, zip(*pairs_of(scores), strict=True))
    same = torch.tensor([(scores[i] == 0) == (scores[j] == 0) for i, j in zip(first, second, strict=True)])
    projections = output.projections_BKP[:, 0]
    torch.testing.assert_close(value.loss, margin_contrast(projections[first], projections[second], same, margin=2.0))
    assert MarginContrast(margin=2.0, normal=0.0)(output_of([0.0, NAN])) is None


@pytest.mark.parametrize(
    ("scores", "share"), [([0.0, 3.0, 1.0, NAN, 0.0], 4 / 6), ([1.0, 2.0], 0.0), ([0.0, 2.0], 1.0)]
)
def test_chance_of_the_contrast_is_what_one_point_for_all_scans_gives(scores: list[float], share: float) -> None:
    output = output_of(scores)
    collapsed = replace(output, projections_BKP=torch.ones_like(output.projections_BKP))
    for margin in (1.0, 2.0):
        value = MarginContrast(margin=margin, normal=0.0)(collapsed)
        assert value is not None
        assert value.chance == pytest.approx(margin * share)
        assert float(value.loss) == pytest.approx(value.chance, abs=1e-6)


@pytest.mark.parametrize("higher_is_better", [False, True])
def test_the_worse_of_two_abnormal_scans_is_preferred_farther_and_ties_and_normals_stay_out(
    higher_is_better: bool,
) -> None:
    scores = [0.0, 3.0, 1.0, 3.0, NAN]
    output = output_of(scores)
    value = preference_term(higher_is_better, beta=4.0)(output)
    assert value is not None
    pairs = [(i, j) for i, j in pairs_of(scores) if 0 not in (scores[i], scores[j]) and scores[i] != scores[j]]
    first, second = map(list, zip(*pairs, strict=True))
    worse = torch.tensor([(scores[i] > scores[j]) != higher_is_better for i, j in pairs])
    embeddings = output.embeddings_BKE[:, 0]
    expected = preference(embeddings[first], embeddings[second], ANCHOR, worse, beta=4.0)
    torch.testing.assert_close(value.loss, expected)


@pytest.mark.parametrize("scores", [[0.0, 3.0], [3.0, 3.0], [0.0, 0.0, NAN]])
def test_without_two_grades_of_abnormal_there_is_nothing_to_prefer(scores: list[float]) -> None:
    assert preference_term(False)(output_of(scores)) is None


def test_views_of_one_scan_are_never_a_pair() -> None:
    assert MarginContrast(margin=2.0, normal=0.0)(output_of([1.0], views=3)) is None


def test_the_anchor_is_some_normal_scans_the_same_for_one_seed() -> None:
    scores = np.array([0.0, 1.0, 0.0, NAN, 0.0, 2.0, 0.0])
    term = Preference(normal=0.0, num_normals=3)
    chosen = term.anchor_scans(scores, seed=4)
    assert chosen is not None
    assert len(chosen) == 3
    assert set(chosen) <= {0, 2, 4, 6}
    assert (np.diff(chosen) > 0).all()
    again = [term.anchor_scans(scores, seed=seed) for seed in range(4, 12)]
    assert np.array_equal(again[0], chosen)
    assert any(not np.array_equal(one, chosen) for one in again)
    all_four = Preference(normal=0.0, num_normals=32).anchor_scans(scores, seed=4)
    assert np.array_equal(all_four, [0, 2, 4, 6])
    with pytest.raises(RunError, match=r"no training scan has the score 7, which preference calls normal"):
        Preference(normal=7.0).anchor_scans(scores, seed=4)


def test_the_contrast_of_normal_and_abnormal_has_no_anchor() -> None:
    assert MarginContrast().anchor_scans(np.zeros(3), seed=0) is None
