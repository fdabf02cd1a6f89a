"""The head's position against the head: cut, tilted, padded, with neck, cap, headphones, noise and without skull.

The synthetic head is rendered with a known pose, so that the truth of a tilt is a formula; real heads are cut and
turned voxel by voxel.
"""

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import affine_transform, binary_dilation, binary_erosion, binary_fill_holes, shift
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from interscan.synthetic.brain.layers_brain import brain_layers
from interscan.synthetic.brain.layers_head import head_layers
from interscan.synthetic.brain.phantom import Tissue
from interscan.synthetic.brain.plan import subject_anatomy
from interscan.synthetic.brain.render import Grid, paint
from interscan.synthetic.brain.scanner import SCANNERS
from interscan.synthetic.pose import Pose
from preprocess.foreground import hot_limit
from preprocess.grey_levels import GreyLevels
from preprocess.head import doubts, find_head
from preprocess.readers import read_nifti
from preprocess.recipe import VolumeRecipe
from preprocess.transforms import to_volume
from preprocess.types import FloatArray, Image
from tests.support.images import head

LIMIT_MM = 2.0
EDGE_MM = 3.0
SHAPE = (66, 82, 86)
"""198 x 246 x 258 mm: the head with all of its neck, and air above."""
ORIGIN_MM = (-97.5, -130.5, -132.0)
VISITS = [(subject, modality) for subject in ("sub-01", "sub-12") for modality in ("T1w", "T2w", "FLAIR")]


def scan(rotation: Rotation | None = None, shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Image:
    """The synthetic head in its own coordinates, or put down elsewhere; T1w signal and noise of the first scanner."""
    grid = Grid(SHAPE, (EDGE_MM,) * 3, ORIGIN_MM)
    matrix = np.eye(3) if rotation is None else rotation.as_matrix()
    signal = np.array([SCANNERS[0].signal[tissue] for tissue in Tissue], np.float32) * 500
    anatomy = subject_anatomy(0, 1)
    layers = [*head_layers(anatomy), *brain_layers(anatomy, 0.2)]
    voxels_XYZ = paint(layers, grid, Pose(matrix, np.asarray(shift_mm)), signal)
    noise = np.random.default_rng(0).normal(0, 12, (2, *SHAPE))
    return Image(np.hypot(voxels_XYZ + noise[0], noise[1]).astype(np.float32), grid.affine, "float32")


@pytest.fixture(scope="module")
def plain() -> Image:
    return scan()


def centre_of(image: Image) -> np.ndarray:
    found = find_head(image)
    assert found is not None
    assert doubts(found, name="x") == []
    return found.centre_mm


def cut(image: Image, *, keep_mm: float = np.inf, above_mm: float = 0.0) -> Image:
    """The slices from `above_mm` below the head's top downwards, as far as `keep_mm` below it."""
    bright = np.flatnonzero((image.voxels_XYZ > 150).mean(axis=(0, 1)) > 0.004)
    edge_mm = image.affine[2, 2]
    top = int(bright[-1]) + 1
    stop = top - round(above_mm / edge_mm) if above_mm else image.voxels_XYZ.shape[2]
    start = max(0, top - round(min(keep_mm, 1e4) / edge_mm))
    affine = image.affine.copy()
    affine[2, 3] += start * edge_mm
    return Image(image.voxels_XYZ[:, :, start:stop], affine, image.dtype)


def painted(image: Image, voxels_XYZ: np.ndarray) -> Image:
    return Image(voxels_XYZ.astype(np.float32), image.affine, image.dtype)


@pytest.mark.parametrize("keep_mm", [200, 180, 160, 150, 140, 130, 120, 110, 100])
def test_slices_cut_off_below_do_not_move_the_head(keep_mm: float, plain: Image) -> None:
    assert np.linalg.norm(centre_of(cut(plain, keep_mm=keep_mm)) - centre_of(plain)) < LIMIT_MM


@pytest.mark.parametrize("above_mm", [3, 6, 12, 18, 24])
def test_slices_cut_off_above_do_not_move_the_head(above_mm: float, plain: Image) -> None:
    assert np.linalg.norm(centre_of(cut(plain, above_mm=above_mm)) - centre_of(plain)) < LIMIT_MM
    both = cut(cut(plain, above_mm=above_mm), keep_mm=150)
    assert np.linalg.norm(centre_of(both) - centre_of(plain)) < LIMIT_MM


@pytest.mark.parametrize("degrees", [(10, 0, 0), (-10, 0, 0), (0, 10, 0), (0, -10, 0), (0, 0, 10), (6, -5, 7)])
def test_a_tilted_head_is_found_at_the_same_place_of_the_head(degrees: tuple[float, ...], plain: Image) -> None:
    rotation, moved_mm = Rotation.from_euler("xyz", degrees, degrees=True), (4.0, -3.0, 6.0)
    truth_mm = rotation.apply(centre_of(plain)) + moved_mm
    tilted = scan(rotation, moved_mm)
    assert np.linalg.norm(centre_of(tilted) - truth_mm) < LIMIT_MM
    assert np.linalg.norm(centre_of(cut(tilted, keep_mm=140)) - truth_mm) < LIMIT_MM


@pytest.mark.parametrize("edges", [(1, 1, 1), (1, 1, 2), (2, 1, 1), (1, 2, 1)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, -1, 1)])
def test_slices_of_any_direction_and_thickness_show_it_there(
    edges: tuple[int, int, int], flips: tuple[int, int, int], plain: Image
) -> None:
    voxels_XYZ = plain.voxels_XYZ[:: edges[0] * flips[0], :: edges[1] * flips[1], :: edges[2] * flips[2]]
    start = [0 if flip > 0 else length - 1 for flip, length in zip(flips, SHAPE, strict=True)]
    affine = plain.affine @ nib.affines.from_matvec(np.diag(np.multiply(edges, flips)), start)
    volume = to_volume(Image(voxels_XYZ, affine, "float32"), VolumeRecipe(), name="x")
    middle_mm = nib.affines.apply_affine(volume.affine, [47.5, 47.5, 47.5])
    assert np.linalg.norm(middle_mm - centre_of(plain)) < LIMIT_MM


