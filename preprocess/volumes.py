"""The only way from files to volumes, of batch jobs and of the service: read, check, prepare, resample once.

Files are prepared together where the recipe registers the scans of a person to their mean; each is then decoded twice,
once for the coarse copy from which motions are estimated and once for its volume, so that one scan is held at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from preprocess.errors import ScanError
from preprocess.images import read_image
from preprocess.placing import Placing, place
from preprocess.preparation.bias_field import fit_bias_field
from preprocess.preparation.brain_mask import read_mask
from preprocess.preparation.head_copy import HeadCopy, copy_head
from preprocess.preparation.registration import Registered, register_to_template, register_visits
from preprocess.preparation.steps import NO_STEPS, Pose, Steps
from preprocess.quality import check_image
from preprocess.recipe import VolumeRecipe
from preprocess.transforms import volume_of
from preprocess.types import MAX_VOXELS, Finding, Image, Preparation, TissueFit


@dataclass(frozen=True, slots=True)
class Prepared:
    """A scan after preprocessing.

    Attributes:
        values: the row as stored; None when the scan is left out.
        findings: all remarks.
        spacing_mm: a volume's own voxel edges; empty for other kinds.
        affine: a volume's grid index to its own RAS+ millimetres, row by row; empty for other kinds.
        columns: headings of an array that was a table; else empty.
        tissue: what was fitted to a volume's grey values, plausible or not; None where the recipe asks for no fit.
        preparation: what was done to a volume beyond the resampling; None where the recipe asks for nothing.
    """

    values: np.ndarray | None
    findings: tuple[Finding, ...] = ()
    spacing_mm: tuple[float, ...] = ()
    affine: tuple[float, ...] = ()
    columns: tuple[str, ...] = ()
    tissue: TissueFit | None = None
    preparation: Preparation | None = None


@dataclass(frozen=True, slots=True)
class ScanFile:
    """One file and what messages call it.

    Attributes:
        data: the whole file: NIfTI, a zip of one DICOM series, or an enhanced DICOM file.
        name: what messages call the scan.
        mask: file of its brain mask; empty where none is given.
    """

    data: bytes
    name: str
    mask: bytes = b""


_NOTHING_DONE = Preparation()


@dataclass(frozen=True, slots=True)
class _Estimated:
    """What was worked out for one scan so far."""

    steps: Steps = NO_STEPS
    findings: tuple[Finding, ...] = ()
    preparation: Preparation = _NOTHING_DONE
    copy: HeadCopy | None = None


def prepare_volume(
    data: bytes, recipe: VolumeRecipe, *, name: str, mask: bytes = b"", max_voxels: int = MAX_VOXELS
) -> Prepared:
    """Read, check and resample one file; as `prepare_volumes` of one.

    Args:
        data: the whole file: NIfTI, a zip of one DICOM series, or an enhanced DICOM file.
        recipe: sizes and limits.
        name: what messages call the scan.
        mask: file of its brain mask, for recipes that ask for one.
        max_voxels: largest image taken.

    Raises:
        ScanError: the file cannot be read at all.
        UsageError: DICOM, and pydicom or a decoder is not installed; or the recipe needs SimpleITK, which is not.
    """
    file = ScanFile(data, name, mask)
    image = _read(file, recipe, max_voxels)
    findings = check_image(image, recipe.quality, name=name)
    if any(finding.leaves_out for finding in findings):
        return Prepared(None, tuple(findings))
    try:
        placing = place(image, recipe, name=name)
        estimated = _masked(_estimate(placing, file, recipe), placing, file, recipe)
        if recipe.registration == "subject":
            estimated = _with(estimated, registered_to="alone")
        return _resample(image, placing, file, recipe, tuple(findings), estimated)
    except ScanError as error:
        return Prepared(None, (*findings, error.finding))


def prepare_volumes(files: Sequence[ScanFile], recipe: VolumeRecipe, *, max_voxels: int = MAX_VOXELS) -> list[Prepared]:
    """Prepare the scans that one person has of one modality.

    Args:
        files: in any order, which changes no voxel.
        recipe: sizes and limits.
        max_voxels: largest image taken.

    Returns:
        One for each file, in their order; a file that cannot be read is a finding.

    Raises:
        UsageError: DICOM, and pydicom or a decoder is not installed; or the recipe needs SimpleITK, which is not.
    """
    if recipe.registration != "subject":
        return [_prepare_alone(file, recipe, max_voxels) for file in files]
    estimates = [_estimate_file(file, recipe, max_voxels) for file in files]
    copies = [one.copy for one in estimates if one is not None and one.copy is not None]
    if len(copies) < 2:
        return [_prepare_alone(file, recipe, max_voxels) for file in files]
    registered = register_visits(copies)
    num_used = sum(not one.trouble for one in registered)
    following = iter(registered)
    prepared = []
    for file, estimated in zip(files, estimates, strict=True):
        if estimated is None:
            prepared.append(_prepare_alone(file, recipe, max_voxels))
            continue
        image = _read(file, recipe, max_voxels)
        placing = place(image, recipe, name=file.name)
        placed = _placed(estimated, next(following), "subject", num_used, name=file.name)
        placed = _masked(placed, placing, file, recipe)
        findings = tuple(check_image(image, recipe.quality, name=file.name))
        prepared.append(_resample(image, placing, file, recipe, findings, placed))
    return prepared


def _prepare_alone(file: ScanFile, recipe: VolumeRecipe, max_voxels: int) -> Prepared:
    try:
        return prepare_volume(file.data, recipe, name=file.name, mask=file.mask, max_voxels=max_voxels)
    except ScanError as error:
        return Prepared(None, (error.finding,))


def _estimate_file(file: ScanFile, recipe: VolumeRecipe, max_voxels: int) -> _Estimated | None:
    """What one scan of several gives to their mean; None where it is left out."""
    try:
        image = _read(file, recipe, max_voxels)
        if any(finding.leaves_out for finding in check_image(image, recipe.quality, name=file.name)):
            return None
        placing = place(image, recipe, name=file.name)
        _masked(_Estimated(), placing, file, recipe)  # kept by nobody: the masks of all visits are a scan's size each
        return _estimate(placing, file, recipe)
    except ScanError:
        return None  # found again, and recorded, when it is prepared


def _read(file: ScanFile, recipe: VolumeRecipe, max_voxels: int) -> Image:
    return read_image(file.data, name=file.name, max_voxels=max_voxels, believed=recipe.orientation)


def _estimate(placing: Placing, file: ScanFile, recipe: VolumeRecipe) -> _Estimated:
    """All that a scan's own voxels tell, of the steps that the recipe asks for."""
    if recipe.bias_field == "none" and recipe.registration == "none":
        return _Estimated()
    # With the skull, whatever a mask blackens later: it turns with the brain and does not shrink.
    copy = copy_head(placing)
    estimated = _Estimated(copy=copy)
    if recipe.bias_field == "n4":
        try:
            bias = fit_bias_field(copy, name=file.name)
        except ScanError as error:
            estimated = replace(estimated, findings=(error.finding,))
        else:
            copy = copy.divided_by(bias.at(copy.affine, copy.values_XYZ.shape))
            estimated = _with(
                _Estimated(Steps(bias=bias), copy=copy), bias_ratio=bias.ratio, bias_iterations=bias.iterations
            )
    if recipe.registration == "template":
        estimated = _placed(estimated, register_to_template(copy), "template", 0, name=file.name)
    return estimated


