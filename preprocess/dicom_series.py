"""The files of one DICOM series in, one image out: the same voxels and the same place in space as dcm2niix gives.

What cannot be one volume is refused by name. Stored values become real units by RescaleSlope and RescaleIntercept of
each plane; of Philips scans these are the displayed values and not the precise ones.
"""

import io
from collections import Counter
from collections.abc import Sequence

import numpy as np

from preprocess.dicom import read_dicom
from preprocess.dicom_geometry import Stack, arrange, split_volumes
from preprocess.dicom_headers import Frame, Header, read_header
from preprocess.errors import ScanError
from preprocess.readers import KEPT_TYPES, slope_remarks
from preprocess.types import MAX_VOXELS, Finding, Image

_INTERPRETATIONS = frozenset(
    {"MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "HSV", "ARGB", "CMYK", "XYB"}
    | {f"YBR_{end}" for end in ("FULL", "FULL_422", "PARTIAL_422", "PARTIAL_420", "ICT", "RCT")}
)
"""The defined terms (PS3.3, C.7.6.3.1.2): a damaged header holds any text there, which no message repeats."""


def read_series(files: Sequence[bytes], *, name: str, max_voxels: int = MAX_VOXELS, volume: int | None = None) -> Image:
    """Make an image of the files of one series.

    Args:
        files: whole files in any order; what is no DICOM image is passed over.
        name: what messages call the scan.
        max_voxels: refuse a series that promises more, before any pixel is decoded.
        volume: which of several volumes to take, counted from 1 in the order of the files; None refuses several.

    Returns:
        Voxels (columns, rows, slices) in real units: integers of 8 and 16 bits stay what they are where no plane has a
        slope or intercept, all else is float32. A remark where a slice was there twice.

    Raises:
        ScanError: as `check_series`; `wrong_file` without any image; `several_series`; `several_volumes`, also where
            planes at one place differ in their pixels alone; and what `read_dicom` refuses.
        UsageError: pydicom or a decoder is not installed.
    """
    read = [(read_header(io.BytesIO(data), name=name, max_voxels=max_voxels), data) for data in files]
    pairs = [(header, data) for header, data in read if header is not None and header.frames]
    if not pairs:
        raise _refusal("wrong_file", f"{name}: holds no DICOM image; give one series of them")
    _refuse_several(name, [header for header, _ in pairs])
    headers = [header for header, _ in pairs]
    frames = [frame for header in headers for frame in header.frames]
    chosen = list(range(len(frames)))
    if volume is not None:
        volumes = split_volumes(frames)
        if not 1 <= volume <= len(volumes):
            raise _refusal("several_volumes", f"{name}: volume {volume} of {len(volumes)} was asked for")
        chosen = volumes[volume - 1]
    num_voxels = len(chosen) * frames[0].size[0] * frames[0].size[1]
    if num_voxels > max_voxels:
        raise _refusal("too_large", f"{name}: {num_voxels} voxels is more than {max_voxels}; resample or crop the scan")
    refuse_pictures(headers, name=name)
    stack = arrange([frames[index] for index in chosen], name=name)
    planes, dtype = _planes(pairs, set(chosen), name, max_voxels)
    places = [[chosen[index] for index in place] for place in stack.places]
    remarks = _same_pixels(places, planes, frames, name)
    remarks += slope_remarks((frames[index].slope for index in chosen), name=name)
    rows, columns = frames[chosen[0]].size
    is_plain = all((frames[index].slope, frames[index].intercept) == (1.0, 0.0) for index in chosen)
    kept = np.dtype(dtype) if is_plain and dtype in KEPT_TYPES else np.dtype(np.float32)
    voxels_ZYX = np.empty((len(places), rows, columns), kept)
    # What float32 cannot hold becomes infinite here and a finding in the quality check.
    with np.errstate(over="ignore", invalid="ignore"):
        for plane_YX, place in zip(voxels_ZYX, places, strict=True):
            plane_YX[:] = planes[place[0]]
            if not is_plain:
                plane_YX *= np.float32(frames[place[0]].slope)
                plane_YX += np.float32(frames[place[0]].intercept)
    return Image(voxels_XYZ=voxels_ZYX.transpose(2, 1, 0), affine=stack.affine, dtype=dtype, findings=remarks)


def check_series(headers: Sequence[Header], *, name: str) -> Stack:
    """Sort the slices of a series, or refuse what can be no volume, by its headers alone.

    Args:
        headers: one for each of its files that is an image.
        name: what messages call the series.

    Raises:
        ScanError: `burned_in`, `mosaic`, `photometric`, `bad_scale`, `too_large`, or as `arrange`.
    """
    frames = [frame for header in headers for frame in header.frames]
    num_voxels = len(frames) * frames[0].size[0] * frames[0].size[1]
    if num_voxels > MAX_VOXELS:
        raise _refusal("too_large", f"{name}: {num_voxels} voxels is more than {MAX_VOXELS}; resample or crop the scan")
    refuse_pictures(headers, name=name)
    return arrange(frames, name=name)


def refuse_pictures(headers: Sequence[Header], *, name: str) -> None:
    """Refuse planes that hold no grey values of a slice.

    Raises:
        ScanError: `photometric`, `burned_in`, `mosaic` or `bad_scale`.
    """
    for header in headers:
        if header.interpretation != "MONOCHROME2":
            said = header.interpretation if header.interpretation in _INTERPRETATIONS else "unknown or none"
            message = f"{name}: PhotometricInterpretation {said}, expected MONOCHROME2; export the grey values"
            raise _refusal("photometric", message)
        if header.is_burned_in:
            message = f"{name}: BurnedInAnnotation YES, so its pictures hold text; export the series without it"
            raise _refusal("burned_in", message)
        if header.is_mosaic:
            message = f"{name}: a Siemens mosaic (slices side by side in one picture); export it as single slices"
            raise _refusal("mosaic", message)
        for frame in header.frames:
            if not (np.isfinite(frame.slope) and np.isfinite(frame.intercept)) or frame.slope == 0:
                message = f"{name}: RescaleSlope {frame.slope}, RescaleIntercept {frame.intercept}; export it again"
                raise _refusal("bad_scale", message)


def _refuse_several(name: str, headers: Sequence[Header]) -> None:
    groups = Counter(header.group for header in headers)
    if len(groups) == 1:
        return
    numbers = {header.group: header.series_number for header in headers}
    found = sorted((numbers[group], count) for group, count in groups.items())
    shown = [f"series {number} ({count} image{'' if count == 1 else 's'})" for number, count in found[:4]]
    more = f" and {len(found) - 4} more" if len(found) > 4 else ""
    raise _refusal("several_series", f"{name}: holds {len(found)} series: {', '.join(shown)}{more}; give one of them")


def _planes(
    pairs: Sequence[tuple[Header, bytes]], chosen: set[int], name: str, max_voxels: int
) -> tuple[dict[int, np.ndarray], str]:
    """Stored values (rows, columns) of the chosen frames by index, and the dtype on disk."""
    planes: dict[int, np.ndarray] = {}
    dtypes = set()
    start = 0
    for header, data in pairs:
        indices = range(start, start + len(header.frames))
        start += len(header.frames)
        if not chosen.intersection(indices):
            continue
        pixels = read_dicom(data, name=name, max_voxels=max_voxels)
        if pixels.shape != (len(header.frames), *header.frames[0].size):
            message = f"{name}: pixels of shape {pixels.shape} where the header promises {len(header.frames)} slices"
            raise _refusal("unreadable", f"{message}; copy the file again")
        dtypes.add(pixels.dtype.name)
        planes |= {index: plane for index, plane in zip(indices, pixels, strict=True) if index in chosen}
    return planes, dtypes.pop() if len(dtypes) == 1 else "int32"


def _same_pixels(
    places: Sequence[Sequence[int]], planes: dict[int, np.ndarray], frames: Sequence[Frame], name: str
) -> tuple[Finding, ...]:
    """A remark where planes at one place are copies of each other.

    Raises:
        ScanError: `several_volumes`: they are not.
    """
    repeated = [place for place in places if len(place) > 1]
    for place in repeated:
        first = frames[place[0]]
        for index in place[1:]:
            scale = (frames[index].slope, frames[index].intercept)
            if scale != (first.slope, first.intercept) or not np.array_equal(planes[index], planes[place[0]]):
                raise _refusal(
                    "several_volumes",
                    f"{name}: {len(place)} different slices at one place ({len(repeated)} such places): several echoes "
                    "or time points; export one of them as a series of its own",
                )
    if not repeated:
        return ()
    message = f"{name}: {len(repeated)} slices are there twice with equal pixels and were used once; remove one export"
    return (Finding("slice_duplicate", message, leaves_out=False),)


def _refusal(code: str, message: str) -> ScanError:
    return ScanError(Finding(code, message))
