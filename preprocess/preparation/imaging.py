"""SimpleITK, of the extra `imaging`: found when it is needed, on one thread, with coordinates in RAS+ millimetres.

ITK counts millimetres from right to left and front to back. Its arithmetic does not depend on what the axes are called,
so images are handed over with identity directions and RAS+ origins, and what comes back is RAS+ too.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from preprocess.errors import UsageError
from preprocess.recipe import VolumeRecipe
from preprocess.types import Affine


def load_simpleitk(what: str) -> Any:
    """The module.

    Args:
        what: setting that needs it, as messages say it.

    Raises:
        UsageError: it is not installed; the message says what to install.
    """
    try:
        import SimpleITK
    except ModuleNotFoundError as error:
        remedy = "pip install 'interscan[imaging]', or take it out of the recipe"
        raise UsageError(f"{what} needs SimpleITK, of the extra 'imaging'; {remedy}") from error
    return SimpleITK


def require_imaging(recipe: VolumeRecipe) -> None:
    """Refuse a recipe whose steps this machine cannot do, before any work.

    Raises:
        UsageError: SimpleITK is needed and not installed.
    """
    if recipe.bias_field != "none":
        load_simpleitk(f'bias_field = "{recipe.bias_field}"')
    if recipe.registration == "template":
        load_simpleitk('registration = "template"')


def to_itk(sitk: Any, values_XYZ: npt.NDArray[Any], affine: Affine) -> Any:
    """Values on a grid as an image of ITK.

    Args:
        sitk: the module.
        values_XYZ: 3D.
        affine: from the grid to mm; diagonal.
    """
    image = sitk.GetImageFromArray(np.ascontiguousarray(values_XYZ.T))
    image.SetSpacing([float(edge) for edge in np.diag(affine)[:3]])
    image.SetOrigin([float(edge) for edge in affine[:3, 3]])
    return image


def from_itk(sitk: Any, image: Any) -> npt.NDArray[Any]:
    """The inverse of `to_itk`, values only."""
    values_XYZ: npt.NDArray[Any] = np.ascontiguousarray(sitk.GetArrayFromImage(image).T)
    return values_XYZ
