"""How far the box moves when a scan covers less, is tilted or is made another day: mm by case, before and now.

    python -m benchmarks.head_box ../shared/data            the tables of docs/adr/0012-head-box.md
    python -m benchmarks.head_box ../shared/data --learn    the mean half axes and bulges of preprocess/head.py

Before: 85 mm below the top of the head, or the middle of the foreground where that is higher (transform version 1).
Best: of all translations of the second visit's volume, the one with the highest correlation.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import affine_transform, shift
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from interscan.synthetic.brain.plan import describe_brain_cohort, scan_stream, subject_anatomy
from interscan.synthetic.brain.scanner import acquire, grid_of
from preprocess import head as heads
from preprocess.foreground import foreground_box, otsu_threshold
from preprocess.grey_levels import WHOLE_RANGE, GreyLevels
from preprocess.head_outline import find_outline
from preprocess.readers import read_nifti
from preprocess.recipe import VolumeRecipe
from preprocess.transforms import _closest_to_ras, _to_unit_range, grid_affine, resample
from preprocess.types import FloatArray, Image

KEPT_MM = (180, 160, 140, 120, 110, 100, 90, 80)
CUT_MM = (5, 10, 20, 30, 40, 50)
TILTS = (10, 20)
RECIPE = VolumeRecipe(dtype="float32")


def ready(image: Image) -> Image:
    """As `to_volume` prepares it."""
    image = _closest_to_ras(image)
    black = np.float32(np.percentile(image.voxels_XYZ[::2, ::2, ::2], 0.5))
    return replace(image, voxels_XYZ=np.maximum(image.voxels_XYZ - black, 0))


def placed_before(image: Image) -> np.ndarray:
    """The box's centre by transform version 1."""
    low_mm, high_mm = foreground_box(image, otsu_threshold(GreyLevels.of(image.voxels_XYZ[::2, ::2, ::2])))
    centre_mm = (low_mm + high_mm) / 2
    centre_mm[2] = max(centre_mm[2], high_mm[2] - 85.0)
    return centre_mm


def placed_now(image: Image) -> np.ndarray:
    """The box's centre by this version."""
    found = heads.find_head(image)
    return np.full(3, np.nan) if found is None else found.centre_mm


def cut(image: Image, start: int, stop: int) -> Image:
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, 2] * start
    return Image(image.voxels_XYZ[:, :, start:stop], affine, image.dtype)


def tilted(image: Image, rotation: Rotation) -> tuple[Image, np.ndarray]:
    """Turned about the middle of its field of view, within the same voxels; and that middle."""
    middle_mm = nib.affines.apply_affine(image.affine, (np.array(image.voxels_XYZ.shape) - 1) / 2)
    back = rotation.inv().as_matrix()
    step = np.linalg.inv(image.affine) @ nib.affines.from_matvec(back, middle_mm - back @ middle_mm) @ image.affine
    return replace(image, voxels_XYZ=affine_transform(image.voxels_XYZ, step[:3, :3], step[:3, 3], order=1)), middle_mm


def cases(image: Image) -> Iterator[tuple[str, Image, Rotation, np.ndarray]]:
    """What the scan might have been: a name, the image, and how the head was turned about which point."""
    outline = heads._find_outline(image)
    top_mm = nib.affines.apply_affine(outline.affine, np.argwhere(outline.inside))[:, 2].max() + 2
    edge_mm, num_slices = image.spacing_mm[2], image.voxels_XYZ.shape[2]
    top = round((top_mm - image.affine[2, 3]) / edge_mm)
    still = Rotation.identity(), np.zeros(3)
    for kept_mm in KEPT_MM:
        if top - round(kept_mm / edge_mm) > 0:
            yield f"{kept_mm} mm kept below the top", cut(image, top - round(kept_mm / edge_mm), num_slices), *still
    for cut_mm in CUT_MM:
        yield f"{cut_mm} mm cut off the top", cut(image, 0, top - round(cut_mm / edge_mm)), *still
    for axis, name in zip(np.eye(3), ("nodded", "tilted", "turned"), strict=True):
        for degrees in TILTS:
            for sign in (-1, 1):
                rotation = Rotation.from_rotvec(axis * degrees * sign, degrees=True)
                turned, middle_mm = tilted(image, rotation)
                yield f"{name} by {degrees} degrees", turned, rotation, middle_mm
    for axis in range(3):
        for sign in (-1, 1):
            yield "coil at one side", shaded(image, axis, sign), *still


def shaded(image: Image, axis: int, sign: int) -> Image:
    """As a coil at one side sees it: seven times as bright there as at the other."""
    slope = np.exp(np.linspace(-sign, sign, image.voxels_XYZ.shape[axis]))
    slope_XYZ = np.moveaxis(slope[:, None, None], 0, axis)
    return replace(image, voxels_XYZ=(image.voxels_XYZ * slope_XYZ).astype(np.float32))


def real_heads(data: Path) -> dict[str, Image]:
    paths = [*sorted(data.glob("mri_age/*.nii.gz")), data / "mni" / "mni152_t1_2mm_RAS.nii.gz"]
    return {path.name: ready(read_nifti(path.read_bytes(), name=path.name)) for path in paths}


def synthetic_heads(num_subjects: int = 4) -> dict[str, Image]:
    found = {}
    for subject in describe_brain_cohort(num_subjects=num_subjects, num_visits=1, seed=0):
        session = subject.sessions[0]
        grid = grid_of(session.machine, 2.0)
        anatomy, rng = subject_anatomy(0, subject.number), scan_stream(0, subject.number, session)
        voxels_XYZ = acquire(anatomy, session.atrophy, session.machine, grid, rng).astype(np.float32)
        found[subject.subject_id] = ready(Image(voxels_XYZ, grid.affine, "int16"))
    return found


