"""Where a NIfTI header puts its voxels, in RAS+ millimetres, and what in it contradicts itself.

NIfTI-1 says it up to three times: voxel sizes (pixdim), a rigid placement (qform) and an affine one (sform), in a unit
of its own (xyzt_units). Where they agree nothing is said. Where they do not, the sform is believed, as nibabel and the
standard's order of methods have it, and a finding gives the difference; a mirrored pair is left out, since then nothing
tells left from right, unless the recipe says which of them to believe.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from nibabel.spatialimages import HeaderDataError

from preprocess.errors import ScanError
from preprocess.types import Affine, Finding

Believed = Literal["agreeing", "sform", "qform"]
"""Which placement is taken where both are given; `agreeing`: the sform, unless they are mirror images."""

_MM_PER_UNIT = {1: ("metres", 1000.0), 2: ("millimetres", 1.0), 3: ("microns", 0.001)}
"""By the lowest three bits of xyzt_units; 0 names no unit, and millimetres are meant."""
_SPACE_BITS = 7
_EXTENTS_MM = (5.0, 2000.0)
"""The longest edge of a field of view: from less than a mouse brain to a whole body. Outside, the unit is wrong."""
_ANGLE_DEGREES, _SHIFT_MM, _SIZE = 1.0, 5.0, 0.02
"""What two placements may differ by without a word: rounding and a table's shift, not a turned head."""
_SHEAR = 0.02
"""Cosine between two axes of the grid: one degree, which a tilted gantry exceeds and rounding does not."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """A header's placement.

    Attributes:
        affine: voxel index to RAS+ millimetres.
        findings: remarks; none of them leaves the scan out.
    """

    affine: Affine
    findings: tuple[Finding, ...] = ()


def read_geometry(header: Any, shape: tuple[int, ...], *, name: str, believed: Believed = "agreeing") -> Geometry:
    """The placement of a NIfTI-1 or NIfTI-2 header.

    Args:
        header: nibabel's, as read.
        shape: shape of the image in voxels.
        name: what messages call the scan.
        believed: which of two placements to take.

    Returns:
        The affine in millimetres, with remarks.

    Raises:
        ScanError: `bad_geometry` where there is none or it is no geometry, `bad_units`, or `mirrored`.
    """
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _read(header, shape, name, believed)


def _read(header: Any, shape: tuple[int, ...], name: str, believed: Believed) -> Geometry:
    findings: list[Finding] = []
    zooms = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    has_zooms = bool(np.isfinite(zooms).all() and (zooms > 0).all())
    sform = np.asarray(header.get_sform(), dtype=np.float64) if int(header["sform_code"]) > 0 else None
    qform = _qform(header) if int(header["qform_code"]) > 0 and has_zooms else None
    if sform is None and qform is None:
        if not has_zooms:
            raise _refusal(
                "bad_geometry", f"{name}: voxel sizes {zooms.tolist()} mm are not positive numbers; fix the header"
            )
        if int(header["qform_code"]) > 0:
            raise _refusal("bad_geometry", f"{name}: no affine can be made, its qform is no rotation; fix the header")
        qform = np.asarray(header.get_base_affine(), dtype=np.float64)
        message = (
            f"{name}: neither qform nor sform, so the way the head lies is a guess; export it with its orientation"
        )
        findings.append(Finding("orientation_guessed", message, leaves_out=False))
    elif not has_zooms:
        message = f"{name}: voxel sizes {zooms.tolist()} are no sizes; those of its sform are taken; fix the header"
        findings.append(Finding("voxel_sizes_unread", message, leaves_out=False))
    affine = qform if sform is None or (believed == "qform" and qform is not None) else sform
    assert affine is not None
    fault = _fault(affine)
    if fault:
        raise _refusal("bad_geometry", f"{name}: the affine {fault}; fix the header")
    factor, remarks = _millimetres(header, affine, shape, name)
    scale = np.diag([factor, factor, factor, 1.0])
    if sform is not None and qform is not None and not (_fault(sform) or _fault(qform)):
        found = _disagreement(scale @ sform, scale @ qform, shape, believed, name)
        findings += [] if found is None else [found]
    affine = scale @ affine
    return Geometry(affine, (*findings, *remarks, *_shear(affine, name)))


def _qform(header: Any) -> Affine | None:
    """The rigid placement; None where its quaternion is none."""
    if float(header["pixdim"][0]) not in (-1.0, 1.0):
        header["pixdim"][0] = 1.0  # qfac: anything else means 1 (NIfTI-1, method 2)
    try:
        return np.asarray(header.get_qform(), dtype=np.float64)
    except (HeaderDataError, ValueError, np.linalg.LinAlgError):
        return None


def _fault(affine: Affine) -> str:
    """Why a matrix places no voxels; empty where it does."""
    if not np.isfinite(affine).all():
        return "holds NaN or infinite numbers"
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    # Of the axes' directions: microns and metres are no reason.
    if not np.isfinite(edges).all() or (edges == 0).any() or abs(np.linalg.det(affine[:3, :3] / edges)) < 1e-3:
        return "is singular"
    return ""


def _millimetres(header: Any, affine: Affine, shape: tuple[int, ...], name: str) -> tuple[float, tuple[Finding, ...]]:
    """What a length of the header is multiplied by to be millimetres, with a remark where that is not 1."""
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    spatial = (*shape[:3], 1, 1)[:3]
    longest = float(np.max(edges * np.asarray(spatial)))
    code = int(header["xyzt_units"]) & _SPACE_BITS
    unit, factor = _MM_PER_UNIT.get(code, ("no unit", 1.0))
    if _is_plausible(longest * factor):
        if factor == 1.0:
            return 1.0, ()
        message = f"{name}: its header is in {unit}; converted to millimetres"
        return factor, (Finding("units_converted", message, leaves_out=False),)
    fitting = [(other, by) for other, by in _MM_PER_UNIT.values() if _is_plausible(longest * by)]
    size = f"a field of view of {longest * factor:.3g} mm in {unit}"
    if factor != 1.0 and ("millimetres", 1.0) in fitting:
        message = f"{name}: its header says {unit}, which would be {size}; its numbers are millimetres and taken so"
        return 1.0, (Finding("units_disbelieved", message, leaves_out=False),)
    hint = f"; its numbers would fit {fitting[0][0]}" if fitting else ""
    low, high = _EXTENTS_MM
    raise _refusal(
        "bad_units",
        f"{name}: {size} is none of {low:g} to {high:g} mm{hint}; set xyzt_units and the sizes right in its header",
    )


def _is_plausible(longest_mm: float) -> bool:
    return _EXTENTS_MM[0] <= longest_mm <= _EXTENTS_MM[1]


def _disagreement(
    sform: Affine, qform: Affine, shape: tuple[int, ...], believed: Believed, name: str
) -> Finding | None:
    """What two placements in millimetres differ by, as a remark.

    Raises:
        ScanError: they are mirror images of each other, and nobody said which one to believe.
    """
    taken = "qform" if believed == "qform" else "sform"
    if np.linalg.det(sform[:3, :3]) * np.linalg.det(qform[:3, :3]) < 0:
        message = f"{name}: sform and qform are mirror images"
        if believed == "agreeing":
            remedy = (
                'compare with the scanner and fix the header, or set orientation = "sform" or "qform" for a new store'
            )
            raise _refusal("mirrored", f"{message}, so left and right are not known; {remedy}")
        return Finding("forms_differ", f"{message}; the {taken} is taken, as the recipe says", leaves_out=False)
    angle = _angle_degrees(sform, qform)
    middle = np.array([*((edge - 1) / 2 for edge in (*shape[:3], 1, 1)[:3]), 1.0])
    shift_mm = float(np.linalg.norm((sform @ middle - qform @ middle)[:3]))
    sizes = np.linalg.norm(sform[:3, :3], axis=0) / np.linalg.norm(qform[:3, :3], axis=0)
    size = float(np.max(np.abs(sizes - 1)))
    if angle <= _ANGLE_DEGREES and shift_mm <= _SHIFT_MM and size <= _SIZE:
        return None
    differ = f"{angle:.1f} degrees, {shift_mm:.1f} mm and {size:.1%} in size"
    remedy = 'the sform is taken; set orientation = "qform" for a new store if the scan was aligned to another space'
    if taken == "qform":
        remedy = "the qform is taken, as the recipe says"
    return Finding("forms_differ", f"{name}: sform and qform differ by {differ}; {remedy}", leaves_out=False)


def _angle_degrees(first: Affine, second: Affine) -> float:
    """Angle of the rotation between the axes of two affines of equal handedness."""
    rotations = []
    for affine in (first, second):
        left, _, right = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
        rotations.append(left @ right)
    cosine = (np.trace(rotations[0].T @ rotations[1]) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def _shear(affine: Affine, name: str) -> tuple[Finding, ...]:
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    cosine = float(np.max(np.abs(axes.T @ axes - np.eye(3))))
    if cosine <= _SHEAR:
        return ()
    degrees = 90 - np.degrees(np.arccos(min(1.0, cosine)))
    message = f"{name}: its axes are {degrees:.1f} degrees from right angles (sheared); resampled as its header says"
    return (Finding("sheared", message, leaves_out=False),)


def _refusal(code: str, message: str) -> ScanError:
    return ScanError(Finding(code=code, message=" ".join(message.split())))
