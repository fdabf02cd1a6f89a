"""The map of one held-out pair for the report: where the change that was told comes from."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from preprocess.store import Store
from preprocess.transforms import unit_scale
from preprocess.voxel_shares import density_per_cm3, share_of_line, voxel_shares
from trainer.evaluate.turns import Answers
from trainer.fit.trained import Trained

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MappedPair:
    """A pair of held-out scans and its map.

    Attributes:
        later_DHW: brightness of the later scan, 0 to 1, axes RAS+.
        density_DHW: told change in points of the score per cm3, positive where it speaks for improvement.
        told: told change in points, positive where the person got better.
        true: true change in points, likewise.
    """

    later_DHW: Floats
    density_DHW: Floats
    told: float
    true: float


def map_largest_change(trained: Trained, answers: Answers, store: Store) -> MappedPair | None:
    """Map the held-out pair with the largest told change.

    Args:
        trained: the networks, on the CPU.
        answers: its last turn is that of the held-out people.
        store: what the run was trained on.

    Returns:
        None for a head on embeddings, for scans that are no volumes, and for those of several channels.
    """
    modality, turn = trained.run.recipe.data.modality, answers.turns[-1]
    direction_E = trained.change_direction()
    recipe = store.manifest.recipe
    is_volume = recipe.kind_of(modality) == "volume" and store.layout(modality).shape[0] == 1
    if direction_E is None or turn.improvements_P is None or not is_volume:
        return None
    chosen = int(np.abs(turn.improvements_P).argmax())
    scale = np.float32(unit_scale(recipe.dtype_of(modality)))
    earlier, later = (
        torch.from_numpy(store.read(int(turn.cohort.rows_N[index]), modality)[None].astype(np.float32) * scale)
        for index in (turn.pairs.earlier_P[chosen], turn.pairs.later_P[chosen])
    )
    weights_E = direction_E.astype(np.float64)
    shares_DHW = voxel_shares(lambda part: share_of_line(trained.encoder, earlier, later, part, weights_E))
    sign = 1.0 if answers.higher_is_better else -1.0
    return MappedPair(
        later_DHW=later[0, 0].double().numpy(),
        density_DHW=density_per_cm3(shares_DHW, np.full(3, recipe.spacing_mm)),
        told=float(turn.improvements_P[chosen]),
        true=sign * float(turn.pairs.delta_P[chosen]),
    )
