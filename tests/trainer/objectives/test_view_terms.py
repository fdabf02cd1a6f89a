"""Each term hands its function what the method means: views, labels, days, subjects; or says it can do nothing."""

import math

import pytest
import torch

from trainer.objectives.losses import chrono_contrast, nt_xent, rank_n_contrast, sup_con, supremix
from trainer.objectives.terms import BatchOutput
from trainer.objectives.view_terms import ChronoContrast, NtXent, RankNContrast, SupCon, SupReMix, binned

NAN = float("nan")


def output_of(scores_BK: list[list[float]], days_BK: list[list[float]] | None = None) -> BatchOutput:
    draws = torch.Generator().manual_seed(3)
    shape = (len(scores_BK), len(scores_BK[0]))
    projections = torch.randn(*shape, 4, generator=draws)
    return BatchOutput(
        embeddings_BKE=torch.randn(*shape, 6, generator=draws, requires_grad=True),
        projections_BKP=projections / projections.norm(dim=-1, keepdim=True),
        predicted_BK=torch.zeros(shape),
        scores_BK=torch.tensor(scores_BK),
        subjects_B=torch.arange(len(scores_BK)) + 10,
        days_BK=torch.zeros(shape) if days_BK is None else torch.tensor(days_BK),
        anchor_E=torch.zeros(6),
    )


def of_scores(*scores: float) -> BatchOutput:
    return output_of([[score, score] for score in scores])


def test_scores_are_rounded_to_multiples_of_the_bin_or_left_alone() -> None:
    scores = torch.tensor([60.2, 61.4, 61.6, -0.4])
    assert binned(scores, 1.0).tolist() == [60.0, 61.0, 62.0, 0.0]
    assert binned(scores, 5.0).tolist() == [60.0, 60.0, 60.0, 0.0]
    assert binned(scores, 0.0) is scores


def test_simclr_compares_two_views_and_chance_is_all_other_views() -> None:
    output = of_scores(1.0, 2.0, 3.0)
    value = NtXent(weight=1.0, temperature=0.3)(output)
    assert value is not None
    first, second = output.projections_BKP.unbind(dim=1)
    torch.testing.assert_close(value.loss, nt_xent(first, second, temperature=0.3))
    assert value.chance == pytest.approx(math.log(5))


def test_supcon_labels_are_bins_or_normal_and_not_and_scans_without_a_score_stay_out() -> None:
    output = of_scores(0.0, 1.0, 2.0, 4.0, NAN)
    views = output.projections_BKP[:4]
    for term, labels in (
        (SupCon(1.0, 0.2, bin_width=0.0), [0, 1, 2, 4]),
        (SupCon(1.0, 0.2, bin_width=3.0), [0, 0, 3, 3]),
        (SupCon(1.0, 0.2, bin_width=0.0, normal=0.0), [0, 1, 1, 1]),
    ):
        value = term(output)
        assert value is not None
        torch.testing.assert_close(value.loss, sup_con(views, torch.tensor(labels), temperature=0.2))
        assert value.chance == pytest.approx(math.log(7))
    assert SupCon(1.0, 0.2, bin_width=0.0)(output_of([[1.0], [2.0]])) is None
    assert SupCon(1.0, 0.2, bin_width=0.0)(of_scores(NAN)) is None


def test_supremix_gets_embeddings_of_scored_scans_with_their_bins() -> None:
    output = of_scores(60.2, 64.0, NAN, 67.9)
    term = SupReMix(1.0, 0.2, window=5.0, bin_width=2.0, mix_positives=True, mix_negatives=True, magnify=True)
    torch.manual_seed(1)
    value = term(output)
    assert value is not None
    torch.manual_seed(1)
    wanted = supremix(output.embeddings_BKE[[0, 1, 3]], torch.tensor([60.0, 64.0, 68.0]), temperature=0.2, window=5.0)
    torch.testing.assert_close(value.loss, wanted)
    assert term(of_scores(60.0, NAN)) is None


def test_rank_n_contrast_gets_every_view_with_a_score() -> None:
    output = output_of([[1.0, 2.0], [5.0, NAN]])
    value = RankNContrast(1.0, temperature=2.0)(output)
    assert value is not None
    features = output.embeddings_BKE.flatten(0, 1)[:3]
    torch.testing.assert_close(value.loss, rank_n_contrast(features, torch.tensor([1.0, 2.0, 5.0]), temperature=2.0))
    assert RankNContrast(1.0, temperature=2.0)(output_of([[1.0, 2.0]])) is None


def test_chrono_contrast_gets_days_and_subjects_and_no_scores() -> None:
    days = [[0.0, 10.0, 30.0], [0.0, 200.0, 260.0]]
    output = output_of([[NAN] * 3, [NAN] * 3], days)
    value = ChronoContrast(1.0, temperature=1.0)(output)
    assert value is not None
    wanted = chrono_contrast(
        output.embeddings_BKE.flatten(0, 1), torch.tensor(days).flatten(), torch.tensor([10, 10, 10, 11, 11, 11])
    )
    torch.testing.assert_close(value.loss, wanted)
