"""Placements that agree are silent; those that contradict each other are reported, with the right numbers."""

from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from preprocess.errors import ScanError
from preprocess.header_geometry import Geometry, read_geometry
from preprocess.kinds import prepare_scan
from preprocess.quality import check_image
from preprocess.readers import read_nifti
from preprocess.recipe import Quality, VolumeRecipe
from preprocess.types import Scan
from tests.support.images import REAL_DATA, centred_affine, head, nifti, patched

SHAPE = (48, 48, 48)
AFFINE = centred_affine(SHAPE)
RECIPE = VolumeRecipe(grid=(24, 24, 24), spacing_mm=8.0)


def header(
    sform: np.ndarray | None = AFFINE, qform: np.ndarray | None = AFFINE, unit: str = "mm", **fields: Any
) -> Any:
    made = nib.Nifti1Header()
    made.set_data_shape(SHAPE)
    made.set_zooms(np.linalg.norm(AFFINE[:3, :3], axis=0))
    made.set_qform(AFFINE if qform is None else qform, code=0 if qform is None else 1)
    made.set_sform(AFFINE if sform is None else sform, code=0 if sform is None else 1)
    made.set_xyzt_units(xyz=unit)
    for name, value in fields.items():
        made[name] = value
    return made


def turned(degrees: float, axis: str = "z") -> np.ndarray:
    rotation = np.eye(4)
    rotation[:3, :3] = Rotation.from_euler(axis, degrees, degrees=True).as_matrix()
    return rotation @ AFFINE


def codes(geometry: Geometry) -> list[str]:
    assert not any(finding.leaves_out for finding in geometry.findings)
    return [finding.code for finding in geometry.findings]


def refusal(made: Any, **options: Any) -> str:
    with pytest.raises(ScanError) as caught:
        read_geometry(made, SHAPE, name="x", **options)
    assert caught.value.finding.leaves_out
    return f"{caught.value.finding.code}: {caught.value}"


def test_placements_that_agree_are_taken_without_a_word() -> None:
    for made in (header(), header(qform=None), header(sform=None), header(unit="unknown")):
        geometry = read_geometry(made, SHAPE, name="x")
        assert codes(geometry) == []
        np.testing.assert_allclose(geometry.affine, AFFINE, atol=1e-5)


@pytest.mark.parametrize(("unit", "per_mm"), [("meter", 0.001), ("micron", 1000.0)])
def test_metres_and_microns_are_converted_and_said(unit: str, per_mm: float) -> None:
    scale = np.diag([per_mm, per_mm, per_mm, 1.0])
    made = header(sform=scale @ AFFINE, qform=scale @ AFFINE, unit=unit)

    geometry = read_geometry(made, SHAPE, name="x")

    assert codes(geometry) == ["units_converted"]
    np.testing.assert_allclose(geometry.affine, AFFINE, rtol=1e-5, atol=1e-4)


def test_a_wrong_unit_beside_sizes_in_millimetres_is_disbelieved() -> None:
    for unit in ("meter", "micron"):
        geometry = read_geometry(header(unit=unit), SHAPE, name="x")
        assert codes(geometry) == ["units_disbelieved"]
        np.testing.assert_allclose(geometry.affine, AFFINE, atol=1e-5)


@pytest.mark.parametrize(("per_mm", "fits"), [(0.001, "metres"), (1000.0, "microns")])
def test_sizes_that_are_none_in_the_unit_are_refused_with_the_unit_they_would_fit(per_mm: float, fits: str) -> None:
    scale = np.diag([per_mm, per_mm, per_mm, 1.0])
    for unit in ("mm", "unknown"):
        reported = refusal(header(sform=scale @ AFFINE, qform=scale @ AFFINE, unit=unit))
        assert reported.startswith("bad_units: x: a field of view of")
        assert f"its numbers would fit {fits}; set xyzt_units" in reported
        assert "max_spacing_mm" not in reported


def test_a_turned_sform_is_reported_with_its_angle_and_the_sform_is_taken() -> None:
    made = header(sform=turned(20.0))

    geometry = read_geometry(made, SHAPE, name="x")

    assert codes(geometry) == ["forms_differ"]
    assert "differ by 20.0 degrees" in geometry.findings[0].message
    np.testing.assert_allclose(geometry.affine, turned(20.0), atol=1e-5)
    np.testing.assert_allclose(read_geometry(made, SHAPE, name="x", believed="qform").affine, AFFINE, atol=1e-4)


