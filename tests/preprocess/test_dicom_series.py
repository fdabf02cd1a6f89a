"""A series becomes the image that dcm2niix makes of it; what is no single volume is refused by name."""

import hashlib
import importlib.util
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from preprocess.dicom_headers import read_header
from preprocess.dicom_series import check_series, read_series
from preprocess.errors import ScanError
from preprocess.types import Image
from tests.support.images import head
from tests.support.series import (
    AXIAL,
    CANARIES,
    CORONAL,
    SAGITTAL,
    enhanced,
    file_of,
    files_of,
    put_pixels,
    slices,
)

HEAD = head(edge=20, spacing_mm=10.0).transpose(2, 1, 0)
"""(slices, rows, columns)."""
OBLIQUE = tuple(
    float(value)
    for value in (
        *(np.cos(0.3), np.sin(0.3), 0.0),
        *(-np.sin(0.3) * np.cos(0.2), np.cos(0.3) * np.cos(0.2), np.sin(0.2)),
    )
)


def small(**elements: Any) -> list[pydicom.Dataset]:
    return slices(HEAD, spacing_mm=elements.pop("spacing_mm", (9.0, 10.0, 8.0)), **elements)


def code_of(files: list[bytes], **options: Any) -> tuple[str, str]:
    with pytest.raises(ScanError, match=r"^x: ") as caught:
        read_series(files, name="x", **options)
    line = str(caught.value)
    assert "\n" not in line
    assert not [canary for canary in CANARIES if canary in line]
    return caught.value.finding.code, line


def canonical(image: Image) -> tuple[np.ndarray, np.ndarray]:
    ras = nib.as_closest_canonical(nib.Nifti1Image(image.voxels_XYZ, image.affine))
    return np.asarray(ras.dataobj), np.asarray(ras.affine)


def dcm2niix(files: list[bytes], folder: Path, *options: str) -> list[nib.Nifti1Image]:
    """What dcm2niix makes of the files; it reads folders."""
    if importlib.util.find_spec("dcm2niix") is None:
        pytest.skip("the package dcm2niix (extra test) is not installed")
    from dcm2niix import bin as program

    (folder / "in").mkdir()
    (folder / "out").mkdir()
    for number, data in enumerate(files):
        (folder / "in" / f"{number:03d}.dcm").write_bytes(data)
    command = [program, "-z", "n", "-b", "n", *options, "-o", str(folder / "out"), str(folder / "in")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return [nib.load(path) for path in sorted((folder / "out").glob("*.nii"))]


def assert_equal(image: Image, peer: nib.Nifti1Image) -> None:
    voxels, affine = canonical(image)
    ras = nib.as_closest_canonical(peer)
    np.testing.assert_array_equal(voxels, np.asarray(ras.dataobj, dtype=np.float32))
    np.testing.assert_allclose(affine, ras.affine, rtol=0, atol=1e-3)


@pytest.mark.parametrize("orientation", [AXIAL, SAGITTAL, CORONAL, OBLIQUE], ids=["ax", "sag", "cor", "oblique"])
def test_a_series_is_what_dcm2niix_makes_of_it_in_any_order_of_files(
    orientation: tuple[float, ...], tmp_path: Path
) -> None:
    files = files_of(small(orientation=orientation))
    image = read_series(files, name="x")
    shuffled = [files[index] for index in np.random.default_rng(0).permutation(len(files))]
    again = read_series(shuffled, name="x")
    np.testing.assert_array_equal(again.voxels_XYZ, image.voxels_XYZ)
    np.testing.assert_array_equal(again.affine, image.affine)
    assert image.findings == ()
    np.testing.assert_allclose(image.spacing_mm, (8.0, 10.0, 9.0), atol=1e-5)
    assert_equal(image, dcm2niix(files, tmp_path)[0])


def test_positions_give_the_place_of_every_voxel() -> None:
    sets = small(orientation=OBLIQUE)
    image = read_series(files_of(sets), name="x")
    for index in (0, 7, len(sets) - 1):
        lps = np.array([float(v) for v in sets[index].ImagePositionPatient])
        np.testing.assert_allclose(image.affine @ [0, 0, index, 1], [-lps[0], -lps[1], lps[2], 1], atol=1e-4)
        np.testing.assert_array_equal(image.voxels_XYZ[:, :, index].T, HEAD[index])


def test_slope_and_intercept_of_each_slice_are_applied() -> None:
    sets = small()
    for index, one in enumerate(sets):
        one.RescaleSlope, one.RescaleIntercept = 0.5 + index, -100
    image = read_series(files_of(sets), name="x")
    np.testing.assert_allclose(image.voxels_XYZ[:, :, 3].T, HEAD[3] * 3.5 - 100)
    assert image.findings == ()
    sets[2].RescaleSlope = -1
    assert [finding.code for finding in read_series(files_of(sets), name="x").findings] == ["slope_negative"]


@pytest.mark.parametrize(("dtype", "bits"), [("int16", 16), ("uint16", 16), ("uint16", 12), ("int16", 12)])
def test_signed_and_unsigned_values_of_any_depth_come_out_as_they_are(dtype: str, bits: int, tmp_path: Path) -> None:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if dtype == "int16" else (0, 2**bits - 1)
    truth = np.random.default_rng(0).integers(low, high + 1, HEAD.shape).astype(dtype)
    sets = small()
    for one, plane in zip(sets, truth, strict=True):
        put_pixels(one, plane, bits=bits)
    image = read_series(files_of(sets), name="x")
    np.testing.assert_array_equal(image.voxels_XYZ.transpose(2, 1, 0), truth)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=["rle", "jls", "j2k"])