def _hot(image: Image) -> np.ndarray:
    voxels_XYZ = image.voxels_XYZ.copy()
    indices = np.random.default_rng(1).integers(0, voxels_XYZ.size, 400)
    voxels_XYZ.ravel()[indices] = hot_limit(GreyLevels.of(voxels_XYZ[::2, ::2, ::2]))
    return voxels_XYZ


def _headphones(image: Image) -> np.ndarray:
    voxels_XYZ = image.voxels_XYZ.copy()
    middle_mm = centre_of(image)
    x, y, z = (image.affine[axis, axis] * np.arange(SHAPE[axis]) + ORIGIN_MM[axis] for axis in range(3))
    ring = np.hypot((y - middle_mm[1])[:, None], (z - middle_mm[2] + 20)[None]) < 32
    for side in (np.abs(x - x[1]) < 4, np.abs(x - x[-2]) < 4):
        voxels_XYZ[side] = np.where(ring, 600, voxels_XYZ[side])
    return voxels_XYZ


def _hair(image: Image) -> np.ndarray:
    """A layer 9 mm thick behind and above, a tenth as bright as the scalp."""
    is_head = binary_fill_holes(image.voxels_XYZ > 150)
    around = binary_dilation(is_head, iterations=3) & ~is_head
    around[:, 55:] = False
    return np.where(around, image.voxels_XYZ + 50, image.voxels_XYZ)


