"""Visits to their mean and heads to the template; the truth is a formula that puts each head where it lies."""

import gzip
from functools import cache

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from preprocess.placing import place
from preprocess.preparation.head_copy import HeadCopy, copy_head
from preprocess.preparation.registration import TEMPLATE_FILE, Registered, register_to_template, register_visits
from preprocess.preparation.rigid import farthest_mm, inverse, motion, turn_deg
from preprocess.recipe import VolumeRecipe
from preprocess.types import Image
from tests.support.turned_heads import pose, turned_head

POSES = [pose((3, -2, 5), (4, -3, 2)), pose((-4, 3, -6), (-6, 5, 1)), pose((8, 1, 2), (0, 9, -7))]


def copied(head_to_scanner: np.ndarray, **how: float) -> HeadCopy:
    image = Image(*turned_head(head_to_scanner, **how), "int16")
    return copy_head(place(image, VolumeRecipe(), name="x"))


COPIES = [copied(one, seed=seed) for seed, one in enumerate(POSES)]


@cache
def together(num: int) -> list[Registered]:
    """The first visits registered, once for all tests."""
    return register_visits(COPIES[:num])


@pytest.mark.parametrize("num", [2, 3])
def test_heads_lie_together_within_a_tenth_of_a_millimetre(num: int) -> None:
    found = together(num)
    assert not any(one.trouble for one in found)
    first = found[0].to_common @ POSES[0]
    for one, true in zip(found, POSES, strict=False):
        assert farthest_mm(one.to_common @ true @ inverse(first)) < 0.1


@pytest.mark.parametrize("num", [2, 3])
def test_the_mean_of_all_motions_is_none(num: int) -> None:
    found = together(num)
    mean = Rotation.from_matrix([one.to_common[:3, :3] for one in found]).mean()
    assert np.degrees(mean.magnitude()) < 0.01
    middles_mm = [(one.to_common @ [*copy.centre_mm, 1])[:3] for one, copy in zip(found, COPIES, strict=False)]
    assert np.mean(middles_mm, axis=0) == pytest.approx(np.zeros(3), abs=0.01)


def test_the_middle_of_two_is_half_way_between_them() -> None:
    first, second = together(2)
    between = turn_deg(POSES[0] @ inverse(POSES[1]))
    assert first.turn_deg == pytest.approx(between / 2, abs=0.1)
    assert second.turn_deg == pytest.approx(between / 2, abs=0.1)


def test_the_order_of_visits_changes_no_bit() -> None:
    order = (2, 0, 1)
    found = register_visits([COPIES[number] for number in order])
    for number, one in zip(order, found, strict=True):
        assert np.array_equal(one.to_common, together(3)[number].to_common)
        assert one.agreement == together(3)[number].agreement


def test_nothing_is_scaled() -> None:
    for one in together(3):
        assert np.linalg.svd(one.to_common[:3, :3])[1] == pytest.approx(np.ones(3), abs=1e-9)


def test_another_person_is_taken_out_and_the_others_are_registered_as_without_it() -> None:
    stranger = copied(POSES[2], person=1, seed=2)
    found = register_visits([COPIES[0], stranger, COPIES[1]])
    assert "agrees to" in found[1].trouble
    assert "less than 0.87" in found[1].trouble
    alone = together(2)
    assert np.array_equal(found[0].to_common, alone[0].to_common)
    assert np.array_equal(found[2].to_common, alone[1].to_common)


def test_of_two_that_do_not_agree_neither_is_moved() -> None:
    found = register_visits([COPIES[0], copied(POSES[2], person=1, seed=2)])
    assert all(one.trouble for one in found)


def test_a_head_that_is_half_in_the_picture_is_not_registered() -> None:
    half = HeadCopy(COPIES[1].values_XYZ, COPIES[1].is_seen_XYZ.copy(), COPIES[1].centre_mm)
    half.is_seen_XYZ[30:] = False
    found = register_visits([COPIES[0], half])
    assert "of the head is in the picture, less than 60%" in found[1].trouble


@pytest.fixture(scope="module")
def template() -> Image:
    file = nib.nifti1.Nifti1Image.from_bytes(gzip.decompress(TEMPLATE_FILE.read_bytes()))
    return Image(np.asarray(file.dataobj).astype(np.float32) * 4, np.asarray(file.affine, np.float64), "float32")


def test_the_template_itself_turned_by_its_header_comes_back_within_a_millimetre(template: Image) -> None:
    moved = motion(Rotation.from_euler("xyz", (9, -6, 12), degrees=True).as_matrix(), np.array([7.0, -11.0, 5.0]))
    image = Image(template.voxels_XYZ, moved @ template.affine, "float32")
    straight = register_to_template(copy_head(place(template, VolumeRecipe(), name="x")))
    turned = register_to_template(copy_head(place(image, VolumeRecipe(), name="x")))
    assert not straight.trouble
    assert not turned.trouble
    assert straight.turn_deg < 1
    assert farthest_mm(turned.to_common @ moved @ inverse(straight.to_common)) < 1.5


def test_what_is_no_brain_is_not_laid_on_the_template() -> None:
    noise = np.random.default_rng(0).normal(100, 10, (64, 64, 64)).astype(np.float32)
    copy = HeadCopy(noise, np.ones(noise.shape, dtype=bool), np.zeros(3))
    assert "starts end" in register_to_template(copy).trouble


def test_the_template_comes_with_its_notice_and_is_small() -> None:
    assert "Permission to use, copy, modify, and distribute" in (TEMPLATE_FILE.parent / "LICENSE.txt").read_text()
    assert TEMPLATE_FILE.stat().st_size < 300_000
