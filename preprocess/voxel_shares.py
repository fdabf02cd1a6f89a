"""How much each voxel adds to a told change between two volumes; the service and the evaluation's report map by it.

Integrated gradients (Sundararajan, Taly and Yan 2017) along the straight line from the earlier to the later volume:

    share(v) = (later(v) - earlier(v)) * mean over the line of d told / d voxel(v)

The shares of all voxels sum to the told change. On phantoms whose changed voxels are known this places change as well
as replacing blocks of the later scan by the earlier one does, in a twentieth of the time (docs/change_map.md).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter

Floats = npt.NDArray[np.float64]
Embed = Callable[[torch.Tensor], torch.Tensor]

NUM_STEPS = 8
"""Points of the line, in the middle of equal parts; on phantoms the shares then sum to the told change within 0.02."""
SMOOTH_MM = 4.0
"""Standard deviation: heads are not turned alike in both scans, so that single voxels show edges that moved."""


def share_of_line(
    embed: Embed, earlier_1CDHW: torch.Tensor, later_1CDHW: torch.Tensor, part: float, direction_E: Floats
) -> Floats:
    """Difference of two volumes times the gradient of `direction . embedding` at one point between them.

    Args:
        embed: from float32 volumes in [0, 1] to embeddings (1, E), differentiable.
        earlier_1CDHW: a batch of one.
        later_1CDHW: the same shape.
        part: where on the line, 0 at the earlier volume and 1 at the later one.
        direction_E: weights of the embedding.

    Returns:
        float64, shape (C, D, H, W).
    """
    difference = later_1CDHW - earlier_1CDHW
    between = (earlier_1CDHW + part * difference).requires_grad_()
    with torch.enable_grad():
        answer = embed(between).double() @ torch.from_numpy(direction_E)
        (gradient,) = torch.autograd.grad(answer.sum(), between)
    shares: Floats = (difference.double() * gradient.double())[0].numpy()
    return shares


def voxel_shares(share_at: Callable[[float], Floats]) -> Floats:
    """Share of each voxel in the told change, in points of the score, shape (D, H, W).

    Args:
        share_at: from a point of the line to `share_of_line` there, (C, D, H, W).
    """
    at_steps = (share_at((number + 0.5) / NUM_STEPS) for number in range(NUM_STEPS))
    mean_CDHW = np.mean(list(at_steps), axis=0)
    return np.asarray(mean_CDHW.sum(axis=0), dtype=np.float64)


def density_per_cm3(shares_DHW: Floats, edges_mm: npt.ArrayLike) -> Floats:
    """Shares smoothed and told in points of the score per cm3.

    Args:
        shares_DHW: from `voxel_shares`.
        edges_mm: edges of a voxel.
    """
    edges = np.asarray(edges_mm, dtype=np.float64)
    smooth_DHW: Floats = gaussian_filter(shares_DHW, SMOOTH_MM / edges, mode="constant")
    return smooth_DHW / (float(np.prod(edges)) / 1000)
