"""The person: the true ventricle volume, its growth, and fields of unit variance."""

import dataclasses

import numpy as np
import pytest

from interscan.synthetic.brain.phantom import Tissue, draw_anatomy, lateral_ventricles, template, true_ventricle_mm3


def test_ventricles_grow_with_every_step_of_atrophy_and_stay_in_the_human_range() -> None:
    for seed in range(5):
        volumes = [true_ventricle_mm3(draw_anatomy(np.random.default_rng(seed)), a) for a in np.linspace(0, 1, 6)]
        assert (np.diff(volumes) > 0).all()
        assert 5_000 < volumes[0] < 45_000
        assert volumes[-1] < 110_000


def test_the_true_volume_is_that_of_counted_random_points() -> None:
    anatomy = draw_anatomy(np.random.default_rng(3))
    rng = np.random.default_rng(0)
    low, high = np.array([[-58.0], [-90.0], [-36.0]]), np.array([[58.0], [52.0], [44.0]])
    points = rng.uniform(low, high, (3, 400_000)).astype(np.float32)
    inside = lateral_ventricles(template(anatomy, points), anatomy.ventricle_mm + 4.0 * 0.5) < 0
    counted = inside.mean() * float(np.prod(high - low))
    assert true_ventricle_mm3(anatomy, 0.5) == pytest.approx(counted, rel=0.02)


def test_a_larger_head_has_ventricles_larger_by_its_volume() -> None:
    anatomy = draw_anatomy(np.random.default_rng(1))
    flat = dataclasses.replace(anatomy.bend[0], wavevectors_W3=anatomy.bend[0].wavevectors_W3 * 0)
    small = dataclasses.replace(anatomy, scale=(1.0, 1.0, 1.0), bend=(flat, flat, flat))
    large = dataclasses.replace(small, scale=(1.05, 1.05, 1.05))
    ratio = true_ventricle_mm3(large, 0.4) / true_ventricle_mm3(small, 0.4)
    assert ratio == pytest.approx(1.05**3, rel=0.02)


def test_ventricles_stay_apart_at_the_midline() -> None:
    points = np.zeros((3, 100), np.float32)
    points[1] = np.linspace(-60, 40, 100)
    points[2] = 12
    assert (lateral_ventricles(points, 3.0) > 0).all()


def test_tissue_numbers_index_a_palette_without_gaps() -> None:
    assert [int(tissue) for tissue in Tissue] == list(range(len(Tissue)))