def _masked(estimated: _Estimated, placing: Placing, file: ScanFile, recipe: VolumeRecipe) -> _Estimated:
    """With the brain mask, where the recipe asks for one."""
    if recipe.brain_mask == "none":
        return estimated
    mask = read_mask(file.mask, placing.image, placing.centre_mm, name=file.name)
    with_facts = _with(estimated, mask_ml=mask.volume_ml, mask_sha256=mask.sha256)
    return replace(with_facts, steps=replace(estimated.steps, mask=mask))


def _placed(estimated: _Estimated, registered: Registered, to: str, num: int, *, name: str) -> _Estimated:
    """With the motion, or with the finding that says why there is none."""
    facts = {"turn_deg": registered.turn_deg, "shift_mm": registered.shift_mm, "agreement": registered.agreement}
    if registered.trouble:
        target = "the other scans of the person" if to == "subject" else "the template"
        message = f"{name}: not registered to {target}: {registered.trouble}; it stays where it was; look at the scan"
        finding = Finding("registration_failed", message, leaves_out=False)
        failed = _with(estimated, registered_to="failed", **facts)
        return replace(failed, findings=(*estimated.findings, finding))
    pose = Pose(registered.to_common, np.zeros(3))
    placed = _with(estimated, registered_to=to, num_registered=num, **facts)
    return replace(placed, steps=replace(estimated.steps, pose=pose))


def _with(estimated: _Estimated, **facts: object) -> _Estimated:
    return replace(estimated, preparation=replace(estimated.preparation, **facts))  # type: ignore[arg-type]


def _resample(
    image: Image,
    placing: Placing,
    file: ScanFile,
    recipe: VolumeRecipe,
    findings: tuple[Finding, ...],
    estimated: _Estimated,
) -> Prepared:
    volume = volume_of(placing, recipe, name=file.name, made=estimated.steps)
    is_plain = estimated.preparation == _NOTHING_DONE
    return Prepared(
        volume.voxels_CDHW,
        (*findings, *estimated.findings, *volume.findings),
        spacing_mm=image.spacing_mm,
        affine=tuple(float(value) for value in volume.affine.ravel()),
        tissue=volume.tissue,
        preparation=None if is_plain else estimated.preparation,
    )