def test_compressed_slices_give_the_same_voxels(syntax: pydicom.uid.UID) -> None:
    truth = head(edge=64, spacing_mm=3.0).transpose(2, 1, 0)[30:34]  # OpenJPEG's five resolutions need 32 pixels
    files = []
    for data in files_of(slices(truth)):
        one = pydicom.dcmread(io.BytesIO(data))
        one.PixelRepresentation = 0
        plugin = {RLELossless: "pydicom", JPEGLSLossless: "pyjpegls", JPEG2000Lossless: "pylibjpeg"}[syntax]
        one.compress(syntax, encoding_plugin=plugin, generate_instance_uid=False)
        sink = io.BytesIO()
        pydicom.dcmwrite(sink, one, enforce_file_format=True)
        files.append(sink.getvalue())
    image = read_series(files, name="x")
    np.testing.assert_array_equal(image.voxels_XYZ.transpose(2, 1, 0), truth)


def test_an_enhanced_object_is_read_by_its_functional_groups() -> None:
    image = read_series([file_of(enhanced(HEAD, step_mm=10.0))], name="x")
    np.testing.assert_array_equal(image.voxels_XYZ.transpose(2, 1, 0), HEAD * 2.0 - 10.0)
    np.testing.assert_allclose(image.spacing_mm, 10.0)


def test_a_copied_slice_is_used_once_with_a_remark() -> None:
    files = files_of(small())
    image = read_series([*files, files[4], files[9]], name="x")
    assert [(finding.code, finding.leaves_out) for finding in image.findings] == [("slice_duplicate", False)]
    np.testing.assert_array_equal(image.voxels_XYZ, read_series(files, name="x").voxels_XYZ)


def test_different_slices_at_one_place_are_several_volumes() -> None:
    sets = small()
    other = small()
    put_pixels(other[4], HEAD[4] + 1)
    code, line = code_of(files_of([*sets, other[4]]))
    assert code == "several_volumes"
    assert "2 different slices at one place" in line


@pytest.mark.parametrize(
    ("elements", "said"),
    [
        ({"EchoTime": 90.0}, "2 echoes"),
        ({"AcquisitionNumber": 2}, "2 time points or acquisitions"),
        ({"TemporalPositionIdentifier": 2}, "2 time points"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "P", "ND"]}, "2 kinds of image"),
    ],
    ids=["echo", "acquisition", "time", "phase"],
)
def test_what_headers_tell_apart_is_said_and_one_can_be_picked(elements: dict[str, Any], said: str) -> None:
    files = files_of([*small(), *small(**elements)])
    code, line = code_of(files)
    assert code == "several_volumes"
    assert said in line
    second = read_series(files, name="x", volume=2)
    np.testing.assert_array_equal(second.voxels_XYZ.transpose(2, 1, 0), HEAD)
    assert code_of(files, volume=3)[0] == "several_volumes"


def without(sets: list[pydicom.Dataset], *indices: int) -> list[pydicom.Dataset]:
    return [one for index, one in enumerate(sets) if index not in indices]


def moved(sets: list[pydicom.Dataset], index: int, axis: int, by_mm: float) -> list[pydicom.Dataset]:
    place = [float(value) for value in sets[index].ImagePositionPatient]
    place[axis] += by_mm
    sets[index].ImagePositionPatient = place
    return sets


