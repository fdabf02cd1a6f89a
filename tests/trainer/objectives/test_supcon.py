"""SupCon makes labels of scores, and passes over a batch in which no two views share one."""

import math

import pytest
import torch

from tests.support.outputs import output_of, two_views_of
from trainer.objectives.losses import sup_con
from trainer.objectives.supcon import SupCon, binned

NAN = float("nan")


def test_scores_are_rounded_to_multiples_of_the_bin_or_left_alone() -> None:
    scores = torch.tensor([60.2, 61.4, 61.6, -0.4])
    assert binned(scores, 1.0).tolist() == [60.0, 61.0, 62.0, 0.0]
    assert binned(scores, 5.0).tolist() == [60.0, 60.0, 60.0, 0.0]
    assert binned(scores, 0.0) is scores


def test_supcon_labels_are_bins_or_normal_and_not_and_scans_without_a_score_stay_out() -> None:
    output = two_views_of(0.0, 1.0, 2.0, 4.0, NAN)
    views = output.projections_BKP[:4]
    for term, labels in (
        (SupCon(temperature=0.2, bin_width=0.0), [0, 1, 2, 4]),
        (SupCon(temperature=0.2, bin_width=3.0), [0, 0, 3, 3]),
        (SupCon(temperature=0.2, bin_width=0.0, normal=0.0), [0, 1, 1, 1]),
    ):
        value = term(output)
        assert value is not None
        torch.testing.assert_close(value.loss, sup_con(views, torch.tensor(labels), temperature=0.2))
        assert value.chance == pytest.approx(math.log(7))
    assert SupCon(temperature=0.2, bin_width=0.0)(output_of([[1.0], [2.0]])) is None
    assert SupCon(temperature=0.2, bin_width=0.0)(two_views_of(NAN)) is None
