"""How much of each coarse block of a head is CSF and how much white matter: what the tissue ridge looks at."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from preprocess.console import LOG
from preprocess.machine import num_cores
from preprocess.store import Store
from preprocess.tissue import STORED_MEANS, contrast_findings, fit_tissue, to_tissue_brightness
from preprocess.transforms import unit_scale

Floats = npt.NDArray[np.float64]
_MOST_UNFITTED = 0.1
"""Share of scans without three tissues from which on the modality is taken for one that does not show them."""


def tissue_maps(store: Store, modality: str, rows_N: Sequence[int], grid: int) -> Floats | None:
    """Shares of CSF and white matter by block, (N, 2 * grid^3).

    A scan without three tissues has the mean of all others, so that it shows no change of its own.

    Args:
        store: where the volumes are.
        modality: array of heads with one channel.
        rows_N: which.
        grid: blocks along each axis; divides the edges of the volume.

    Returns:
        None where the rows are no volumes of one channel that the grid divides, or too few show three tissues.
    """
    shape = store.layout(modality).shape
    if store.manifest.recipe.kind_of(modality) != "volume" or shape[0] != 1 or any(edge % grid for edge in shape[1:]):
        return None
    with ThreadPoolExecutor(num_cores()) as pool:
        found = list(pool.map(lambda row: _maps(store, modality, int(row), grid), rows_N))
    fitted = [maps for maps in found if maps is not None]
    if len(fitted) < (1 - _MOST_UNFITTED) * len(found) or not fitted:
        LOG.warning(
            "%d of %d scans of %s do not show three tissues, so there is no ridge on tissue beside the metrics",
            len(found) - len(fitted), len(found), modality,
        )  # fmt: skip
        return None
    mean = np.mean(fitted, axis=0)
    return np.stack([mean if maps is None else maps for maps in found])


def _maps(store: Store, modality: str, row: int, grid: int) -> Floats | None:
    recipe = store.manifest.recipe
    unit_DHW = store.read(row, modality)[0].astype(np.float32) * np.float32(unit_scale(recipe.dtype_of(modality)))
    if recipe.intensity != "tissue":
        fit = fit_tissue(unit_DHW, recipe.spacing_mm)
        if fit is None or contrast_findings(fit, name=""):
            return None
        unit_DHW = to_tissue_brightness(unit_DHW, fit, recipe.spacing_mm)
    csf, grey, white = STORED_MEANS
    # From black to CSF the share rises, so that air is none; from CSF to grey matter it falls.
    csf_DHW = np.interp(unit_DHW, (0.0, csf, grey), (0.0, 1.0, 0.0))
    white_DHW = np.interp(unit_DHW, (grey, white), (0.0, 1.0))
    return np.concatenate([_blocks(csf_DHW, grid), _blocks(white_DHW, grid)])


def _blocks(values_DHW: Floats, grid: int) -> Floats:
    depth, height, width = (edge // grid for edge in values_DHW.shape)
    means: Floats = values_DHW.reshape(grid, depth, grid, height, grid, width).mean(axis=(1, 3, 5))
    return means.ravel()
