"""Image to volume: positions against nibabel's affine arithmetic, grey values against closed forms and brute force."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.transforms import SpatialResample
from scipy.ndimage import affine_transform, gaussian_filter1d, map_coordinates
from threadpoolctl import threadpool_limits

from preprocess.errors import ScanError
from preprocess.grey_levels import GreyRange
from preprocess.readers import read_nifti
from preprocess.recipe import VolumeRecipe
from preprocess.transforms import _trilinear, grid_affine, resample, to_stored, to_volume, unit_scale
from preprocess.types import Image
from tests.support.images import RECIPE, centred_affine, head

FINE = VolumeRecipe(grid=(48, 48, 48), spacing_mm=4.0, dtype="float32")
LANDMARK_MM = np.array([21.0, -34.0, 17.0])


def image_of(voxels: np.ndarray, affine: np.ndarray | None = None) -> Image:
    affine = centred_affine(voxels.shape) if affine is None else affine
    return Image(np.asarray(voxels, dtype=np.float32), affine, "float32")


def head_in(affine: np.ndarray, shape: tuple[int, int, int], landmark_mm: np.ndarray = LANDMARK_MM) -> Image:
    """The ellipsoid head with a bright blob, sampled wherever `affine` puts the voxels: truth is the formula in mm."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    x, y, z = np.moveaxis(nib.affines.apply_affine(affine, index), -1, 0)
    grey = np.where((x / 75) ** 2 + (y / 85) ** 2 + (z / 80) ** 2 <= 1, 500.0, 0.0)
    distance = np.sqrt((x - landmark_mm[0]) ** 2 + (y - landmark_mm[1]) ** 2 + (z - landmark_mm[2]) ** 2)
    return image_of(grey + 4000 * np.exp(-((distance / 6) ** 2)), affine)


def centre_of_blob_mm(image: Image, recipe: VolumeRecipe = FINE) -> np.ndarray:
    """Where the blob lies after preprocessing, in mm, by the volume's own affine."""
    recipe = recipe.model_copy(update={"intensity_percentiles": (0.0, 100.0)})
    volume = to_volume(image, recipe, name="x")
    weight = np.clip(volume.voxels_CDHW[0] - 0.4, 0, None)
    index = np.stack(np.meshgrid(*map(np.arange, recipe.grid), indexing="ij"), -1)
    centre = (index * weight[..., None]).sum((0, 1, 2)) / weight.sum()
    return nib.affines.apply_affine(volume.affine, centre)