def sheared() -> list[pydicom.Dataset]:
    sets = small()
    for index in range(len(sets)):
        moved(sets, index, 1, index * 0.5)
    return sets


def stripped(key: str) -> list[pydicom.Dataset]:
    sets = small()
    for one in sets:
        delattr(one, key)
    return sets


@pytest.mark.parametrize(
    ("sets", "code", "said"),
    [
        (without(small(), 7), "slice_gap", "18.00 mm between slices 7 and 8, 9.00 mm elsewhere: about 1 missing"),
        (without(small(), 7, 8, 12), "slice_gap", "about 2 missing, and 1 more gaps"),
        (moved(small(), 7, 2, 2.0), "slice_gap", "unequal spacing"),
        (sheared(), "geometry_bad", "sheared by 3.2 degrees"),
        (moved(small(), 7, 1, 3.0), "geometry_bad", "shifted"),
        ([*small(), *small(orientation=SAGITTAL)[:3]], "geometry_bad", "several orientations (3 of 23 differ)"),
        ([*small(), *slices(HEAD[:, :10])], "geometry_bad", "20 x 10 and 20 x 20 pixels"),
        ([*small(), *small(spacing_mm=(9.0, 10.0, 9.0))], "geometry_bad", "pixels of several or no sizes"),
        (stripped("ImagePositionPatient"), "geometry_bad", "20 of 20 slices have no ImagePositionPatient"),
        (stripped("ImageOrientationPatient"), "geometry_bad", "no ImageOrientationPatient"),
        (stripped("PixelSpacing"), "geometry_bad", "no PixelSpacing"),
        (small(orientation=(1, 0, 0, 1, 0, 0)), "geometry_bad", "no pair of right-angled axes"),
        (small()[:1], "too_few_slices", "one slice of a series; give the folder or a zip of the series"),
        (small(PhotometricInterpretation="MONOCHROME1"), "photometric", "MONOCHROME1, expected MONOCHROME2"),
        (small(PhotometricInterpretation="RGB"), "photometric", "RGB"),
        (
            small(PhotometricInterpretation="CANARY JANE"),
            "photometric",
            "Interpretation unknown or none, expected",
        ),
        (small(ImageType=["ORIGINAL", "PRIMARY", "M", "MOSAIC"]), "mosaic", "Siemens mosaic"),
        (small(BurnedInAnnotation="YES"), "burned_in", "BurnedInAnnotation YES"),
        (small(RescaleSlope=0.0), "bad_scale", "RescaleSlope 0.0"),
        ([*small(), *small(number=9)[:1]], "several_series", "2 series: series 5 (20 images), series 9 (1 image);"),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_what_makes_no_volume_is_refused_with_the_reason(sets: list[pydicom.Dataset], code: str, said: str) -> None:
    found, line = code_of(files_of(sets))
    assert found == code
    assert said in line
    if code != "several_series":
        headers = [read_header(io.BytesIO(data), name="x") for data in files_of(sets)]
        with pytest.raises(ScanError) as caught:
            check_series([one for one in headers if one is not None], name="x")
        assert caught.value.finding.code == code


def test_jitter_far_below_the_spacing_moves_no_slice() -> None:
    sets = small()
    jitter = np.random.default_rng(1).uniform(-0.02, 0.02, len(sets))
    for index in range(1, len(sets) - 1):
        moved(sets, index, 2, float(jitter[index]))
    np.testing.assert_allclose(read_series(files_of(sets), name="x").affine[:3, 2], [0, 0, 9.0], atol=1e-5)


def test_what_is_no_image_is_passed_over_and_a_cut_file_refused() -> None:
    files = files_of(small())
    expected = read_series(files, name="x").voxels_XYZ
    np.testing.assert_array_equal(read_series([*files, b"README", b""], name="x").voxels_XYZ, expected)
    assert code_of([b"README"])[0] == "wrong_file"
    assert code_of([*files[:-1], files[-1][:-100]])[0] in ("unreadable", "truncated")
    assert code_of(files, max_voxels=100)[0] == "too_large"


@pytest.mark.parametrize("is_enhanced", [False, True])
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_damage_anywhere_is_a_finding_and_no_crash(is_enhanced: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    tiny = HEAD[:6, :4, :4]
    files = [file_of(enhanced(tiny))] if is_enhanced else files_of(slices(tiny, spacing_mm=(9.0, 10.0, 8.0)))
    spoilt = []
    for data in files:
        changed = bytearray(data)
        for at in random.integers(132, len(data), 3):
            changed[at] = random.integers(0, 256)
        spoilt.append(bytes(changed))
    try:
        said = f"{read_series(spoilt, name='x', max_voxels=10_000).spacing_mm}"
    except ScanError as error:
        said = str(error)
    assert "\n" not in said
    assert "Canary" not in said


@pytest.mark.parametrize(("key", "value"), [("RescaleSlope", 1e300), ("RescaleIntercept", -1e300)])
def test_a_scale_beyond_float32_gives_infinite_voxels_for_the_quality_check(key: str, value: float) -> None:
    image = read_series(files_of(small(**{key: value})), name="x")
    assert not np.isfinite(image.voxels_XYZ).all()


def test_a_position_beyond_every_scanner_is_none() -> None:
    code, line = code_of(files_of(moved(small(), 3, 2, 1e300)))
    assert code == "geometry_bad"
    assert "1 of 20 slices have no ImagePositionPatient" in line


def oracle(case: str) -> dict[str, Any]:
    from tests.support.images import REAL_DATA

    found: dict[str, Any] = json.loads((REAL_DATA / "dicom" / "oracle.json").read_text())["cases"][case]
    return found


def matches(image: Image, said: dict[str, Any]) -> None:
    voxels, affine = canonical(image)
    digest = hashlib.sha256(np.ascontiguousarray(voxels.astype("<i2")).tobytes()).hexdigest()
    assert digest == said["sha256_c_order"]
    np.testing.assert_allclose(affine, said["affine"], rtol=0, atol=1e-3)


@pytest.mark.real_data
def test_a_real_t1w_is_what_the_oracle_and_dcm2niix_say(real_data: Path, tmp_path: Path) -> None:
    files = [path.read_bytes() for path in sorted((real_data / "dicom/t1w_block").glob("*.dcm"), reverse=True)]
    image = read_series(files, name="x")
    matches(image, oracle("t1w_block")["volume"]["canonical_RAS"])
    assert_equal(image, dcm2niix(files, tmp_path)[0])


@pytest.mark.real_data
def test_real_enhanced_objects_are_refused_as_several_and_read_one_by_one(real_data: Path, tmp_path: Path) -> None:
    siemens = [path.read_bytes() for path in sorted((real_data / "dicom/enhanced/Siemens").rglob("*.dcm"))]
    assert code_of(siemens)[0] == "several_volumes"
    image = read_series(siemens, name="x", volume=1)
    expected = oracle("enhanced_siemens")
    voxels, affine = canonical(image)
    digest = hashlib.sha256(np.ascontiguousarray(voxels.astype("<i2")).tobytes()).hexdigest()
    assert digest == expected["first_time_point_canonical_sha256_c_order"]
    np.testing.assert_allclose(affine, expected["volume"]["canonical_RAS"]["affine"], rtol=0, atol=1e-3)
    philips = [(real_data / "dicom/enhanced/Philips/IM_0027_fMAP.dcm").read_bytes()]
    assert code_of(philips)[0] == "several_volumes"
    said = oracle("enhanced_philips")
    peers = dcm2niix(philips, tmp_path, "-p", "n")
    for number, name, peer in zip((1, 2), ("p_e1.nii", "p_e2_fieldmaphz.nii"), peers, strict=True):
        image = read_series(philips, name="x", volume=number)
        scales = said["with_display_scaling_-p_n"][name.replace(".nii", "a.nii")]
        np.testing.assert_allclose(canonical(image)[1], said["volumes"][name]["canonical_RAS"]["affine"], atol=1e-3)
        np.testing.assert_allclose(image.voxels_XYZ.max(), scales["max_scaled"], rtol=1e-6)
        stored = np.rint((canonical(image)[0] - scales["scl_inter"]) / scales["scl_slope"]).astype("<i2")
        digest = hashlib.sha256(np.ascontiguousarray(stored).tobytes()).hexdigest()
        assert digest == said["volumes"][name]["canonical_RAS"]["sha256_c_order"]
        np.testing.assert_allclose(canonical(image)[1], nib.as_closest_canonical(peer).affine, atol=1e-3)


@pytest.mark.real_data
def test_a_real_mosaic_is_refused_by_name_in_every_syntax(real_data: Path) -> None:
    for path in sorted((real_data / "dicom/transfer_syntaxes").glob("*.dcm")):
        assert code_of([path.read_bytes()])[0] == "mosaic"
