"""The benchmark of preparation: what it counts, on a cohort small enough to see."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.change import folds_of
from benchmarks.preparation import difference, made, prepared, rescan_shares, ridges, table
from interscan.synthetic.brain.cohort import write_brain_cohort
from preprocess.recipe import VolumeRecipe
from preprocess.store import Store
from trainer.data.cohort import Cohort
from trainer.data.pairs import rescan_pairs
from trainer.fit.context import cohort_of
from trainer.recipe import load_recipe

BASE = load_recipe("change")
RECIPE = VolumeRecipe(grid=(24, 24, 24), spacing_mm=8.0)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Cohort]:
    folder = tmp_path_factory.mktemp("preparation")
    write_brain_cohort(folder / "raw", num_subjects=9, num_visits=2, seed=3, spacing_mm=4.0, workers=0)
    store, seconds = made(str(folder / "raw"), folder / "store", RECIPE)
    assert seconds is not None
    assert made(str(folder / "raw"), Path(folder / "store"), RECIPE)[1] is None
    return store, cohort_of(store, BASE.data, BASE.outcome.name)


def test_nothing_prepared_is_counted_as_nothing(stored: tuple[Store, Cohort]) -> None:
    assert prepared(stored[0]) == {"scans": 21}


def test_a_scan_does_not_differ_from_itself(stored: tuple[Store, Cohort]) -> None:
    assert difference(*stored, 0, 0) == 0
    assert difference(*stored, 0, 1) == difference(*stored, 1, 0) > 0


def test_shares_are_told_by_scanner(stored: tuple[Store, Cohort]) -> None:
    found = rescan_shares(*stored, BASE)
    assert set(found) <= {"same scanner", "other scanner"}
    assert all(one.value is not None and one.value > 0 for one in found.values())
    assert sum(one.num for one in found.values()) == len(rescan_pairs(stored[1], BASE.outcome)) > 0


def test_everybody_is_answered_once_by_a_ridge_of_other_people(stored: tuple[Store, Cohort]) -> None:
    store, cohort = stored
    folds = folds_of(cohort, BASE, 3)
    for answers in ridges(store, cohort, BASE, folds).values():
        people = np.concatenate([np.unique(np.array(turn.cohort.groups)) for turn in answers.turns])
        assert len(people) == len(set(people)) == 9
        assert not any(set(turn.cohort.groups) & turn.training for turn in answers.turns)


def test_the_table_has_a_line_for_each_way() -> None:
    metric = {"value": 0.5, "low": None, "high": None}
    from benchmarks.preparation import WAYS

    result = {name: {"s_per_scan": None, "rescan_share": {"same scanner": metric}} for name in WAYS}
    lines = table(result).splitlines()
    assert len(lines) == 2 + len(WAYS)
    assert lines[2] == "| none |  | 0.50 | none | none | none |"