def _oriented(codes: str, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> np.ndarray:
    """Affine of an array of `shape` whose axes run as `codes` say, centred at the origin."""
    target = nib.orientations.axcodes2ornt(codes)
    turn = np.zeros((3, 3))
    for axis, (world, sign) in enumerate(target):
        turn[int(world), axis] = sign
    matrix = turn * np.asarray(spacing)
    return nib.affines.from_matvec(matrix, -matrix @ (np.asarray(shape) - 1) / 2)


_OBLIQUE = nib.eulerangles.euler2mat(0.3, -0.25, 0.4)
GEOMETRIES = {
    "RAS": (_oriented("RAS", (4, 4, 4), (52, 52, 52)), (52, 52, 52)),
    "LAS": (_oriented("LAS", (4, 4, 4), (52, 52, 52)), (52, 52, 52)),
    "PSR": (_oriented("PSR", (4, 4, 4), (52, 52, 52)), (52, 52, 52)),
    "LPI": (_oriented("LPI", (3, 4, 4.5), (70, 52, 46)), (70, 52, 46)),
    "anisotropic": (_oriented("RAS", (1.5, 2, 4.5), (130, 100, 46)), (130, 100, 46)),
    "oblique": (nib.affines.from_matvec(_OBLIQUE * 3.5, -_OBLIQUE @ (np.full(3, 63) * 1.75)), (64, 64, 64)),
    "far from the origin": (nib.affines.from_matvec(np.eye(3) * 4, np.full(3, -102.0)), (52, 52, 52)),
}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_a_landmark_lands_within_half_a_voxel_whatever_the_scans_geometry(name: str) -> None:
    affine, shape = GEOMETRIES[name]
    found_mm = centre_of_blob_mm(head_in(affine, shape))
    assert np.abs(found_mm - LANDMARK_MM).max() < FINE.spacing_mm / 2


def test_a_landmark_left_of_the_middle_lies_at_the_low_indices_of_the_first_axis() -> None:
    affine, shape = GEOMETRIES["LAS"]
    volume = to_volume(head_in(affine, shape, np.array([-50.0, 0, 0])), FINE, name="x")
    brightest = np.unravel_index(volume.voxels_CDHW[0].argmax(), FINE.grid)
    assert brightest[0] < 16


def _in_float64(image: Image, affine: np.ndarray, grid: tuple[int, int, int], kept: GreyRange) -> np.ndarray:
    """The operator in two steps: every voxel smoothed, then linear interpolation with zeros outside."""
    values = np.clip(image.voxels_XYZ.astype(np.float64), kept.black, kept.top) - kept.black
    edges_mm = np.linalg.norm(image.affine[:3, :3], axis=0)
    for axis, edge_mm in enumerate(edges_mm):
        along = np.abs(image.affine[:3, axis]) / np.abs(image.affine[:3, axis]).sum()
        target_mm = along @ np.diag(affine)[:3]
        if target_mm > 1.05 * edge_mm:
            sigma = np.sqrt(target_mm**2 - edge_mm**2) / 2.3548 / edge_mm
            values = gaussian_filter1d(values, sigma, axis=axis, truncate=2.5, mode="nearest")
    index = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1)
    position = nib.affines.apply_affine(np.linalg.inv(image.affine) @ affine, index)
    return map_coordinates(values, np.moveaxis(position, -1, 0), order=1, mode="grid-constant", cval=0.0)


