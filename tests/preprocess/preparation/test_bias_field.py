"""N4 on a head with a shading that is known; its refusals."""

import numpy as np
import pytest

from preprocess.errors import ScanError
from preprocess.placing import place
from preprocess.preparation.bias_field import fit_bias_field
from preprocess.preparation.head_copy import HeadCopy, copy_head
from preprocess.recipe import VolumeRecipe
from preprocess.types import Image
from tests.support.turned_heads import pose, turned_head


def copied(shading: float) -> HeadCopy:
    return copy_head(place(Image(*turned_head(pose(), shading=shading), "int16"), VolumeRecipe(), name="x"))


@pytest.fixture(scope="module")
def fields() -> dict[float, object]:
    return {shading: fit_bias_field(copied(shading), name="x") for shading in (0.0, 0.3)}


def test_the_shading_that_was_put_in_is_what_is_found_beyond_that_of_the_head_itself(
    fields: dict[float, object],
) -> None:
    along = np.eye(4)
    along[0, 0] = 4.0
    along[0, 3] = -60
    found = fields[0.3].at(along, (31, 1, 1)).ravel() / fields[0.0].at(along, (31, 1, 1)).ravel()  # type: ignore[attr-defined]
    true = 1 + 0.3 * (np.arange(31) * 4 - 60) / 160
    assert np.abs(found / found.mean() / (true / true.mean()) - 1).max() < 0.05


def test_more_shading_is_told_as_more(fields: dict[float, object]) -> None:
    assert fields[0.3].ratio > fields[0.0].ratio + 0.05  # type: ignore[attr-defined]


def test_too_little_to_fit_is_a_finding_that_keeps_the_scan() -> None:
    copy = copied(0.0)
    dark = HeadCopy(np.zeros_like(copy.values_XYZ), copy.is_seen_XYZ, copy.centre_mm)
    dark.values_XYZ[:5, :5, :5] = 100
    with pytest.raises(ScanError) as caught:
        fit_bias_field(dark, name="sub-1")
    assert caught.value.finding.code == "bias_field_failed"
    assert not caught.value.finding.leaves_out
    assert "N4 finds 125 bright voxels of 3 mm, fewer than 2000; kept with its shading" in caught.value.finding.message
