"""Rigid registration: scans of one person to the mean of them all, or a scan to the template that ships.

To the mean (after Reuter et al. 2012, "Within-subject template estimation for unbiased longitudinal image analysis"):
in each pass every scan is registered to the mean of the others, all at once, and goes (n - 1)/n of the way there, which
is half for two scans; then all move together so that the mean of their motions is none. No scan is the reference, and
none is laid on a mean that holds itself, where it would rest. Scans are taken in the order of their content, so that
the order in which they are given changes no bit.

Six degrees of freedom, no scale: size is what atrophy changes. Grey values are compared by robust least squares for
scans of one contrast (gauss_newton.py) and by Mattes mutual information for the template (SimpleITK), in an ellipsoid
about the skull's vault without jaw and neck.
"""

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform, binary_dilation, gaussian_filter
from scipy.spatial.transform import Rotation
from threadpoolctl import threadpool_limits

from preprocess.grey_levels import WHOLE_RANGE
from preprocess.placing import closest_to_ras
from preprocess.preparation.gauss_newton import COARSE_TO_FINE, FINEST, register
from preprocess.preparation.head_copy import AROUND_ORIGIN, EDGE, SPACING_MM, HeadCopy, copy_of
from preprocess.preparation.imaging import load_simpleitk, to_itk
from preprocess.preparation.rigid import centred, farthest_mm, inverse, motion, part_of, turn_deg
from preprocess.types import Affine, FloatArray, Image

TEMPLATE_FILE = Path(__file__).parent / "template" / "icbm152_2009a_t1_2mm.nii.gz"
TEMPLATE_CENTRE_MM = (0.0, -18.0, 12.0)
_HALF_AXES_MM = (86.0, 112.0, 96.0)
"""The mean vault (preprocess.head) and the scalp around it."""
_BRAIN_SHARE = 0.72
_LOWEST_MM = -66.0
"""Below the cerebellum: jaw and neck move against the skull."""
_PASSES, _STILL_MM = 6, 0.05
_DETAIL_VOXELS = (1.0, 4.0)
"""Agreement is judged on details of 3 to 12 mm: shading, and what another scanner makes brighter, is coarser."""
_LEAST_AGREEMENT = 0.87
"""Correlation of details within the brain: 0.90 to 0.99 for visits of the real people at hand, 0.95 and more for
synthetic ones on two scanners, 0.63 to 0.84 for two people, real or synthetic."""
_STARTS_DEG, _MOST_APART_MM = (12.0, -12.0), 4.0
_LEAST_SEEN = 0.6
_MOST_TURN_DEG = 45.0
_BINS = 32
_TEMPLATE_BRAIN = 25.0
"""Grey value of the template's 255 above which it is brain."""


@dataclass(frozen=True, slots=True)
class Registered:
    """How one scan was registered.

    Attributes:
        to_common: rigid, from the scan's RAS+ mm to the common space's; there the middle of the box is the origin.
        agreement: correlation of details with the mean of the others within the brain; for the template, the share of
            the scan's variance that the template's grey values explain. 1 is perfect.
        seen: share of the head within the field of view.
        turn_deg: angle between the scan's own axes and those of the common space.
        shift_mm: distance of the middle of the scan's head from the origin there.
        trouble: why it is not to be used, as one clause; empty where it is.
    """

    to_common: Affine
    agreement: float
    seen: float
    turn_deg: float
    shift_mm: float
    trouble: str = ""


def register_visits(copies: Sequence[HeadCopy]) -> list[Registered]:
    """Register scans of one person and one contrast to their mean.

    A scan that cannot be registered is taken out and the others are registered without it; of two, neither is used,
    since nothing says which of them is wrong.

    Args:
        copies: two or more, in any order.

    Returns:
        One for each copy, in their order.
    """
    # One BLAS thread: more add up in another order, and the last digits would depend on the cores of the machine.
    with threadpool_limits(limits=1, user_api="blas"):
        return _register_visits(copies)