def _turned(degrees: float, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> np.ndarray:
    matrix = nib.eulerangles.euler2mat(*np.radians([degrees, -0.8 * degrees, 1.3 * degrees])) * np.asarray(spacing)
    return nib.affines.from_matvec(matrix, -matrix @ (np.asarray(shape) - 1) / 2 + [1.3, -2.1, 0.7])


RESAMPLED = {
    "1 mm": (0.0, (4.0, 4.0, 4.0)),
    "anisotropic": (0.0, (3.1, 6.4, 9.0)),
    "turned by what a header rounds": (1e-6, (4.0, 4.0, 4.0)),
    "turned by a twentieth of a degree": (0.05, (4.0, 4.0, 4.0)),
    "oblique": (11.0, (4.0, 4.0, 4.0)),
    "oblique and anisotropic": (7.0, (3.1, 6.4, 9.0)),
}


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize("name", RESAMPLED)
def test_a_scan_is_resampled_as_float64_does_it_in_two_steps(name: str, dtype: str) -> None:
    degrees, spacing = RESAMPLED[name]
    voxels = np.minimum(head() // 5, 250).astype(dtype)
    image = Image(voxels, _turned(degrees, spacing, voxels.shape), dtype)
    # 256 mm: a scan of 192 mm ends within it, one of 149 mm on two sides.
    affine, kept = grid_affine(np.array([3.0, 0.0, -20.0]), (32, 32, 32), np.full(3, 8.0)), GreyRange(4.4, 180.0)
    found = resample(image, affine, (32, 32, 32), kept)
    expected = _in_float64(image, affine, (32, 32, 32), kept)
    assert np.count_nonzero(expected == 0) > 1000
    # A hundredth of a step of uint8 where the axes are the grid's; float32 positions of an oblique one are coarser.
    assert np.abs(found - expected).max() < expected.max() / 255 * (0.01 if degrees < 0.01 else 0.1)


@pytest.mark.parametrize("degrees", [0.0, 9.0])
def test_the_number_of_threads_changes_no_bit(degrees: float) -> None:
    voxels = head()
    image, volumes = Image(voxels, _turned(degrees, (4.0, 4.0, 4.0), voxels.shape), "int16"), []
    for limit in (1, 2):
        with threadpool_limits(limits=limit):
            volumes.append(to_volume(image, RECIPE, name="x"))
    np.testing.assert_array_equal(volumes[0].voxels_CDHW, volumes[1].voxels_CDHW)
    np.testing.assert_array_equal(volumes[0].affine, volumes[1].affine)


@pytest.mark.parametrize("slope", [1.0, 14.07])
def test_integers_and_the_same_values_as_floats_give_the_same_volume(slope: float) -> None:
    voxels = head()
    whole = to_volume(Image(voxels, centred_affine(voxels.shape), "int16"), RECIPE, name="x").voxels_CDHW
    scaled = to_volume(image_of(voxels.astype(np.float32) * np.float32(slope)), RECIPE, name="x").voxels_CDHW
    assert np.abs(whole.astype(int) - scaled).max() <= 1
    assert np.mean(whole != scaled) < 0.001


@pytest.mark.parametrize("codes", ["LAS", "LPS", "PSR"])
def test_integers_stored_in_another_order_give_the_same_volume(codes: str) -> None:
    source = nib.Nifti1Image(head(edge=96, spacing_mm=2.0), centred_affine((96, 96, 96), 2.0))
    turned = source.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    )
    volumes = [
        to_volume(Image(np.asarray(one.dataobj), one.affine, "int16"), RECIPE, name="x") for one in (source, turned)
    ]
    np.testing.assert_array_equal(volumes[0].voxels_CDHW, volumes[1].voxels_CDHW)


def test_hot_voxels_are_reported_and_cut() -> None:
    voxels = head().astype(np.float32)
    voxels[24, 24, 24] = 1e30
    (finding,) = to_volume(image_of(voxels), RECIPE, name="sub-01").findings
    assert finding.code == "hot_voxels"
    assert finding.message.startswith("sub-01: 1 voxels above ")
    assert not finding.leaves_out


@pytest.mark.parametrize("codes", ["LAS", "RPS", "LPI", "PSR", "SAL", "AIR"])
def test_storing_the_same_voxels_in_another_order_gives_the_same_volume(codes: str) -> None:
    source = nib.Nifti1Image(head(), centred_affine((48, 48, 48)))
    turned = source.as_reoriented(
        nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(codes))
    )
    assert "".join(nib.aff2axcodes(turned.affine)) == codes
    first = to_volume(image_of(source.get_fdata(), source.affine), RECIPE, name="x")
    second = to_volume(image_of(turned.get_fdata(), turned.affine), RECIPE, name="x")
    np.testing.assert_array_equal(first.voxels_CDHW, second.voxels_CDHW)
    np.testing.assert_allclose(first.affine, second.affine, atol=1e-9)


def test_the_volume_says_where_it_lies() -> None:
    affine = grid_affine(np.array([1.0, 2.0, 3.0]), (4, 5, 6), np.array([2.0, 2.0, 2.0]))
    np.testing.assert_allclose(nib.affines.apply_affine(affine, [1.5, 2.0, 2.5]), [1, 2, 3])
    assert nib.aff2axcodes(affine) == ("R", "A", "S")
    np.testing.assert_allclose(nib.affines.voxel_sizes(affine), 2.0)


@pytest.mark.parametrize(("field_of_view", "shows"), [("head", True), ("stretched", False)])
def test_a_smaller_head_fills_fewer_voxels_unless_it_is_stretched(field_of_view: str, shows: bool) -> None:
    recipe = RECIPE.model_copy(update={"field_of_view": field_of_view, "spacing_mm": 8.0})
    num_voxels = [
        int((to_volume(image_of(head(scale)), recipe, name="x").voxels_CDHW > 60).sum()) for scale in (1.0, 0.95)
    ]
    ratio = num_voxels[1] / num_voxels[0]
    expected = 0.95**3 if shows else 1.0  # volumes go with the cube of lengths
    assert ratio == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("spacing_mm", [2.5, 3.0])