def _cap(image: Image) -> np.ndarray:
    """Dots of an electrode cap, bright, 6 mm from the scalp."""
    is_head = binary_fill_holes(image.voxels_XYZ > 150)
    shell = binary_dilation(is_head, iterations=3) & ~binary_dilation(is_head, iterations=2)
    shell[:, :, :50] = False
    dots = shell & (np.indices(SHAPE) % 8 < 2).all(axis=0)
    return np.where(dots, 700, image.voxels_XYZ)


def _bright_fat(image: Image) -> np.ndarray:
    is_head = binary_fill_holes(image.voxels_XYZ > 150)
    return np.where(is_head & ~binary_erosion(is_head), image.voxels_XYZ * 4, image.voxels_XYZ)


def _shaded_from_behind(image: Image) -> np.ndarray:
    return image.voxels_XYZ * np.exp(np.linspace(1, -1, SHAPE[1]))[:, None]


def _shaded_from_below(image: Image) -> np.ndarray:
    return image.voxels_XYZ * np.exp(np.linspace(1, -1, SHAPE[2]))


def _stripped(image: Image) -> np.ndarray:
    """Nothing but the outer 3 mm of air is taken away: the outline is the same with air of exactly zero."""
    is_head = binary_fill_holes(image.voxels_XYZ > 150)
    return np.where(binary_dilation(is_head), image.voxels_XYZ, 0)


def _inverted(image: Image) -> np.ndarray:
    """As in T2w: fluid bright, white matter dark."""
    is_head = binary_fill_holes(image.voxels_XYZ > 150)
    return np.where(is_head, 750 - image.voxels_XYZ.clip(0, 600), image.voxels_XYZ)


def _defaced(image: Image) -> np.ndarray:
    voxels_XYZ = image.voxels_XYZ.copy()
    voxels_XYZ[:, 56:, :38] = 0
    return voxels_XYZ


def _padded(image: Image) -> np.ndarray:
    """The lower slices are there, and hold nothing: a cut scan in a matrix of the old size."""
    voxels_XYZ = image.voxels_XYZ.copy()
    voxels_XYZ[:, :, :35] = 0
    return voxels_XYZ


@pytest.mark.parametrize(
    "disturb",
    [
        _hot,
        _headphones,
        _hair,
        _cap,
        _bright_fat,
        _shaded_from_behind,
        _shaded_from_below,
        _stripped,
        _inverted,
        _defaced,
        _padded,
    ],
)
def test_what_is_worn_or_goes_wrong_does_not_move_the_head(
    disturb: Callable[[Image], np.ndarray], plain: Image
) -> None:
    disturbed = painted(plain, disturb(plain))
    assert not np.array_equal(disturbed.voxels_XYZ, plain.voxels_XYZ)
    assert np.linalg.norm(centre_of(disturbed) - centre_of(plain)) < LIMIT_MM


def test_a_slab_without_the_skull_says_that_the_box_is_unsure(plain: Image) -> None:
    slab = cut(cut(plain, above_mm=60), keep_mm=125)
    volume = to_volume(slab, VolumeRecipe(), name="sub-01_T1w")
    (finding,) = volume.findings
    assert finding.code in ("head_cut", "head_unclear")
    assert not finding.leaves_out
    assert finding.message.startswith("sub-01_T1w: ")
    assert "leave" in finding.message


def test_what_is_no_head_lies_in_the_middle_and_says_so() -> None:
    voxels_XYZ = np.zeros((60, 60, 60), np.float32)
    voxels_XYZ[5:25, 20:30, 10:50] = 100
    image = Image(voxels_XYZ, np.diag([4.0, 4.0, 4.0, 1.0]), "float32")
    volume = to_volume(image, VolumeRecipe(), name="x")
    assert [finding.code for finding in volume.findings] == ["head_unclear"]
    middle_mm = nib.affines.apply_affine(volume.affine, [47.5, 47.5, 47.5])
    assert np.abs(middle_mm - 4 * np.array([14.5, 24.5, 29.5])).max() < 5