def _register_visits(copies: Sequence[HeadCopy]) -> list[Registered]:
    keys = [hashlib.sha256(np.ascontiguousarray(one.values_XYZ).data).hexdigest() for one in copies]
    left = sorted(range(len(copies)), key=keys.__getitem__)
    found: dict[int, Registered] = {}
    while left:
        judged = dict(zip(left, _to_mean([copies[number] for number in left]), strict=True))
        troubled = [number for number in left if judged[number].trouble]
        # One scan that is wrong spoils the mean of the others: the worst is taken out, and the rest judged anew.
        is_last = not troubled or len(left) <= 2
        out = left if is_last else [min(troubled, key=lambda number: judged[number].agreement)]
        found |= {number: judged[number] for number in out}
        left = [number for number in left if number not in out]
    return [found[number] for number in range(len(copies))]


def register_to_template(copy: HeadCopy) -> Registered:
    """Register one scan of any contrast to the template that ships.

    Returns:
        As `register_visits`; the common space is the template's, with its origin in the middle of the template's vault.

    Raises:
        UsageError: SimpleITK is not installed.
    """
    sitk = load_simpleitk('registration = "template"')
    template = template_copy()
    ends = []
    for nod_deg in _STARTS_DEG:
        back = motion(Rotation.from_euler("x", nod_deg, degrees=True).as_matrix(), np.zeros(3))
        for levels in ((4, 2), (1,)):
            back = _to_template(sitk, template.values_XYZ, copy, _template_mask(), back, levels=levels)
        ends.append(back)
    # No grey value says whether heads of different people and contrasts lie together; that all ways lead there does.
    from_centre = part_of(inverse(ends[1]) @ ends[0], 0.5) @ inverse(ends[0])
    apart_mm = farthest_mm(inverse(ends[0]) @ ends[1])
    seen_XYZ = _resampled(copy.is_seen_XYZ.astype(np.float32), from_centre) > 0.5
    values_XYZ = _resampled(copy.values_XYZ, from_centre)
    within = _template_mask() & seen_XYZ
    agreement = _explained(template.values_XYZ[within], values_XYZ[within])
    seen = float(seen_XYZ[_head_mask()].mean())
    why = ""
    if apart_mm > _MOST_APART_MM:
        why = f"two starts end {apart_mm:.1f} mm apart, more than {_MOST_APART_MM:g}"
    return _judged(copy, from_centre, agreement, seen, why)


@cache
def template_copy() -> HeadCopy:
    """The template at 3 mm about the middle of its vault."""
    file = nib.nifti1.Nifti1Image.from_bytes(gzip.decompress(TEMPLATE_FILE.read_bytes()))
    image = closest_to_ras(Image(np.asarray(file.dataobj), np.asarray(file.affine, np.float64), "uint8"))
    return copy_of(image, np.array(TEMPLATE_CENTRE_MM), WHOLE_RANGE)


@cache
def _template_mask() -> npt.NDArray[np.bool_]:
    """The template's brain and what lies within 9 mm of it: it has no skull, which must not be laid on black."""
    is_brain_XYZ: npt.NDArray[np.bool_] = template_copy().values_XYZ > _TEMPLATE_BRAIN
    return np.asarray(binary_dilation(is_brain_XYZ, iterations=2)) & _head_mask()


@cache
def _head_mask() -> npt.NDArray[np.bool_]:
    """Where scans are compared: the vault and the brain below it, about the origin."""
    return _ellipsoid(1.0)


@cache
def _brain_mask() -> npt.NDArray[np.bool_]:
    """Where it is judged how well they agree: brain, and no skull, which is much alike in all people."""
    return _ellipsoid(_BRAIN_SHARE)


def _ellipsoid(share: float) -> npt.NDArray[np.bool_]:
    ticks = (np.arange(EDGE) - (EDGE - 1) / 2) * SPACING_MM
    right, anterior, superior = np.meshgrid(ticks, ticks, ticks, indexing="ij", sparse=True)
    a, b, c = (share * half_mm for half_mm in _HALF_AXES_MM)
    radii = (right / a) ** 2 + (anterior / b) ** 2 + (superior / c) ** 2
    inside: npt.NDArray[np.bool_] = (radii <= 1) & (superior >= _LOWEST_MM)
    return inside


