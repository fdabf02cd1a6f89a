"""Random fields: centred, and of unit variance."""

import numpy as np
import pytest

from interscan.synthetic.waves import draw_waves


def test_random_fields_have_zero_mean_and_unit_variance() -> None:
    waves = draw_waves(np.random.default_rng(0), 64, 20, 30)
    values = waves.at(np.random.default_rng(1).uniform(-300, 300, (3, 50_000)).astype(np.float32))
    assert abs(values.mean()) < 0.03
    assert values.var() == pytest.approx(1, rel=0.1)
