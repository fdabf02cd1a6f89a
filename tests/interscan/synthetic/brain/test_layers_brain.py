"""The brain's tissues measured from noise-free fractions: what atrophy moves, by how much, and what it leaves alone."""

import numpy as np
import pytest

from interscan.synthetic.brain.layers_brain import brain_layers
from interscan.synthetic.brain.layers_head import head_layers
from interscan.synthetic.brain.phantom import Anatomy, Tissue, draw_anatomy, true_ventricle_mm3
from interscan.synthetic.brain.render import Grid, paint
from interscan.synthetic.pose import STRAIGHT, Pose, draw_pose


def _volume_mm3(anatomy: Anatomy, atrophy: float, tissue: Tissue, spacing_mm: float, pose: Pose = STRAIGHT) -> float:
    shape = tuple(round(extent / spacing_mm) for extent in (160, 200, 150))
    grid = Grid(shape, (spacing_mm,) * 3, (-79.5, -117.5, -59.5))  # type: ignore[arg-type]
    colours = np.zeros(len(Tissue), np.float32)
    colours[tissue] = 1
    layers = [*head_layers(anatomy), *brain_layers(anatomy, atrophy)]
    return float(paint(layers, grid, pose, colours).sum(dtype=np.float64) * spacing_mm**3)


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return draw_anatomy(np.random.default_rng(7))


@pytest.mark.parametrize("atrophy", [0.0, 0.5, 1.0])
def test_painted_ventricles_have_the_true_volume(anatomy: Anatomy, atrophy: float) -> None:
    painted = _volume_mm3(anatomy, atrophy, Tissue.VENTRICLE, 1.5)
    assert painted == pytest.approx(true_ventricle_mm3(anatomy, atrophy), rel=0.02)


def test_a_growth_of_three_percent_is_seen_under_a_new_pose_at_one_millimetre(anatomy: Anatomy) -> None:
    before = true_ventricle_mm3(anatomy, 0.50)
    step = next(a for a in np.arange(0.5, 0.7, 0.002) if true_ventricle_mm3(anatomy, float(a)) > 1.03 * before)
    moved = draw_pose(np.random.default_rng(4))
    first = _volume_mm3(anatomy, 0.50, Tissue.VENTRICLE, 1.0)
    second = _volume_mm3(anatomy, float(step), Tissue.VENTRICLE, 1.0, moved)
    assert second / first == pytest.approx(true_ventricle_mm3(anatomy, float(step)) / before, abs=0.01)


def test_cortex_and_hippocampi_shrink_and_fluid_fills_the_gap(anatomy: Anatomy) -> None:
    for tissue, sign in ((Tissue.CORTEX, -1), (Tissue.HIPPOCAMPUS, -1), (Tissue.CSF, 1)):
        volumes = [_volume_mm3(anatomy, atrophy, tissue, 2.0) for atrophy in (0.0, 0.5, 1.0)]
        assert (np.sign(np.diff(volumes)) == sign).all(), (tissue.name, volumes)


def test_full_atrophy_takes_about_half_of_the_hippocampi(anatomy: Anatomy) -> None:
    ratio = _volume_mm3(anatomy, 1.0, Tissue.HIPPOCAMPUS, 1.0) / _volume_mm3(anatomy, 0.0, Tissue.HIPPOCAMPUS, 1.0)
    assert 0.4 < ratio < 0.75


def test_the_head_around_the_brain_does_not_follow_atrophy(anatomy: Anatomy) -> None:
    for tissue in (Tissue.BONE, Tissue.MARROW):
        young, worn = (_volume_mm3(anatomy, atrophy, tissue, 1.5) for atrophy in (0.0, 1.0))
        assert worn == pytest.approx(young, rel=1e-3)


def test_tissue_volumes_lie_in_the_adult_range(anatomy: Anatomy) -> None:
    """Grey 400 to 900 ml, white 300 to 800 ml, both hippocampi 3 to 10 ml: wide bounds of published adult volumes."""
    litres = {t: _volume_mm3(anatomy, 0.1, t, 2.0) / 1e6 for t in (Tissue.CORTEX, Tissue.WHITE, Tissue.HIPPOCAMPUS)}
    assert 0.4 < litres[Tissue.CORTEX] < 0.9
    assert 0.3 < litres[Tissue.WHITE] < 0.8
    assert 0.003 < litres[Tissue.HIPPOCAMPUS] < 0.010


def test_fractions_of_all_tissues_add_up_to_one(anatomy: Anatomy) -> None:
    grid = Grid((30, 40, 35), (5.0, 5.0, 5.0), (-75.0, -110.0, -85.0))
    layers = [*head_layers(anatomy), *brain_layers(anatomy, 0.4)]
    total = sum(paint(layers, grid, STRAIGHT, row) for row in np.eye(len(Tissue), dtype=np.float32))
    np.testing.assert_allclose(total, 1, atol=1e-4)
