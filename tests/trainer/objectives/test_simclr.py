"""SimCLR hands its function the two views of each scan, and its chance is all other views."""

import math

import pytest
import torch

from tests.support.outputs import two_views_of
from trainer.objectives.losses import nt_xent
from trainer.objectives.simclr import NtXent


def test_simclr_compares_two_views_and_chance_is_all_other_views() -> None:
    output = two_views_of(1.0, 2.0, 3.0)
    value = NtXent(temperature=0.3)(output)
    assert value is not None
    first, second = output.projections_BKP.unbind(dim=1)
    torch.testing.assert_close(value.loss, nt_xent(first, second, temperature=0.3))
    assert value.chance == pytest.approx(math.log(5))