def _to_mean(copies: Sequence[HeadCopy]) -> list[Registered]:
    """All passes; the result of each copy, with its trouble where it has any."""
    num = len(copies)
    # From the middle of each head to the common space: at first, the middles lie together.
    poses = [np.eye(4) for _ in copies]
    for number in range(_PASSES):
        means = _means_of_others(copies, poses)
        sigmas = COARSE_TO_FINE if number == 0 else FINEST
        moves = []
        for copy, pose, (mean, is_seen) in zip(copies, poses, means, strict=True):
            start = inverse(pose)
            to_copy = register(mean, copy.values_XYZ, is_seen, copy.is_seen_XYZ, AROUND_ORIGIN, start, sigmas)
            moves.append(inverse(to_copy) @ start)
        moved = centred([part_of(move, (num - 1) / num) @ pose for move, pose in zip(moves, poses, strict=True)])
        farthest = max(farthest_mm(after @ inverse(pose)) for after, pose in zip(moved, poses, strict=True))
        poses = moved
        if farthest < _STILL_MM:
            break
    found = []
    for copy, pose, (mean, is_seen) in zip(copies, poses, _means_of_others(copies, poses), strict=True):
        seen_XYZ = _resampled(copy.is_seen_XYZ.astype(np.float32), pose) > 0.5
        within = is_seen & seen_XYZ & _brain_mask()
        values_XYZ = _resampled(copy.values_XYZ, pose)
        agreement = _correlation(_details(mean)[within], _details(values_XYZ)[within])
        why = ""
        if not agreement >= _LEAST_AGREEMENT:
            why = f"it agrees to {agreement:.2f} with the others, less than {_LEAST_AGREEMENT:.2f}"
        found.append(_judged(copy, pose, agreement, float(seen_XYZ[_head_mask()].mean()), why))
    return found


def _rounded(rigid: Affine) -> Affine:
    """To a hundred-thousandth of a radian and a micrometre: what another processor rounds otherwise is not stored."""
    turn = np.round(Rotation.from_matrix(rigid[:3, :3]).as_rotvec(), 5)
    return motion(Rotation.from_rotvec(turn).as_matrix(), np.round(rigid[:3, 3], 3))


def _judged(copy: HeadCopy, from_centre: Affine, agreement: float, seen: float, why: str) -> Registered:
    to_common = _rounded(from_centre) @ motion(np.eye(3), -copy.centre_mm)
    angle = turn_deg(to_common)
    trouble = why
    if seen < _LEAST_SEEN:
        trouble = f"{seen:.0%} of the head is in the picture, less than {_LEAST_SEEN:.0%}"
    elif angle > _MOST_TURN_DEG:
        trouble = f"it would be turned by {angle:.0f} degrees, more than {_MOST_TURN_DEG:.0f}"
    shift_mm = float(np.linalg.norm(from_centre[:3, 3]))
    return Registered(to_common, round(agreement, 4), seen, round(angle, 3), round(shift_mm, 3), trouble)


def _means_of_others(
    copies: Sequence[HeadCopy], poses: Sequence[Affine]
) -> list[tuple[FloatArray, npt.NDArray[np.bool_]]]:
    """For each scan the mean of all others in the common space, and where the head is seen by at least one of them."""
    sums, counts = [], []
    for copy, pose in zip(copies, poses, strict=True):
        seen_XYZ = _resampled(copy.is_seen_XYZ.astype(np.float32), pose) > 0.5
        values_XYZ = np.where(seen_XYZ, _resampled(copy.values_XYZ, pose), 0)
        level = float(values_XYZ[_head_mask()].mean()) or 1.0
        sums.append(values_XYZ.astype(np.float64) / level)
        counts.append(seen_XYZ.astype(np.float64))
    total, count = np.sum(sums, axis=0), np.sum(counts, axis=0)
    means = []
    for own, is_own in zip(sums, counts, strict=True):
        num_others = count - is_own
        mean: FloatArray = ((total - own) / np.maximum(num_others, 1)).astype(np.float32)
        means.append((mean, (num_others > 0) & _head_mask()))
    return means


