"""Faces: there in scans that have one, gone where it was cut away, by real scans of both kinds and by phantoms."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from interscan.synthetic.brain.plan import subject_anatomy
from interscan.synthetic.brain.scanner import SCANNERS, acquire, grid_of
from preprocess.errors import ScanError
from preprocess.images import read_image
from preprocess.placing import place
from preprocess.recipe import Quality, VolumeRecipe
from preprocess.types import Image
from tests.support.images import REAL_DATA

DEFACED = VolumeRecipe(quality=Quality(defaced=True))
WITH_FACE = sorted((REAL_DATA / "mri_age").rglob("*.nii*"))
WITHOUT = sorted((REAL_DATA / "mri_longitudinal").rglob("anat/*.nii.gz"))
needs_data = pytest.mark.skipif(not WITHOUT or not WITH_FACE, reason="no real data beside the checkout")


def phantom() -> Image:
    grid = grid_of(SCANNERS[0], 2.0)
    voxels = acquire(subject_anatomy(5, 0), 0.2, SCANNERS[0], grid, np.random.default_rng(5))
    return Image(voxels, grid.affine, "int16")


def test_a_phantoms_face_is_found_and_is_gone_when_it_is_cut_away() -> None:
    image = phantom()
    with pytest.raises(ScanError) as caught:
        place(image, DEFACED, name="sub-1")
    assert caught.value.finding.code == "face_present"
    assert "ml of tissue where its face would be, more than 10; deface it, or" in caught.value.finding.message
    centre_mm = place(image, VolumeRecipe(), name="sub-1").centre_mm
    index = np.stack(np.meshgrid(*map(np.arange, image.voxels_XYZ.shape), indexing="ij"), -1)
    _, anterior, superior = np.moveaxis(index @ image.affine[:3, :3].T + image.affine[:3, 3] - centre_mm, -1, 0)
    # As quickshear: all in front of and below a plane, which leaves the forehead.
    blank = anterior - 1.2 * superior > 105
    cut = replace(image, voxels_XYZ=np.where(blank, 0, image.voxels_XYZ).astype(np.int16))
    assert not any(one.leaves_out for one in place(cut, DEFACED, name="sub-1").findings)


def test_nobody_looks_for_faces_unasked() -> None:
    place(phantom(), VolumeRecipe(), name="sub-1")


@needs_data
@pytest.mark.parametrize("path", WITH_FACE, ids=lambda path: path.name)
def test_real_heads_with_a_face_are_left_out(path: Path) -> None:
    with pytest.raises(ScanError, match="ml of tissue where its face would be"):
        place(read_image(path.read_bytes(), name="x"), DEFACED, name="x")


@needs_data
@pytest.mark.parametrize("path", WITHOUT, ids=lambda path: path.name)
def test_real_heads_that_were_defaced_are_kept(path: Path) -> None:
    place(read_image(path.read_bytes(), name="x"), DEFACED, name="x")
