"""Files to volumes with the steps that a recipe asks for: what is recorded, what fails, the way back to the scan."""

import sys

import nibabel as nib
import numpy as np
import pytest

from preprocess import transforms
from preprocess.errors import UsageError
from preprocess.preparation.rigid import farthest_mm, inverse
from preprocess.recipe import VolumeRecipe
from preprocess.volumes import Prepared, ScanFile, prepare_volume, prepare_volumes
from tests.support.heads import head_nifti, nifti
from tests.support.turned_heads import grey_at, pose, turned_head, turned_nifti

PLAIN = VolumeRecipe(grid=(48, 48, 48), spacing_mm=4.0, dtype="float32")
SUBJECT = PLAIN.model_copy(update={"registration": "subject"})
N4 = PLAIN.model_copy(update={"bias_field": "n4"})
POSES = [pose((3, -2, 5), (4, -3, 2)), pose((-4, 3, -6), (-6, 5, 1))]
FILES = [ScanFile(turned_nifti(one, seed=seed), f"visit {seed}") for seed, one in enumerate(POSES)]


@pytest.fixture(scope="module")
def registered() -> list[Prepared]:
    return prepare_volumes(FILES, SUBJECT)


def affine_of(prepared: Prepared) -> np.ndarray:
    return np.array(prepared.affine).reshape(4, 4)


def apart(first: Prepared, second: Prepared) -> float:
    assert first.values is not None
    assert second.values is not None
    return float(np.abs(first.values - second.values).mean())


def test_registered_visits_differ_by_noise_where_others_differ_by_their_turn(registered: list[Prepared]) -> None:
    before = prepare_volumes(FILES, PLAIN)
    assert apart(*registered) < 0.5 * apart(*before)


def test_a_landmark_goes_from_the_scan_to_the_grid_and_back(registered: list[Prepared]) -> None:
    # The same point of the head lies at one place of both grids, whose affines know where it was in each scan.
    landmark = np.array([21.0, -34.0, 17.0, 1.0])
    places = [np.linalg.inv(affine_of(one)) @ true @ landmark for one, true in zip(registered, POSES, strict=True)]
    assert np.abs(places[0] - places[1])[:3].max() * SUBJECT.spacing_mm < 0.1
    for one, place, true in zip(registered, places, POSES, strict=True):
        assert affine_of(one) @ place == pytest.approx(true @ landmark, abs=0.01)


def test_the_grid_lies_on_the_scan_as_nibabel_places_it(registered: list[Prepared]) -> None:
    one = registered[0]
    assert one.values is not None
    index = np.stack(np.meshgrid(*map(np.arange, SUBJECT.grid), indexing="ij"), -1).reshape(-1, 3)
    scanner_mm = nib.affines.apply_affine(affine_of(one), index)
    truth = grey_at(nib.affines.apply_affine(inverse(POSES[0]), scanner_mm))
    stored = one.values[0].ravel()
    right = np.corrcoef(truth, stored)[0, 1]
    elsewhere = grey_at(nib.affines.apply_affine(inverse(POSES[1]), scanner_mm))
    assert right > 0.98
    assert np.corrcoef(elsewhere, stored)[0, 1] < right - 0.04


def test_a_registered_scan_is_interpolated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = []
    whole = transforms.resample
    monkeypatch.setattr(transforms, "resample", lambda *given: counted.append(given[1]) or whole(*given))
    prepare_volumes(FILES, SUBJECT)
    assert len(counted) == len(FILES)  # coarse copies are made by another module and never stored


def test_one_interpolation_gives_what_the_formula_gives() -> None:
    """A linear ramp survives one trilinear interpolation at any place to rounding, and smoothing leaves it as it is."""
    voxels, affine = turned_head(POSES[0], noise=0)
    prepared = prepare_volumes(FILES, SUBJECT)[0]
    ramp = np.indices(voxels.shape)[0].astype(np.float32) + 100
    moved = affine_of(prepared)
    image = transforms.replace(transforms.Image(ramp, affine, "float32"))
    # The grid in the scan's space is oblique: place the scan so that the grid's axes are the world's.
    to_grid = transforms.grid_affine(np.zeros(3), SUBJECT.grid, np.full(3, SUBJECT.spacing_mm))
    placed = transforms.replace(image, affine=to_grid @ np.linalg.inv(moved) @ affine)
    found = transforms.resample(placed, to_grid, SUBJECT.grid)
    index = np.stack(np.meshgrid(*map(np.arange, SUBJECT.grid), indexing="ij"), -1)
    expected = nib.affines.apply_affine(np.linalg.inv(affine) @ moved, index)[..., 0] + 100
    inner = (slice(12, 36),) * 3
    assert np.abs(found[inner] - expected[inner]).max() < 0.01


def test_what_was_done_is_recorded(registered: list[Prepared]) -> None:
    for one in registered:
        assert one.preparation is not None
        assert one.preparation.registered_to == "subject"
        assert one.preparation.num_registered == 2
        assert one.preparation.agreement is not None
        assert one.preparation.agreement > 0.97
    assert prepare_volume(FILES[0].data, PLAIN, name="x").preparation is None


