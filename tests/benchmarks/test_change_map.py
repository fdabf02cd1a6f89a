"""The benchmark of the map knows which voxels changed, and measures as a library does."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from app.registry import load_artefact
from benchmarks.change_map import BLOCK, auc, occluded_shares, phantom_pair
from tests.support.artefacts import RECIPE, decision_part, write_artefact


def test_the_area_is_that_of_scikit_learn_ties_included() -> None:
    draws = np.random.default_rng(0)
    values, is_true = draws.integers(0, 9, 400).astype(float), draws.random(400) < 0.2
    assert auc(values, is_true) == pytest.approx(roc_auc_score(is_true, values))


def test_in_one_pose_the_scans_differ_more_where_the_phantom_changed_and_their_noise_is_not_the_same() -> None:
    pair = phantom_pair(0, is_moved=False, spacing_mm=4.0)
    difference = np.abs(pair.later.voxels_XYZ - pair.earlier.voxels_XYZ)
    assert 0.001 < pair.changed.sum() / pair.head.sum() < 0.1
    assert auc(difference[pair.head], pair.changed[pair.head]) > 0.85
    air = difference[:4, :4, :4]
    assert (air > 0).mean() > 0.5


def test_a_moved_head_differs_in_more_places_than_changed() -> None:
    kept, moved = (phantom_pair(0, is_moved=is_moved, spacing_mm=4.0) for is_moved in (False, True))
    assert kept.points == moved.points
    np.testing.assert_array_equal(kept.earlier.voxels_XYZ, moved.earlier.voxels_XYZ)
    sizes = [np.abs(pair.later.voxels_XYZ - pair.earlier.voxels_XYZ)[pair.head].mean() for pair in (kept, moved)]
    assert sizes[1] > 1.5 * sizes[0]


def test_occlusion_of_a_linear_model_gives_each_block_its_own_part(tmp_path) -> None:
    model = load_artefact(str(write_artefact(tmp_path / "model", decision=decision_part())))
    direction_E = model.require_points("model")
    draws = np.random.default_rng(1)
    earlier, later = draws.integers(0, 256, (2, 1, *RECIPE.grid), dtype=np.uint8)
    shares = occluded_shares(model.engine, earlier, later, direction_E)
    # The tiny model embeds the mean of each octant, and a block is one.
    octants = (later[0].astype(float) - earlier[0]).reshape(2, BLOCK, 2, BLOCK, 2, BLOCK).mean(axis=(1, 3, 5)) / 255
    by_hand = octants.reshape(-1) * direction_E
    found = shares.reshape(2, BLOCK, 2, BLOCK, 2, BLOCK).sum(axis=(1, 3, 5)).reshape(-1)
    np.testing.assert_allclose(found, by_hand, atol=1e-4)
