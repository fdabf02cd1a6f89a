"""Whether the map of a change lies where phantoms changed: AUC of |map| against the voxels that truly differ, as JSON.

    python -m benchmarks.change_map ARTEFACT --pairs 8

Each pair is one phantom at two degrees of atrophy on one scanner, with new noise and shading; once in one pose and once
put down anew. The truth is painted without noise, in the later scan's pose. Beside the map stand occlusion (blocks of 8
voxels of the later volume replaced by those of the earlier one) and two controls: the plain difference of the volumes,
and the map of another person's pair, which shows what is gained by where such changes lie in everybody.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from app.change_map import in_scan_space, told_shares
from app.engine import Engine
from app.registry import load_artefact
from interscan.synthetic.brain.layers_brain import brain_layers
from interscan.synthetic.brain.layers_head import head_layers
from interscan.synthetic.brain.phantom import Tissue
from interscan.synthetic.brain.plan import subject_anatomy
from interscan.synthetic.brain.render import Grid, paint
from interscan.synthetic.brain.scanner import SCANNERS, Scanner, acquire, grid_of
from interscan.synthetic.pose import draw_pose
from preprocess.recipe import VolumeRecipe
from preprocess.transforms import to_volume
from preprocess.types import Image

SEED = 20_000
"""Of the anatomies; no cohort of the tests or the demo has it."""
SPACING_MM = 2.0
CHANGED = 0.1
"""Difference, relative to white matter, from which on a voxel counts as changed."""
BLOCK = 8


@dataclass(frozen=True)
class PhantomPair:
    """Two scans of one phantom and where it changed.

    Attributes:
        earlier: as scanned.
        later: as scanned.
        changed: (X, Y, Z) on the later scan's voxels.
        head: voxels of the head there.
        points: true change of the score.
    """

    earlier: Image
    later: Image
    changed: npt.NDArray[np.bool_]
    head: npt.NDArray[np.bool_]
    points: float


def phantom_pair(number: int, *, is_moved: bool, spacing_mm: float = SPACING_MM) -> PhantomPair:
    """The pair of one number: always the same.

    Args:
        number: picks person, scanner, degrees of atrophy and noise.
        is_moved: whether the head lies anew at the later scan.
        spacing_mm: voxel edges of the scanner are multiplied by it.
    """
    scanner = SCANNERS[number % len(SCANNERS)]
    grid, anatomy = grid_of(scanner, spacing_mm), subject_anatomy(SEED, number)
    draws = np.random.default_rng([SEED, number])
    start, step = draws.uniform(0.1, 0.5), draws.uniform(0.15, 0.3) * draws.choice([-1, 1])
    atrophy = (start, float(np.clip(start + step, 0, 1)))
    # `acquire` draws the pose first: one seed for both gives one pose. Its noise would be the same too, and cancel.
    pose_seeds = (number, number + (1000 if is_moved else 0))
    scans = [
        Image(_acquired(anatomy, worn, scanner, grid, seed, noise), grid.affine, "int16")
        for worn, seed, noise in zip(atrophy, pose_seeds, (1, 2), strict=True)
    ]
    pose = draw_pose(np.random.default_rng([SEED, pose_seeds[1]]))
    signal = np.array([scanner.signal[tissue] for tissue in Tissue], np.float32)
    before, after = (
        paint([*head_layers(anatomy), *brain_layers(anatomy, worn)], grid, pose, signal) for worn in atrophy
    )
    return PhantomPair(*scans, np.abs(after - before) > CHANGED, after > CHANGED, -30 * (atrophy[1] - atrophy[0]))


class _PoseThenNoise(np.random.Generator):
    """Draws the pose from one seed, and everything after it from another."""

    def __init__(self, pose_seed: int, noise_seed: int) -> None:
        super().__init__(np.random.PCG64(np.random.SeedSequence([SEED, pose_seed])))
        self._later = np.random.default_rng([SEED, pose_seed, noise_seed])
        self._num_drawn = 0

    def normal(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        self._num_drawn += 1
        source = super() if self._num_drawn <= 2 else self._later
        return source.normal(*args, **kwargs)  # type: ignore[arg-type]

    def integers(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        return self._later.integers(*args, **kwargs)  # type: ignore[call-overload]

    def uniform(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        return self._later.uniform(*args, **kwargs)  # type: ignore[arg-type]


def _acquired(
    anatomy: object, atrophy: float, scanner: Scanner, grid: Grid, pose_seed: int, noise_seed: int
) -> npt.NDArray[np.float32]:
    voxels = acquire(anatomy, atrophy, scanner, grid, _PoseThenNoise(pose_seed, noise_seed))  # type: ignore[arg-type]
    return voxels.astype(np.float32)


def auc(values: npt.ArrayLike, is_true: npt.NDArray[np.bool_]) -> float:
    """Chance that a changed voxel has a larger value than an unchanged one (Mann and Whitney 1947)."""
    ranks = rankdata(np.asarray(values))
    num_true = int(is_true.sum())
    num_false = len(ranks) - num_true
    return float((ranks[is_true].sum() - num_true * (num_true + 1) / 2) / (num_true * num_false))


def occluded_shares(
    engine: Engine, earlier_CDHW: np.ndarray, later_CDHW: np.ndarray, direction_E: np.ndarray
) -> np.ndarray:
    """What the told change loses with each block of the later volume replaced by the earlier one, over its voxels."""
    shape = later_CDHW.shape[1:]
    corners = [
        (i, j, k)
        for i in range(0, shape[0], BLOCK)
        for j in range(0, shape[1], BLOCK)
        for k in range(0, shape[2], BLOCK)
        if later_CDHW[0, i : i + BLOCK, j : j + BLOCK, k : k + BLOCK].any()
    ]
    told = float(engine.embed(later_CDHW[None])[0].astype(np.float64) @ direction_E)
    shares_DHW = np.zeros(shape)
    for start in range(0, len(corners), 16):
        batch = corners[start : start + 16]
        volumes_BCDHW = np.repeat(later_CDHW[None], len(batch), axis=0)
        windows = [(..., *(slice(place, place + BLOCK) for place in corner)) for corner in batch]
        for volume_CDHW, window in zip(volumes_BCDHW, windows, strict=True):
            volume_CDHW[window] = earlier_CDHW[window]
        lost_B = told - engine.embed(volumes_BCDHW).astype(np.float64) @ direction_E
        for lost, window in zip(lost_B, windows, strict=True):
            shares_DHW[window] = lost / BLOCK**3
    return shares_DHW


def measure(artefact: str, num_pairs: int, *, with_occlusion: bool) -> dict[str, object]:
    """AUC by pair of the map, of occlusion and of the controls."""
    model = load_artefact(artefact)
    recipe, direction_E = model.manifest.inputs.volume_recipe, model.require_points(artefact)
    rows = []
    for is_moved in (False, True):
        pairs = [phantom_pair(number, is_moved=is_moved) for number in range(num_pairs)]
        prepared = [_prepared(pair, recipe) for pair in pairs]
        begun = time.perf_counter()
        shares = [told_shares(model, *volumes) for volumes, _ in prepared]
        seconds = (time.perf_counter() - begun) / num_pairs
        for number, (pair, ((earlier, later), affine)) in enumerate(zip(pairs, prepared, strict=True)):
            maps = {
                "map": shares[number],
                "difference": (later[0].astype(np.float64) - earlier[0]) / 255,
                "map_of_another": shares[(number + 1) % num_pairs],
            }
            if with_occlusion:
                maps["occlusion"] = occluded_shares(model.engine, earlier, later, direction_E)
            told = float(np.diff(model.engine.embed(np.stack([earlier, later])).astype(np.float64) @ direction_E)[0])
            placed = {name: np.abs(in_scan_space(found, affine, pair.later)) for name, found in maps.items()}
            aucs = {name: auc(found[pair.head], pair.changed[pair.head]) for name, found in placed.items()}
            rows.append(
                {
                    "is_moved": is_moved,
                    "true_points": round(pair.points, 2),
                    "told_points": round(told, 2),
                    "sum_of_map": round(float(shares[number].sum()), 2),
                    "seconds": round(seconds, 2),
                    **{name: round(value, 3) for name, value in aucs.items()},
                }
            )
    return {"artefact": artefact, "pairs": rows, "mean_auc": _means(rows)}


def _means(rows: list[dict[str, object]]) -> dict[str, dict[str, float]]:
    names = [name for name in ("map", "occlusion", "difference", "map_of_another") if name in rows[0]]
    return {
        words: {
            name: round(float(np.mean([row[name] for row in rows if row["is_moved"] is is_moved])), 3)  # type: ignore[arg-type]
            for name in names
        }
        for words, is_moved in (("one_pose", False), ("new_pose", True))
    }


def _prepared(pair: PhantomPair, recipe: VolumeRecipe) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Both volumes, and the later one's affine."""
    earlier, later = (to_volume(scan, recipe, name="phantom") for scan in (pair.earlier, pair.later))
    return (earlier.voxels_CDHW, later.voxels_CDHW), later.affine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artefact")
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--occlusion", action="store_true", help="measure occlusion too, which takes minutes")
    given = parser.parse_args()
    json.dump(measure(given.artefact, given.pairs, with_occlusion=given.occlusion), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
