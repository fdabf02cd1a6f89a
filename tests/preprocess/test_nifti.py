"""Volumes as files, read back by nibabel."""

import gzip
import io

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from preprocess.nifti import to_nifti

VALUES = np.random.default_rng(0).normal(size=(6, 5, 4)).astype(np.float32)


def test_the_file_has_shape_values_and_affine_and_the_same_bytes_again() -> None:
    affine = np.diag([2.0, 3.0, 4.0, 1.0])
    data = to_nifti(VALUES, affine, says="grey")
    assert data == to_nifti(VALUES, affine, says="grey")
    read = nib.Nifti1Image.from_bytes(gzip.decompress(data))
    np.testing.assert_array_equal(np.asarray(read.dataobj), VALUES)
    np.testing.assert_array_equal(read.affine, affine)
    assert bytes(read.header["descrip"]).rstrip(b"\0") == b"grey"
    assert nib.Nifti1Image.from_stream(io.BytesIO(to_nifti(VALUES, affine, is_packed=False))).shape == (6, 5, 4)


def test_sform_and_qform_say_the_same_of_a_turned_grid() -> None:
    affine = np.eye(4)
    affine[:3, :3] = 2.0 * Rotation.from_euler("xyz", (9, -6, 12), degrees=True).as_matrix()
    affine[:3, 3] = (-90, 12, 7)
    read = nib.Nifti1Image.from_bytes(gzip.decompress(to_nifti(VALUES, affine)))
    assert read.get_qform(coded=True)[1] == read.get_sform(coded=True)[1] == 1
    assert read.get_qform() == pytest.approx(affine, abs=1e-4)
    assert read.get_sform() == pytest.approx(affine, abs=1e-5)


def test_a_type_that_nifti_lacks_becomes_the_next_wider_one() -> None:
    read = nib.Nifti1Image.from_bytes(gzip.decompress(to_nifti(VALUES.astype(np.float16), np.eye(4))))
    assert read.get_data_dtype() == np.float32