def test_the_ellipsoid_of_the_tests_is_found_in_its_middle() -> None:
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[:3, 3] = -94
    found = find_head(Image(np.maximum(head() - 20.0, 0).astype(np.float32), affine, "int16"))
    assert found is not None
    assert np.abs(found.centre_mm[:2]).max() < 8
    assert abs(found.centre_mm[2]) < 15


def _turned(image: Image, rotation: Rotation) -> tuple[Image, np.ndarray]:
    """A real head turned about the middle of its field of view; and that middle."""
    middle_mm = nib.affines.apply_affine(image.affine, (np.array(image.voxels_XYZ.shape) - 1) / 2)
    back = rotation.inv().as_matrix()
    step = np.linalg.inv(image.affine) @ nib.affines.from_matvec(back, middle_mm - back @ middle_mm) @ image.affine
    voxels_XYZ = affine_transform(image.voxels_XYZ, step[:3, :3], step[:3, 3], order=1)
    return Image(voxels_XYZ, image.affine, image.dtype), middle_mm


def _ready(path: Path) -> Image:
    image = read_nifti(path.read_bytes(), name=path.name)
    turn = nib.orientations.io_orientation(image.affine)
    voxels_XYZ = nib.orientations.apply_orientation(image.voxels_XYZ, turn)
    affine = image.affine @ nib.orientations.inv_ornt_aff(turn, image.voxels_XYZ.shape)
    # The test's cut asks for tissue above 150.
    return Image(np.asarray(voxels_XYZ * (1000 / np.percentile(voxels_XYZ, 98)), np.float32), affine, image.dtype)


@pytest.mark.real_data
@pytest.mark.parametrize(
    "name", ["mri_age/IXI012", "mri_age/IXI015", "mri_age/IXI034", "mri_age/IXI049", "mni/mni152_t1_2mm_R"]
)
def test_real_heads_cut_at_either_end_or_tilted_lie_where_they_lay(name: str, real_data: Path) -> None:
    (path,) = real_data.glob(f"{name}*.nii.gz")
    image = _ready(path)
    whole_mm = centre_of(image)
    for keep_mm in (200, 180, 160, 140, 120):
        assert np.linalg.norm(centre_of(cut(image, keep_mm=keep_mm)) - whole_mm) < LIMIT_MM
    for above_mm in (6, 10, 16, 20):
        assert np.linalg.norm(centre_of(cut(image, above_mm=above_mm)) - whole_mm) < LIMIT_MM
    for axis in np.eye(3):
        for degrees in (-10, 10):
            rotation = Rotation.from_rotvec(axis * degrees, degrees=True)
            tilted, middle_mm = _turned(image, rotation)
            truth_mm = rotation.apply(whole_mm - middle_mm) + middle_mm
            assert np.linalg.norm(centre_of(tilted) - truth_mm) < LIMIT_MM


def _correlation(first: FloatArray, second: FloatArray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


@pytest.mark.real_data
@pytest.mark.parametrize(("subject", "modality"), VISITS)
def test_two_visits_of_one_person_correlate_as_their_best_translation(
    subject: str, modality: str, real_data: Path
) -> None:
    volumes = []
    for session in ("ses-01", "ses-02"):
        path = real_data / "mri_longitudinal" / subject / session / "anat" / f"{subject}_{session}_{modality}.nii.gz"
        volume = to_volume(read_nifti(path.read_bytes(), name="x"), VolumeRecipe(), name="x")
        assert volume.findings == ()
        volumes.append(volume.voxels_CDHW[0].astype(np.float32))

    def negative(step: np.ndarray) -> float:
        return -_correlation(volumes[0], shift(volumes[1], step, order=1))

    start = np.vstack([np.zeros(3), np.eye(3) * 1.5])
    best = minimize(negative, np.zeros(3), method="Nelder-Mead", options={"initial_simplex": start, "maxfev": 60})
    assert _correlation(*volumes) > -best.fun - 0.05
    assert -best.fun > 0.85
