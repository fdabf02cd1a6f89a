"""How often an artefact answers `improved` or `declined` where nothing changed, and what it answers where much did.

python -m benchmarks.rescans ARTEFACT [--people 60] [--spacing-mm 2] [--out FILE]

Heads of a seed that no cohort has, each scanned on one scanner, again on the same one and on the other one, with new
pose and noise; and once more two years of decline later. Intervals are Wilson's over people.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import binomtest

from app.answers import answer_progression
from app.inputs import PreparedScan
from app.registry import LoadedModel, load_artefact
from benchmarks.running import finish, machine
from interscan.synthetic.brain.plan import subject_anatomy
from interscan.synthetic.brain.scanner import SCANNERS, acquire, grid_of
from preprocess.recipe import VolumeRecipe
from preprocess.transforms import to_volume
from preprocess.types import Image

SEED = 30_000
"""Of the anatomies; no cohort of the tests, the demo or another benchmark has it."""
DECLINE = 11.0 / 30.0
"""Atrophy of two years at the cohort's rate, 11 points of the score."""
WANTED: dict[str, str] = {
    "again, same scanner": "changed in at most 5 %",
    "again, other scanner": "changed in at most 5 %",
    "two years of decline, same scanner": "declined",
    "two years of decline, other scanner": "declined",
}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("artefact")
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--spacing-mm", type=float, default=2.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    before = machine(torch.__version__)
    model = load_artefact(options.artefact)
    decisions: dict[str, Counter[str]] = {name: Counter() for name in WANTED}
    for number in range(options.people):
        for name, decision in answers(model, number, options.spacing_mm).items():
            decisions[name][decision] += 1
    result: dict[str, Any] = {name: dict(found) for name, found in decisions.items()}
    result["machine"] = before | {"load_1_min_after": machine("")["load_1_min"]}
    finish(result, table(decisions), options.out)


def answers(model: LoadedModel, number: int, spacing_mm: float) -> dict[str, str]:
    """The decision for each kind of second scan of one person.

    Args:
        model: what answers.
        number: picks person, scanner and degree of atrophy.
        spacing_mm: voxel edges of the scanners are multiplied by it.
    """
    recipe = model.manifest.inputs.volume_recipe
    home, other = number % 2, 1 - number % 2
    atrophy = float(np.random.default_rng([SEED, number]).uniform(0.05, 0.5))
    scans = {
        name: scan(number, visit, scanner, worn, recipe, spacing_mm)
        for visit, (name, scanner, worn) in enumerate(
            (
                ("first", home, atrophy),
                ("again, same scanner", home, atrophy),
                ("again, other scanner", other, atrophy),
                ("two years of decline, same scanner", home, atrophy + DECLINE),
                ("two years of decline, other scanner", other, atrophy + DECLINE),
            )
        )
    }
    return {name: answer_progression(model, scans["first"], scans[name]).decision for name in WANTED}


def scan(
    number: int, visit: int, scanner: int, atrophy: float, recipe: VolumeRecipe, spacing_mm: float
) -> PreparedScan:
    """One prepared scan, with pose and noise of its own."""
    grid = grid_of(SCANNERS[scanner], spacing_mm)
    draws = np.random.default_rng([SEED, number, visit])
    voxels = acquire(subject_anatomy(SEED, number), atrophy, SCANNERS[scanner], grid, draws)
    volume = to_volume(Image(voxels.astype(np.float32), grid.affine, "int16"), recipe, name="the scan")
    return PreparedScan(volume.voxels_CDHW, f"{number}-{visit}", volume.findings)


def table(decisions: dict[str, Counter[str]]) -> str:
    """One line a kind of second scan."""
    kinds = ("improved", "stable", "declined", "undecided")
    head = f"| second scan | {' | '.join(kinds)} | wanted | changed (95 % interval) |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for name, found in decisions.items():
        num, changed = found.total(), found["improved"] + found["declined"]
        ends = binomtest(changed, num).proportion_ci(method="wilson")
        share = f"{changed / num:.0%} ({ends.low:.0%} to {ends.high:.0%})"
        lines.append(f"| {name} | {' | '.join(str(found[kind]) for kind in kinds)} | {WANTED[name]} | {share} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