def test_a_checkerboard_finer_than_the_grid_becomes_grey(spacing_mm: float) -> None:
    # Odd edges: grid voxels then fall on scan voxels, where trilinear weights alone would not average anything.
    shape = (91, 91, 91)
    index = np.indices(shape)
    inside = ((index - 45) ** 2).sum(0) < 43**2
    board = np.where(inside, np.where(index.sum(0) % 2, 1500.0, 500.0), 0.0)
    recipe = VolumeRecipe(grid=(31, 31, 31), spacing_mm=spacing_mm, dtype="float32", intensity_percentiles=(0.0, 100.0))
    volume = to_volume(image_of(board, centred_affine(shape, 1.0)), recipe, name="x")
    middle = volume.voxels_CDHW[0, 11:20, 11:20, 11:20]
    assert middle.std() / middle.mean() < 0.01  # sampled without smoothing: up to 0.5


def test_without_a_finer_axis_nothing_is_smoothed() -> None:
    """On its own grid a volume is the scan itself, up to the intensity scale."""
    voxels = head().astype(np.float32)
    recipe = VolumeRecipe(grid=(48, 48, 48), spacing_mm=4.0, dtype="float32", intensity_percentiles=(0.0, 100.0))
    volume = to_volume(image_of(voxels), recipe, name="x")
    shift = np.rint(nib.affines.apply_affine(np.linalg.inv(centred_affine((48,) * 3)) @ volume.affine, [0, 0, 0]))
    assert np.abs(shift).max() <= 3
    correlation = np.corrcoef(volume.voxels_CDHW[0, 8:40, 8:40, 8:40].ravel(), _shifted(voxels, volume.affine))[0, 1]
    assert correlation > 0.9999


