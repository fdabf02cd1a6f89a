"""Brain masks: what is taken, what is refused, and which voxels go black."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from preprocess.errors import ScanError
from preprocess.images import read_image
from preprocess.preparation.brain_mask import read_mask
from preprocess.types import Image
from tests.support.heads import nifti
from tests.support.images import REAL_DATA
from tests.support.turned_heads import BRAIN_MM, pose, turned_head

VOXELS, AFFINE = turned_head(pose())
SCAN = Image(VOXELS, AFFINE, "int16")


def ball(
    affine: np.ndarray, edge: int, middle_mm: tuple[float, float, float] = (0, 0, 0), share: float = 1.0
) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(edge)] * 3, indexing="ij"), -1)
    away = (nib.affines.apply_affine(affine, index) - np.array(middle_mm)) / (np.array(BRAIN_MM) * share)
    return np.asarray((away**2).sum(-1) <= 1)


def code_of(data: bytes) -> tuple[str, str]:
    with pytest.raises(ScanError) as caught:
        read_mask(data, SCAN, np.zeros(3), name="sub-1")
    return caught.value.finding.code, caught.value.finding.message


def test_a_mask_tells_its_volume_and_what_is_outside_goes_black() -> None:
    mask = read_mask(nifti(ball(AFFINE, 64).astype(np.uint8), AFFINE), SCAN, np.zeros(3), name="x")
    assert mask.volume_ml == pytest.approx(4 / 3 * np.pi * np.prod(BRAIN_MM) / 1000, rel=0.01)
    black = mask.outside_black(SCAN, 3.7)
    inside = ball(AFFINE, 64)
    assert np.array_equal(black[inside], VOXELS[inside])
    assert (black[~inside] == 3).all()


def test_a_mask_on_another_grid_lies_where_its_header_puts_it() -> None:
    finer = np.diag([-2.0, 2.0, 2.0, 1.0])  # stored from right to left
    finer[:3, 3] = (99, -100, -98)
    mask = read_mask(nifti(ball(finer, 100).astype(np.uint8), finer), SCAN, np.zeros(3), name="x")
    found = mask.outside_black(SCAN, 0) > 0
    expected = ball(AFFINE, 64) & (VOXELS > 0)
    overlap = 2 * (found & expected).sum() / (found.sum() + expected.sum())
    assert overlap > 0.97


def test_probabilities_count_from_one_half() -> None:
    soft = np.where(ball(AFFINE, 64), 0.6, 0.4).astype(np.float32)
    plain = read_mask(nifti(ball(AFFINE, 64).astype(np.uint8), AFFINE), SCAN, np.zeros(3), name="x")
    assert read_mask(nifti(soft, AFFINE), SCAN, np.zeros(3), name="x").volume_ml == plain.volume_ml


def test_no_mask_is_a_finding_that_says_what_to_add() -> None:
    assert code_of(b"") == (
        "mask_missing", "sub-1: no brain mask is given for it; add it to --masks, or leave the scan out",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"no image", "the mask of sub-1: "),
        (gzip.compress(b"\0" * 400, mtime=0), "the mask of sub-1: "),
        (nifti(np.zeros((64, 64, 64), np.uint8), AFFINE), "holds 0 ml, expected 300 to 2500 of a brain"),
        (nifti(np.ones((64, 64, 64), np.uint8), AFFINE), "holds 16777 ml"),
        (nifti(np.ones((64, 64, 64, 2), np.uint8), AFFINE), "has 4 axes, expected 3"),
    ],
    ids=["text", "zeros", "empty", "full", "two volumes"],
)
def test_what_is_no_mask_of_a_brain_is_named(data: bytes, says: str) -> None:
    code, message = code_of(data)
    assert code == "mask_unusable"
    assert says in message


def test_a_mask_in_another_space_is_named() -> None:
    moved = AFFINE.copy()
    moved[:3, 3] += (0, 60, 0)
    code, message = code_of(nifti(ball(AFFINE, 64, share=0.8).astype(np.uint8), moved))
    assert code == "mask_elsewhere"
    assert "lies 60 mm from that of the head, more than 40; give the mask in the scan's own space" in message
    moved[:3, 3] += (0, 200, 0)
    code, message = code_of(nifti(ball(AFFINE, 64).astype(np.uint8), moved))
    assert code == "mask_elsewhere"
    assert "of its brain mask lies within the scan, less than 90%" in message


@pytest.mark.skipif(not (REAL_DATA / "mni").is_dir(), reason="no real data beside the checkout")
def test_a_big_endian_mask_of_fsl_fits_its_head() -> None:
    folder = REAL_DATA / "mni"
    image = read_image((folder / "mni152_t1_2mm_LAS.nii.gz").read_bytes(), name="x")
    data = (folder / "mni152_brain_mask_2mm_bigendian.nii.gz").read_bytes()
    mask = read_mask(data, image, np.array([0.0, -18.0, 12.0]), name="x")
    true = nib.Nifti1Image.from_bytes(gzip.decompress(data))
    assert mask.volume_ml == pytest.approx(np.count_nonzero(np.asarray(true.dataobj)) * 8 / 1000)