def test_a_shifted_and_a_scaled_sform_are_told_in_millimetres_and_per_cent() -> None:
    shifted = AFFINE.copy()
    shifted[:3, 3] += (3.0, 4.0, 12.0)
    assert "0.0 degrees, 13.0 mm" in read_geometry(header(sform=shifted), SHAPE, name="x").findings[0].message
    larger = np.diag([1.1, 1.1, 1.1, 1.0]) @ AFFINE
    assert "10.0% in size" in read_geometry(header(sform=larger), SHAPE, name="x").findings[0].message


def test_rounding_between_the_forms_is_no_difference() -> None:
    made = header(sform=turned(0.4), qform=AFFINE)
    assert codes(read_geometry(made, SHAPE, name="x")) == []


def test_mirror_images_are_left_out_unless_the_recipe_says_which_to_believe() -> None:
    mirrored = np.diag([-1.0, 1.0, 1.0, 1.0]) @ AFFINE
    made = header(sform=mirrored)

    assert refusal(made).startswith("mirrored: x: sform and qform are mirror images, so left and right are not known")
    for believed, affine in (("sform", mirrored), ("qform", AFFINE)):
        geometry = read_geometry(made, SHAPE, name="x", believed=believed)  # type: ignore[arg-type]
        assert codes(geometry) == ["forms_differ"]
        np.testing.assert_allclose(geometry.affine, affine, atol=1e-4)


def test_a_header_without_any_form_is_a_guess_and_says_so() -> None:
    geometry = read_geometry(header(sform=None, qform=None), SHAPE, name="x")
    assert codes(geometry) == ["orientation_guessed"]


def test_voxel_sizes_that_are_none_beside_a_good_sform_are_said() -> None:
    made = header(qform=None)
    made["pixdim"][1:4] = np.nan
    geometry = read_geometry(made, SHAPE, name="x")
    assert codes(geometry) == ["voxel_sizes_unread"]
    np.testing.assert_allclose(geometry.affine, AFFINE, atol=1e-5)


def test_a_sheared_grid_is_reported_with_its_angle() -> None:
    shear = np.eye(4)
    shear[0, 1] = np.tan(np.radians(10))
    geometry = read_geometry(header(sform=shear @ AFFINE, qform=None), SHAPE, name="x")
    assert codes(geometry) == ["sheared"]
    assert "10.0 degrees" in geometry.findings[0].message


def test_a_remark_travels_with_a_kept_scan_into_the_store_and_its_voxels_are_those_of_the_form_that_is_believed() -> (
    None
):
    voxels = head()
    plain = nifti(voxels, AFFINE)
    odd = patched(plain, sform_code=0, qform_code=0)
    scan = Scan(subject_id="sub-01", session_id="ses-01", modality="T1w", uri="x.nii")

    prepared = prepare_scan(odd, scan, RECIPE)

    assert prepared.values is not None
    assert [finding.code for finding in prepared.findings if finding.code == "orientation_guessed"]


def test_a_hot_voxel_is_reported_and_changes_no_other_voxel() -> None:
    voxels = head().astype(np.float32)
    hot = voxels.copy()
    hot[24, 24, 24] = 1e30
    hot[3, 3, 3] = 3e38
    scan = Scan(subject_id="sub-01", session_id="ses-01", modality="T1w", uri="x.nii")

    kept = prepare_scan(nifti(voxels, AFFINE), scan, RECIPE)
    cut = prepare_scan(nifti(hot, AFFINE), scan, RECIPE)

    reported = [finding for finding in cut.findings if finding.code == "hot_voxels"]
    assert len(reported) == 1
    assert "2 voxels above" in reported[0].message
    assert not reported[0].leaves_out
    assert kept.values is not None
    assert cut.values is not None
    # What is averaged with them at 8 mm may be brighter; everything else is as it was.
    changed = np.count_nonzero(np.abs(kept.values.astype(int) - cut.values.astype(int)) > 2)
    assert changed <= 2 * 27


@pytest.mark.real_data
def test_real_headers_contradict_themselves_only_as_is_known() -> None:
    if not REAL_DATA.is_dir():
        pytest.skip("the real scans do not lie beside the checkout")
    found = {}
    for path in sorted(REAL_DATA.rglob("*.nii.gz")):
        if "mask" in path.name:
            continue
        image = read_nifti(path.read_bytes(), name=path.name)
        found[path.name] = [finding.code for finding in check_image(image, Quality(), name=path.name)]
    assert len(found) >= 16
    assert {code for codes_ in found.values() for code in codes_} <= {"forms_differ", "orientation_guessed"}