def test_the_order_of_files_changes_no_voxel(registered: list[Prepared]) -> None:
    second, first = prepare_volumes(FILES[::-1], SUBJECT)
    for one, other in ((first, registered[0]), (second, registered[1])):
        assert one.values is not None
        assert np.array_equal(one.values, other.values)
        assert one.affine == other.affine


def test_the_only_scan_of_a_person_stays_where_it_is_and_says_so() -> None:
    (alone,) = prepare_volumes(FILES[:1], SUBJECT)
    assert alone.preparation is not None
    assert alone.preparation.registered_to == "alone"
    plain = prepare_volume(FILES[0].data, PLAIN, name="visit 0")
    assert np.array_equal(alone.values, plain.values)
    assert not alone.findings


def test_a_file_that_cannot_be_read_leaves_the_others_registered(registered: list[Prepared]) -> None:
    damaged, first, second = prepare_volumes([ScanFile(b"\x1f\x8bnothing", "damaged"), *FILES], SUBJECT)
    assert damaged.values is None
    assert damaged.findings[0].leaves_out
    assert np.array_equal(first.values, registered[0].values)
    assert np.array_equal(second.values, registered[1].values)


def test_another_persons_scan_is_a_finding_and_stays_where_it_was() -> None:
    stranger = ScanFile(turned_nifti(POSES[1], person=1, seed=3), "visit 3")
    first, other = prepare_volumes([FILES[0], stranger], SUBJECT)
    for one, file in ((first, FILES[0]), (other, stranger)):
        (finding,) = [finding for finding in one.findings if finding.code == "registration_failed"]
        assert finding.message.startswith(f"{file.name}: not registered to the other scans of the person: it agrees to")
        assert not finding.leaves_out
        assert one.preparation is not None
        assert one.preparation.registered_to == "failed"
        assert np.array_equal(one.values, prepare_volume(file.data, PLAIN, name=file.name).values)


def test_n4_takes_a_shading_out_and_says_how_much_there_was() -> None:
    shaded, even = (turned_nifti(pose(), shading=shading) for shading in (0.35, 0.0))
    before, reference = (prepare_volume(data, PLAIN, name="x").values for data in (shaded, even))
    after = prepare_volume(shaded, N4, name="x")
    assert after.values is not None
    assert after.preparation is not None
    assert after.preparation.bias_ratio is not None
    assert 1.2 < after.preparation.bias_ratio < 1.8
    brain = (0, slice(14, 34), slice(12, 36), slice(16, 32))

    def slope(values: np.ndarray) -> float:
        """Share by which brightness changes from one side of the brain to the other."""
        means = values[brain].mean(axis=(1, 2))
        return float(np.polyfit(np.arange(len(means)), means, 1)[0]) * len(means) / float(means.mean())

    left, was = (slope(values) - slope(reference) for values in (after.values, before))
    assert abs(was) > 0.08
    assert abs(left) < 0.35 * abs(was)


def test_n4_gives_the_same_bytes_again() -> None:
    first, second = (prepare_volume(FILES[0].data, N4, name="x").values for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.tobytes() == second.tobytes()


def test_n4_that_finds_too_little_is_a_finding_and_the_scan_is_kept() -> None:
    voxels = np.zeros((48, 48, 48), np.int16)
    voxels[20:26, 20:26, 20:26] = 900
    recipe = N4.model_copy(update={"quality": N4.quality.model_copy(update={"min_foreground": 0.0001})})
    affine = np.diag([4.0, 4, 4, 1])
    found = prepare_volume(nifti(voxels, affine), recipe, name="x")
    assert found.values is not None
    assert [finding.code for finding in found.findings if finding.code == "bias_field_failed"]


@pytest.mark.parametrize("steps", [{"bias_field": "n4"}, {"registration": "template"}])
def test_without_simpleitk_one_line_says_what_to_install(
    steps: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(UsageError, match=r"needs SimpleITK.*pip install 'interscan\[imaging\]'"):
        prepare_volume(head_nifti(), PLAIN.model_copy(update=steps), name="x")


def test_registration_of_visits_needs_no_further_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    assert all(one.values is not None for one in prepare_volumes(FILES, SUBJECT))


def test_visits_registered_after_n4_lie_together_too() -> None:
    both = SUBJECT.model_copy(update={"bias_field": "n4"})
    files = [ScanFile(turned_nifti(one, seed=n, shading=0.3 * (-1) ** n), f"visit {n}") for n, one in enumerate(POSES)]

    def apart_mm(recipe: VolumeRecipe) -> float:
        motions = [
            inverse(true) @ affine_of(one) for one, true in zip(prepare_volumes(files, recipe), POSES, strict=True)
        ]
        return farthest_mm(motions[0] @ np.linalg.inv(motions[1]))

    assert apart_mm(both) < min(1.0, apart_mm(SUBJECT))