def print_shifts(title: str, images: dict[str, Image]) -> None:
    """Largest and root mean square distance in mm over the heads, and how much of the skull was seen at least."""
    shifts: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for image in images.values():
        whole_before_mm, whole_now_mm = placed_before(image), placed_now(image)
        for name, changed, rotation, middle_mm in cases(image):
            before, now = (
                float(np.linalg.norm(placed - (rotation.apply(whole - middle_mm) + middle_mm)))
                for placed, whole in ((placed_before(changed), whole_before_mm), (placed_now(changed), whole_now_mm))
            )
            found = heads.find_head(changed)
            shifts[name].append((before, now, 0.0 if found is None else found.seen))
    print(f"\n{title} ({len(images)} heads)\n{'':28s}  before: max   rms   now: max   rms   seen")
    for name, rows in shifts.items():
        before, now, seen = np.array(rows).T
        rms = [np.sqrt(np.mean(np.square(values))) for values in (before, now)]
        print(f"{name:28s}  {before.max():11.1f} {rms[0]:5.1f} {now.max():10.1f} {rms[1]:5.1f} {seen.min():6.0%}")


def volume_at(image: Image, centre_mm: np.ndarray) -> FloatArray:
    spacing_mm = np.full(3, RECIPE.spacing_mm)
    resampled = resample(image, grid_affine(centre_mm, RECIPE.grid, spacing_mm), RECIPE.grid)
    return _to_unit_range(resampled, RECIPE.intensity_percentiles[1])


def correlation(first: FloatArray, second: FloatArray) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


def best_translation(first: FloatArray, second: FloatArray) -> tuple[float, float]:
    """The highest correlation, and the translation in mm that gives it."""
    start = np.vstack([np.zeros(3), np.eye(3) * 1.5])
    found = minimize(
        lambda step: -correlation(first, shift(second, step, order=1)),
        np.zeros(3),
        method="Nelder-Mead",
        options={"initial_simplex": start, "maxfev": 80, "xatol": 0.05, "fatol": 1e-5},
    )
    return -float(found.fun), float(np.linalg.norm(found.x) * RECIPE.spacing_mm)


def print_visits(data: Path) -> None:
    print(f"\n{'two visits of one person':28s}  before    now   best  best lies at")
    for subject in ("sub-01", "sub-12"):
        for modality in ("T1w", "T2w", "FLAIR"):
            paths = sorted(data.glob(f"mri_longitudinal/{subject}/ses-*/anat/*_{modality}.nii.gz"))
            images = [ready(read_nifti(path.read_bytes(), name=path.name)) for path in paths]
            before = correlation(*[volume_at(image, placed_before(image)) for image in images])
            volumes = [volume_at(image, placed_now(image)) for image in images]
            best, best_mm = best_translation(*volumes)
            name = f"{subject} {modality}"
            print(f"{name:28s}  {before:6.3f} {correlation(*volumes):6.3f} {best:6.3f}  {best_mm:.1f} mm")


def learn(images: dict[str, Image], rounds: int = 3, ridge: float = 1e-3) -> None:
    """Fit ellipsoids that hardly turn, then one polynomial to what they leave, and so on; prints the constants.

    Points within 8 % of the surface count, of the whole vault with its crown.
    """
    exponents = [row[:3] for row in heads._BULGES]
    saved = heads._BULGES, heads._MEAN_HALF_AXES_MM, heads._ANGLES_SD
    heads._BULGES, heads._ANGLES_SD = tuple((*row, 0.0) for row in exponents), np.radians([2.0, 2.0, 2.0])
    for _ in range(rounds):
        left, right, axes = np.zeros((len(exponents),) * 2), np.zeros(len(exponents)), []
        for image in images.values():
            found, outline = heads.find_head(image), find_outline(image, WHOLE_RANGE)
            scaled = (outline.points_3N.T - found.centre_mm) / found.half_axes_mm
            radius = np.linalg.norm(scaled, axis=1)
            directions = scaled / radius[:, None]
            height = directions[:, 2] - heads._BROW * np.maximum(directions[:, 1], 0)
            used = (height > -0.35) & (np.abs(radius / heads._bulge(directions.T)[0] - 1) < 0.08)
            terms = np.stack([np.prod(directions[used] ** np.array(row), axis=1) for row in exponents], axis=1)
            left += terms.T @ terms / used.sum()
            right += terms.T @ (radius[used] - 1) / used.sum()
            axes.append(np.log(found.half_axes_mm))
        shares = np.linalg.solve(left + ridge * np.eye(len(exponents)), right)
        heads._BULGES = tuple((*row, float(share)) for row, share in zip(exponents, shares, strict=True))
        heads._MEAN_HALF_AXES_MM = np.exp(np.mean(axes, axis=0))
    print("half axes, mm:", np.round(heads._MEAN_HALF_AXES_MM, 1).tolist())
    for row, share in zip(exponents, shares, strict=True):
        print(row, f"{share:.3f}")
    heads._BULGES, heads._MEAN_HALF_AXES_MM, heads._ANGLES_SD = saved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder with mri_age, mni and mri_longitudinal")
    parser.add_argument("--learn", action="store_true", help="print the constants of preprocess/head.py")
    arguments = parser.parse_args()
    if not (arguments.data / "mri_age").is_dir():
        parser.error(f"{arguments.data}: no folder mri_age in it; give the folder of real data")
    real = real_heads(arguments.data)
    if arguments.learn:
        learn(real)
        return
    print_shifts("Real heads, from which the mean shape comes", real)
    print_shifts("Synthetic heads, 192 mm of field of view", synthetic_heads())
    print_visits(arguments.data)


if __name__ == "__main__":
    main()
