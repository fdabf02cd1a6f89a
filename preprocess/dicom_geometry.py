"""Where the planes of a series lie: their order along the normal, the affine, and why they make no volume. Pure.

The spacing is that of the positions: SliceThickness and SpacingBetweenSlices are often wrong. Nothing is closed, cut or
resampled here: a series with a gap is refused, since a closed gap would move half a head.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from preprocess.dicom_headers import Frame, Key
from preprocess.errors import ScanError
from preprocess.types import Affine, Finding

_SAME_PLACE_MM = 0.01
"""Positions are written with 4 digits or more; the thinnest slices are ten times this apart."""
_FARTHEST_MM = 1e5
"""No scanner is 100 m long; NaN is below nothing."""
_SAME_DIRECTION = 1e-3
"""Difference of direction cosines: exporters round them, and 1e-3 moves a corner of a head by 0.1 mm."""
_UNIT = 1e-2
_UNEVEN = 0.1
"""Share of the slice spacing: how far a slice may lie from its place on the grid; rounding is far below."""
_GAP = 1.5
"""Multiple of the slice spacing: from here on a slice is missing."""
_SHEAR = np.tan(np.radians(0.5))
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stack:
    """Planes in order.

    Attributes:
        places: for each slice, the indices of the frames that lie there; more than one only where a slice is repeated.
        affine: (column, row, slice) to RAS+ millimetres.
    """

    places: tuple[tuple[int, ...], ...]
    affine: Affine

    @property
    def step_mm(self) -> float:
        """Distance between slices."""
        return float(np.linalg.norm(self.affine[:3, 2]))


def arrange(frames: Sequence[Frame], *, name: str) -> Stack:
    """Sort the planes of one series into a volume.

    Args:
        frames: those of all its files, in any order.
        name: what messages call the series.

    Raises:
        ScanError: `geometry_bad`, `too_few_slices`, `slice_gap`, or `several_volumes` where headers tell planes at one
            place apart. Planes at one place that headers do not tell apart are left to whoever has the pixels.
    """
    first = frames[0]
    _refuse_unlike(frames, name)
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    normal = np.cross(row, column)
    points = np.array([frame.position_mm for frame in frames])
    heights = points @ normal
    places = _places(heights)
    if len(places) < 2:
        raise _refusal("too_few_slices", f"{name}: one slice of a series; give the folder or a zip of the series")
    _refuse_volumes(frames, places, name)
    centres = np.array([points[list(place)].mean(axis=0) for place in places])
    step = _step(centres, normal, name)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * first.spacing_mm[1], column * first.spacing_mm[0]
    affine[:3, 2], affine[:3, 3] = step, centres[0]
    return Stack(tuple(places), _LPS_TO_RAS @ affine)


def plane_of(orientation: Sequence[float]) -> str:
    """`axial`, `coronal` or `sagittal`: the plane that slices are nearest to; empty without an orientation."""
    if len(orientation) != 6:
        return ""
    normal = np.abs(np.cross(np.array(orientation[:3]), np.array(orientation[3:])))
    return ("sagittal", "coronal", "axial")[int(np.argmax(normal))]


def split_volumes(frames: Sequence[Frame]) -> list[list[int]]:
    """Indices of the frames of each volume in a series that holds several, as their headers tell them apart."""
    groups: dict[object, list[int]] = {}
    for index, frame in enumerate(frames):
        groups.setdefault((frame.sort, frame.echo, frame.moment), []).append(index)
    return list(groups.values())


def _refuse_unlike(frames: Sequence[Frame], name: str) -> None:
    """Refuse planes without a place, of several orientations or sizes."""
    remedy = "use the original export"
    missing = Counter(
        what
        for frame in frames
        for what, value in (
            ("ImagePositionPatient", frame.position_mm),
            ("ImageOrientationPatient", frame.orientation),
            ("PixelSpacing", frame.spacing_mm),
        )
        if not value or not all(abs(one) < _FARTHEST_MM for one in value)
    )
    if missing:
        what, count = missing.most_common(1)[0]
        raise _refusal("geometry_bad", f"{name}: {count} of {len(frames)} slices have no {what}; {remedy}")
    sizes = Counter((frame.size, frame.spacing_mm) for frame in frames)
    if len({frame.size for frame in frames}) > 1:
        shown = " and ".join(sorted({f"{frame.size[1]} x {frame.size[0]}" for frame in frames}))
        raise _refusal("geometry_bad", f"{name}: slices of {shown} pixels in one series; {remedy}")
    (_, spacing), _ = sizes.most_common(1)[0]
    if min(spacing) <= 0 or any(not np.allclose(frame.spacing_mm, spacing, rtol=1e-3, atol=0) for frame in frames):
        raise _refusal("geometry_bad", f"{name}: pixels of several or no sizes in one series; {remedy}")
    directions = np.array([frame.orientation for frame in frames])
    num_off = int(np.count_nonzero(np.abs(directions - directions[0]).max(axis=1) > _SAME_DIRECTION))
    if num_off:
        raise _refusal(
            "geometry_bad", f"{name}: slices of several orientations ({num_off} of {len(frames)} differ); {remedy}"
        )
    row, column = directions[0][:3], directions[0][3:]
    lengths = np.abs([np.linalg.norm(row) - 1, np.linalg.norm(column) - 1, row @ column])
    if lengths.max() > _UNIT:
        raise _refusal("geometry_bad", f"{name}: ImageOrientationPatient is no pair of right-angled axes; {remedy}")


def _places(heights: _Points) -> list[tuple[int, ...]]:
    """Frames by height along the normal; those within `_SAME_PLACE_MM` of the one before share a place."""
    order = np.argsort(heights, kind="stable")
    places: list[list[int]] = []
    for index in order:
        if places and heights[index] - heights[places[-1][0]] <= _SAME_PLACE_MM:
            places[-1].append(int(index))
        else:
            places.append([int(index)])
    return [tuple(place) for place in places]


def _refuse_volumes(frames: Sequence[Frame], places: Sequence[tuple[int, ...]], name: str) -> None:
    """Refuse planes at one place that their headers call different."""
    told: dict[str, list[Key]] = {
        "kinds of image (ImageType)": [frame.sort for frame in frames],
        "echoes": [frame.echo for frame in frames],
        "time points or acquisitions": [frame.moment for frame in frames],
    }
    for what, values in told.items():
        most = max(len({values[index] for index in place}) for place in places)
        if most > 1:
            raise _refusal(
                "several_volumes", f"{name}: {most} {what} in one series; export one of them as a series of its own"
            )


def _step(centres: _Points, normal: _Points, name: str) -> _Points:
    """The vector from slice to slice.

    Raises:
        ScanError: `slice_gap`, or `geometry_bad` where it does not follow the normal.
    """
    heights = centres @ normal
    steps = np.diff(heights)
    usual = float(np.median(steps))
    if steps.max() > _GAP * usual:
        at = int(np.argmax(steps))
        num_missing = round(float(steps[at]) / usual) - 1
        more = int(np.count_nonzero(steps > _GAP * usual)) - 1
        raise _refusal(
            "slice_gap",
            f"{name}: {steps[at]:.2f} mm between slices {at + 1} and {at + 2}, {usual:.2f} mm elsewhere: about "
            f"{num_missing} missing{f', and {more} more gaps' if more else ''}; export the series again",
        )
    step: _Points = (centres[-1] - centres[0]) / (len(centres) - 1)
    off = float(np.abs(heights - heights[0] - np.arange(len(heights)) * (step @ normal)).max())
    if off > _UNEVEN * usual:
        raise _refusal(
            "slice_gap",
            f"{name}: a slice lies {off:.2f} mm from its place on a grid of {usual:.2f} mm (more than "
            f"{_UNEVEN:.0%}): unequal spacing; export the series again",
        )
    drift = float(np.linalg.norm(step - (step @ normal) * normal))
    wobble = float(np.linalg.norm(centres - centres[0] - np.arange(len(centres))[:, None] * step, axis=1).max())
    if drift > _SHEAR * (step @ normal) or wobble > max(_UNEVEN * usual, _SAME_PLACE_MM):
        degrees = np.degrees(np.arctan2(drift, step @ normal))
        raise _refusal(
            "geometry_bad",
            f"{name}: slices are shifted against each other (sheared by {degrees:.1f} degrees); use the first export",
        )
    return step


def _refusal(code: str, message: str) -> ScanError:
    return ScanError(Finding(code, message))
