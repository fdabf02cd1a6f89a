"""Every kind of second scan is answered, scans differ between visits, and the table counts what was decided."""

from collections import Counter
from pathlib import Path

import numpy as np

from app.registry import load_artefact
from benchmarks.rescans import WANTED, answers, scan, table
from preprocess.recipe import VolumeRecipe
from tests.support.artefacts import decision_part, write_artefact


def test_each_kind_of_second_scan_is_answered(tmp_path: Path) -> None:
    model = load_artefact(str(write_artefact(tmp_path / "model", decision=decision_part())))

    found = answers(model, 0, spacing_mm=6.0)

    assert found.keys() == WANTED.keys()
    assert set(found.values()) <= {"improved", "stable", "declined", "undecided"}


def test_a_second_scan_has_a_pose_and_noise_of_its_own() -> None:
    recipe = VolumeRecipe(grid=(24, 24, 24), spacing_mm=8.0)
    first, again, same = (scan(0, visit, 0, 0.2, recipe, 6.0) for visit in (0, 1, 0))

    assert not np.array_equal(first.voxels_CDHW, again.voxels_CDHW)
    assert np.array_equal(first.voxels_CDHW, same.voxels_CDHW)


def test_the_table_counts_changes() -> None:
    text = table({"again, same scanner": Counter(stable=57, declined=3)})

    assert "| again, same scanner | 0 | 57 | 3 | 0 | changed in at most 5 % | 5% (2% to 14%) |" in text
