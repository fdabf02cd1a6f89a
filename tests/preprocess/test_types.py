"""The nouns: names as messages call them, and spacing as nibabel computes it."""

import nibabel as nib
import numpy as np
import pytest

from preprocess.types import PROGRESSIONS, Image, Scan


def test_the_order_of_the_classes_is_fixed() -> None:
    assert PROGRESSIONS == ("improved", "stable", "declined")


def test_a_scan_is_called_by_what_it_has() -> None:
    whole = Scan("sub-01", "ses-02", "T1w", "/x", run="run-1")
    assert whole.name == "sub-01_ses-02_run-1_T1w"
    assert whole.visit == ("sub-01", "ses-02", "run-1")
    assert Scan("sub-01", "", "T1w", "/x").name == "sub-01_T1w"


@pytest.mark.parametrize("angles", [(0, 0, 0), (0.3, -0.2, 1.0)])
def test_spacing_is_the_length_of_the_voxels_edges(angles: tuple[float, float, float]) -> None:
    matrix = nib.eulerangles.euler2mat(*angles) @ np.diag([-0.9, 1.1, 3.0])
    affine = nib.affines.from_matvec(matrix, [1, 2, 3])
    image = Image(np.zeros((2, 2, 2), np.float32), affine, "int16")
    np.testing.assert_allclose(image.spacing_mm, nib.affines.voxel_sizes(affine))
    assert all(isinstance(edge, float) for edge in image.spacing_mm)
