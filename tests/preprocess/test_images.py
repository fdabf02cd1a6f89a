"""One reader for volumes: a NIfTI file, a zip of a series and an enhanced object give the same image."""

import numpy as np
import pytest

from preprocess.dicom_zip import pack
from preprocess.errors import ScanError
from preprocess.images import read_image
from preprocess.volumes import prepare_volume
from tests.support.images import RECIPE, head, nifti
from tests.support.series import enhanced, file_of, files_of, slices


def test_a_head_as_nifti_and_as_dicom_becomes_the_same_volume() -> None:
    affine = np.diag([-4.0, -4.0, 4.0, 1.0])
    affine[:3, 3] = [94, 94, -94]
    plain = prepare_volume(nifti(head(), affine), RECIPE, name="x")
    zipped = prepare_volume(pack(files_of(slices())), RECIPE, name="x")
    assert zipped.values is not None
    assert plain.values is not None
    np.testing.assert_array_equal(zipped.values, plain.values)
    np.testing.assert_allclose(zipped.affine, plain.affine, atol=1e-3)
    assert zipped.spacing_mm == pytest.approx((4.0, 4.0, 4.0))


def test_an_enhanced_object_is_a_whole_scan_and_a_slice_is_none() -> None:
    assert read_image(file_of(enhanced()), name="x").voxels_XYZ.shape == (48, 48, 48)
    with pytest.raises(ScanError, match="one slice of a series; give the folder or a zip of the series") as caught:
        read_image(file_of(slices()[0]), name="x")
    assert caught.value.finding.code == "too_few_slices"
    assert "kinds" not in str(caught.value)


def test_limits_hold_for_archives_too() -> None:
    with pytest.raises(ScanError) as caught:
        read_image(pack(files_of(slices())), name="x", max_voxels=48 * 48 * 47)
    assert caught.value.finding.code == "too_large"