def _to_template(
    sitk: Any,
    fixed_XYZ: FloatArray,
    copy: HeadCopy,
    within_XYZ: npt.NDArray[np.bool_],
    start: Affine,
    *,
    levels: tuple[int, ...],
) -> Affine:
    """The rigid motion from the common space to a head's box of which the template tells most about the head.

    Args:
        sitk: SimpleITK.
        fixed_XYZ: what to register to, about the origin.
        copy: the head.
        within_XYZ: where they are compared.
        start: the motion to begin with.
        levels: by how much both are made coarser, one stage each.
    """
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # sums over threads would come out in another order each time
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricFixedMask(to_itk(sitk, within_XYZ.astype(np.uint8), AROUND_ORIGIN))
    method.SetMetricMovingMask(to_itk(sitk, copy.is_seen_XYZ.astype(np.uint8), AROUND_ORIGIN))
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0 if len(levels) > 1 else 0.5,
        minStep=0.002,
        numberOfIterations=100,
        relaxationFactor=0.7,
        gradientMagnitudeTolerance=1e-8,
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(list(levels))
    method.SetSmoothingSigmasPerLevel([0.0 if level == 1 else level * SPACING_MM / 2 for level in levels])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    transform = sitk.Euler3DTransform(_to_transform(sitk, start))
    method.SetInitialTransform(transform, inPlace=True)
    method.Execute(to_itk(sitk, fixed_XYZ, AROUND_ORIGIN), to_itk(sitk, copy.values_XYZ, AROUND_ORIGIN))
    rotation_33 = np.array(transform.GetMatrix()).reshape(3, 3)
    return motion(rotation_33, np.array(transform.GetTranslation()))


def _to_transform(sitk: Any, rigid: Affine) -> Any:
    transform = sitk.Euler3DTransform()
    transform.SetMatrix([float(value) for value in rigid[:3, :3].ravel()], 1e-6)
    transform.SetTranslation([float(value) for value in rigid[:3, 3]])
    return transform


def _resampled(values_XYZ: FloatArray, pose: Affine) -> FloatArray:
    """A copy's values in the common space, 0 outside its box."""
    to_index = np.linalg.inv(AROUND_ORIGIN) @ inverse(pose) @ AROUND_ORIGIN
    return np.asarray(
        affine_transform(values_XYZ, to_index[:3, :3], to_index[:3, 3], order=1, mode="constant"), dtype=np.float32
    )


def _correlation(first_N: FloatArray, second_N: FloatArray) -> float:
    """Pearson's correlation in float64; 0 where one of them is flat."""
    first, second = (one.astype(np.float64) - one.mean(dtype=np.float64) for one in (first_N, second_N))
    spread = np.sqrt((first @ first) * (second @ second))
    return float(first @ second / spread) if spread > 0 else 0.0


def _details(values_XYZ: FloatArray) -> FloatArray:
    """What is left between two smoothings."""
    fine, coarse = (gaussian_filter(values_XYZ, sigma, truncate=2.5) for sigma in _DETAIL_VOXELS)
    details: FloatArray = fine - coarse
    return details


def _explained(levels_N: FloatArray, values_N: FloatArray) -> float:
    """Correlation ratio (Roche et al. 1998): share of the variance of `values` that the bin of `levels` explains."""
    if not len(values_N):
        return 0.0
    edges = np.quantile(levels_N, np.linspace(0, 1, _BINS + 1)[1:-1])
    bins = np.searchsorted(edges, levels_N)
    values = values_N.astype(np.float64)
    counts = np.bincount(bins, minlength=_BINS)
    means = np.bincount(bins, values, minlength=_BINS) / np.maximum(counts, 1)
    total = float(((values - values.mean()) ** 2).sum())
    return float((counts * (means - values.mean()) ** 2).sum()) / total if total > 0 else 0.0