def _shifted(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """scipy's own linear interpolation of the scan at the volume's voxels."""
    step = np.linalg.inv(centred_affine(voxels.shape)) @ affine
    moved = affine_transform(voxels, step[:3, :3], step[:3, 3], order=1)
    return np.asarray(moved[8:40, 8:40, 8:40]).ravel()


@given(exponent=st.floats(-12, 12), mantissa=st.floats(1, 10))
@settings(max_examples=25, deadline=None)
def test_the_unit_of_the_scan_does_not_matter(exponent: float, mantissa: float) -> None:
    factor = np.float32(mantissa * 10.0**exponent)
    plain = to_volume(image_of(head()), RECIPE, name="x").voxels_CDHW.astype(int)
    scaled = to_volume(image_of(head().astype(np.float32) * factor), RECIPE, name="x").voxels_CDHW
    # float32 rounds differently at the edge between two of the 255 levels.
    assert np.abs(plain - scaled).max() <= 1
    assert np.mean(plain != scaled) < 0.001


@pytest.mark.parametrize("offset", [-1000.0, 500.0])
def test_signed_data_have_a_black_background_too(offset: float) -> None:
    recipe = RECIPE.model_copy(update={"spacing_mm": 10.0})  # 240 mm, more than the scan's 192 mm
    plain = to_volume(image_of(head()), recipe, name="x").voxels_CDHW.astype(int)
    moved = to_volume(image_of(head() + offset), recipe, name="x").voxels_CDHW
    assert np.abs(plain - moved).max() <= 1
    assert moved[0, 0, 0, 0] == 0  # outside the scan


def test_a_bright_scalp_does_not_eat_the_range() -> None:
    """Fat three times as bright as the brain clips; the brain keeps its grey level."""
    dull, bright = head(), head()
    scalp = (dull > 600) & (dull < 800)
    bright[scalp] *= 4
    brain = to_volume(image_of(dull), RECIPE, name="x").voxels_CDHW[0, 8:16, 8:16, 14:18].astype(int)
    beside = to_volume(image_of(bright), RECIPE, name="x").voxels_CDHW[0, 8:16, 8:16, 14:18].astype(int)
    assert np.median(brain) > 230
    assert abs(np.median(beside) - np.median(brain)) <= 3


def test_more_neck_does_not_move_the_box() -> None:
    """Only the skull above the neck counts, so a longer neck in the field of view changes nothing."""
    short, long = head(edge=64).astype(np.float32), head(edge=64).astype(np.float32)
    for voxels, start in ((short, 5), (long, 0)):
        voxels[22:42, 22:42, start:20] = 800
    first, second = (to_volume(image_of(voxels), RECIPE, name="x").affine for voxels in (short, long))
    assert abs(first[2, 3] - second[2, 3]) < 1e-6


def test_a_scan_without_a_head_is_a_finding() -> None:
    voxels = np.zeros((48, 48, 48))
    voxels[24, 24, 24] = 100.0
    with pytest.raises(ScanError, match=r"sub-01: .* of the voxels are foreground") as caught:
        to_volume(image_of(voxels), RECIPE, name="sub-01")
    assert caught.value.finding.code == "empty"


def test_a_flat_foreground_cannot_be_stretched() -> None:
    voxels = np.zeros((48, 48, 48))
    voxels[24] = 100.0
    recipe = RECIPE.model_copy(update={"field_of_view": "stretched"})
    with pytest.raises(ScanError, match="flat") as caught:
        to_volume(image_of(voxels), recipe, name="sub-01")
    assert caught.value.finding.code == "empty"


@pytest.mark.parametrize(("dtype", "top"), [("uint8", 255), ("uint16", 65535), ("float16", 1), ("float32", 1)])
def test_stored_values_scale_back_to_the_unit_range(dtype: str, top: float) -> None:
    unit = np.linspace(0, 1, 1001, dtype=np.float32)
    stored = to_stored(unit, dtype)
    assert stored.dtype == dtype
    assert stored.max() == top
    back = stored.astype(np.float64) * unit_scale(dtype)
    assert np.abs(back - unit).max() <= {"uint8": 0.51 / 255, "uint16": 0.6 / 65535}.get(dtype, 5e-4)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32"])
def test_a_volume_has_the_recipes_shape_and_type(dtype: str) -> None:
    recipe = RECIPE.model_copy(update={"dtype": dtype, "grid": (20, 24, 22)})
    volume = to_volume(image_of(head()), recipe, name="x")
    assert volume.voxels_CDHW.shape == (1, 20, 24, 22)
    assert volume.voxels_CDHW.dtype == dtype


@pytest.mark.real_data
def test_the_las_and_the_ras_file_of_the_mni_head_give_the_same_volume(real_data: Path) -> None:
    volumes = []
    for name in ("mni152_t1_2mm_LAS.nii.gz", "mni152_t1_2mm_RAS.nii.gz"):
        image = read_nifti((real_data / "mni" / name).read_bytes(), name=name)
        volumes.append(to_volume(image, VolumeRecipe(grid=(64, 64, 64), spacing_mm=3.0), name=name))
    np.testing.assert_allclose(volumes[0].affine, volumes[1].affine)
    np.testing.assert_array_equal(volumes[0].voxels_CDHW, volumes[1].voxels_CDHW)


@pytest.mark.real_data
def test_heads_of_real_scanners_fill_the_middle_of_the_box(real_data: Path) -> None:
    for path in sorted(real_data.glob("mri_age/*.nii.gz")):
        volume = to_volume(read_nifti(path.read_bytes(), name=path.name), RECIPE, name=path.name)
        assert volume.voxels_CDHW[0, 8:16, 8:16, 10:16].mean() > 100
        assert volume.voxels_CDHW[0, 0].mean() < 10


@pytest.mark.parametrize("seed", range(12))
def test_the_interpolation_of_oblique_scans_is_monai_s_to_the_last_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    voxels = rng.random(rng.integers(1, 40, 3)).astype(np.float32)
    grid = (int(rng.integers(1, 40)), int(rng.integers(2, 40)), int(rng.integers(2, 40)))
    source, wanted = np.eye(4), np.diag([*rng.uniform(0.5, 3.0, 3), 1.0])
    source[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 3.0, 3)
    source[:3, 3], wanted[:3, 3] = rng.normal(size=3) * 20, rng.normal(size=3) * 20
    theirs = SpatialResample(mode="bilinear", padding_mode="zeros", align_corners=True, dtype=torch.float32)(
        MetaTensor(torch.as_tensor(voxels)[None], affine=torch.as_tensor(source)),
        dst_affine=torch.as_tensor(wanted),
        spatial_size=grid,
    )
    ours = _trilinear(voxels, np.linalg.solve(source, wanted), grid)
    np.testing.assert_array_equal(ours, theirs.as_tensor()[0].numpy())
