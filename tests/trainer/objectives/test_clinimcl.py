"""ClinImCL hands its function the first and the second visit, and the subjects."""

import math

import pytest
import torch

from tests.support.outputs import output_of
from trainer.objectives.clinimcl import InfoNce
from trainer.objectives.losses import info_nce

NAN = float("nan")


def test_info_nce_gets_first_and_second_visits_and_subjects() -> None:
    output = output_of([[20.0, 17.0], [25.0, NAN], [NAN, NAN], [22.0, 22.0]])
    value = InfoNce(temperature=0.2)(output)
    assert value is not None
    first, second = output.projections_BKP.unbind(1)
    assert torch.equal(value.loss, info_nce(first, second, temperature=0.2, subject_ids=output.subjects_B))
    assert value.chance == pytest.approx(math.log(4))
