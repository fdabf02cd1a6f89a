"""SimpleITK's images: the same voxels and places both ways."""

import sys

import numpy as np
import pytest
import SimpleITK

from preprocess.errors import UsageError
from preprocess.preparation.imaging import from_itk, load_simpleitk, require_imaging, to_itk
from preprocess.recipe import VolumeRecipe


def test_an_image_keeps_its_places_and_values() -> None:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    affine[:3, 3] = (-5, 6, 7)
    image = to_itk(SimpleITK, values, affine)
    assert image.GetSize() == (2, 3, 4)
    assert image.GetPixel(1, 2, 3) == values[1, 2, 3]
    assert image.TransformIndexToPhysicalPoint((1, 2, 3)) == pytest.approx((affine @ [1, 2, 3, 1])[:3])
    assert np.array_equal(from_itk(SimpleITK, image), values)


@pytest.mark.parametrize("settings", [{"bias_field": "n4"}, {"registration": "template"}])
def test_recipes_that_need_it_are_refused_where_it_is_missing(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = VolumeRecipe.model_validate(settings)
    require_imaging(recipe)
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    ((key, value),) = settings.items()
    with pytest.raises(UsageError, match=f"^{key} = \"{value}\" needs SimpleITK, of the extra 'imaging'"):
        require_imaging(recipe)


def test_other_recipes_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    require_imaging(VolumeRecipe())
    require_imaging(VolumeRecipe(registration="subject", brain_mask="given"))
    with pytest.raises(UsageError, match="pip install"):
        load_simpleitk("x")
