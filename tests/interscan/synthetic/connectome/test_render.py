"""What is drawn of a person: the number a modality shows changes its system and nothing else."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from interscan.synthetic.connectome.render import (
    CLINICAL_COLUMNS,
    FEATURES,
    LOOK,
    MACHINES,
    PAIRS,
    REGIONS,
    Population,
    draw_features,
    draw_function,
    draw_head,
    draw_population,
    draw_scores,
    draw_structure,
)


@pytest.fixture(scope="module")
def people() -> Population:
    return draw_population(np.random.default_rng(3))


def _rng() -> np.random.Generator:
    return np.random.default_rng(11)


def _voxels(content: bytes) -> np.ndarray:
    return np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(content)).dataobj).astype(float)


def test_regions_lie_in_mirrored_pairs_apart_from_each_other_and_systems_share_none(people: Population) -> None:
    left_P3, right_P3 = people.positions_R3[:PAIRS], people.positions_R3[PAIRS:-1]
    np.testing.assert_array_equal(left_P3 * (-1, 1, 1), right_P3)
    assert right_P3[:, 0].min() > 0
    gaps = np.linalg.norm(people.positions_R3[:, None] - people.positions_R3, axis=2)[np.triu_indices(REGIONS, 1)]
    assert gaps.min() > 8
    members = np.concatenate(people.systems)
    assert len(set(members)) == len(members) == 54
    for system in people.systems:
        assert set(system[system < PAIRS] + PAIRS) == set(system[system >= PAIRS])
    front, deep, behind = (people.positions_R3[system] for system in people.systems)
    assert front[:, 1].min() > deep[:, 1].max() > deep[:, 1].min() > behind[:, 1].max()
    assert REGIONS - 1 not in members


def test_near_regions_are_connected_more_often_and_more_strongly(people: Population) -> None:
    distance_RR = np.linalg.norm(people.positions_R3[:, None] - people.positions_R3, axis=2)
    upper = np.triu_indices(REGIONS, 1)
    matrix_RR = draw_structure(people, 0.0, MACHINES[0], _rng())
    weights, distances = matrix_RR[upper], distance_RR[upper]
    near, far = distances < 40, distances > 80
    assert (weights[near] > 0).mean() > 2 * (weights[far] > 0).mean()
    assert weights[near & (weights > 0)].mean() > 1.5 * weights[far & (weights > 0)].mean()


def test_part_a_scales_the_structure_within_its_system_and_no_other_edge(people: Population) -> None:
    low_RR, high_RR = (draw_structure(people, shown, MACHINES[0], _rng()) for shown in (-1.0, 1.0))
    in_a = np.isin(np.arange(REGIONS), people.systems[0])
    inside = np.outer(in_a, in_a)
    np.testing.assert_array_equal(low_RR[~inside], high_RR[~inside])
    edges = inside & (low_RR > 0)
    assert edges.sum() > 60
    np.testing.assert_allclose(high_RR[edges] / low_RR[edges], np.exp(2 * LOOK.sc_effect), rtol=1e-5)


@pytest.mark.parametrize(("part", "system"), [("a", 0), ("c", 2)])
def test_parts_a_and_c_raise_the_correlations_of_their_own_system(people: Population, part: str, system: int) -> None:
    low_RR, high_RR = (
        draw_function(people, *((shown, 0.0) if part == "a" else (0.0, shown)), MACHINES[0], _rng())
        for shown in (-1.0, 1.0)
    )
    change_RR = high_RR - low_RR
    for other, members in enumerate(people.systems):
        block = change_RR[np.ix_(members, members)][np.triu_indices(len(members), 1)]
        if other == system:
            assert block.mean() > 0.1
        else:
            np.testing.assert_allclose(block, 0, atol=1e-6)


def test_a_functional_matrix_has_the_rank_and_the_noise_of_its_model(people: Population) -> None:
    values = np.linalg.eigvalsh(draw_function(people, 0.0, 0.0, MACHINES[0], _rng()).astype(np.float64))
    assert values.min() > -1e-4
    # Marchenko and Pastur 1967: noise alone ends at (1 + sqrt(R / T))^2 = 2.75; few of nine signals may drown in it.
    edge = (1 + np.sqrt(REGIONS / LOOK.frames)) ** 2
    assert 3 <= (values > edge).sum() <= 9


def test_part_b_shifts_the_first_ten_features_of_its_system_in_their_own_unit(people: Population) -> None:
    low_RF, high_RF = (draw_features(people, shown, MACHINES[1], _rng()) / people.units_F for shown in (-1.0, 1.0))
    shift_RF = high_RF - low_RF
    touched = np.zeros((REGIONS, FEATURES), bool)
    touched[people.systems[1], :10] = True
    np.testing.assert_array_equal(shift_RF[~touched], 0)
    # 2 units of the noise, times the gain of the person, whose log has an sd of 0.1.
    assert np.ptp(shift_RF[touched]) < 1e-3
    assert np.log(shift_RF[touched].mean() / (2 * LOOK.feature_effect)) == pytest.approx(0, abs=0.4)


def test_part_b_brightens_the_deep_regions_of_the_head_and_leaves_the_rest(people: Population) -> None:
    low, high = (_voxels(draw_head(people, shown, MACHINES[0], _rng())) for shown in (-1.0, 1.0))
    grid_3XYZ = np.stack(np.meshgrid(*[(np.arange(n) - (n - 1) / 2) * 4.0 for n in low.shape], indexing="ij"))
    to_b = np.min(
        [np.linalg.norm(grid_3XYZ - at[:, None, None, None], axis=0) for at in people.positions_R3[people.systems[1]]],
        axis=0,
    )
    np.testing.assert_array_equal(low[to_b > 50], high[to_b > 50])
    assert (high - low)[to_b < 4].mean() > 10 * np.abs(high - low)[to_b > 25].mean() > 0


def test_part_c_lowers_the_three_scores_and_no_other_number() -> None:
    low, high = (np.array(draw_scores(shown, _rng())) for shown in (-1.0, 1.0))
    assert len(low) == len(CLINICAL_COLUMNS) == 8
    np.testing.assert_array_equal(low[:5], high[:5])
    np.testing.assert_allclose(low[5:] - high[5:], 2 * 10 * LOOK.score_effect, atol=1.01)


def test_machines_differ_in_gain_and_say_nothing_of_the_parts(people: Population) -> None:
    first, second = (draw_structure(people, 0.5, machine, _rng()) for machine in MACHINES)
    ratio = first[first > 0] / second[first > 0]
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-5)
    assert ratio[0] > 1
    bright, dark = (np.median(_voxels(draw_head(people, 0.5, machine, _rng()))[24]) for machine in MACHINES)
    assert bright > 1.5 * dark
