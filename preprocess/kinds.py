"""The way from a file to a row for each kind of modality; whatever is wrong with the file is a finding.

volume   NIfTI, one DICOM series                 (1, D, H, W), the recipe's dtype
clip     NumPy, multi-frame DICOM, video         (T, 1, H, W), the recipe's dtype
image    PNG, JPEG, single-frame DICOM           (C, H, W), the recipe's dtype
array    NumPy, CSV, text                        (F,) or (R, F), float32
"""

from collections.abc import Sequence

import numpy as np

from preprocess.arrays import read_csv, read_npy, read_text, to_array
from preprocess.dicom import read_dicom
from preprocess.errors import ScanError
from preprocess.file_types import require_type
from preprocess.frames import fit, pick_frames, to_channels, to_unit
from preprocess.pictures import read_picture
from preprocess.recipe import VolumeRecipe
from preprocess.transforms import to_stored
from preprocess.types import Finding, Kind, Scan
from preprocess.video import read_video
from preprocess.volumes import Prepared, prepare_volume

AXES: dict[Kind, tuple[str, ...]] = {
    "volume": ("row", "channel", "right", "anterior", "superior"),
    "clip": ("row", "frame", "channel", "height", "width"),
    "image": ("row", "channel", "height", "width"),
}
"""Names of a stored array's axes; those of arrays follow from their number, see `axes_of`."""


def axes_of(kind: Kind, row_shape: Sequence[int]) -> tuple[str, ...]:
    """Names of the axes of a modality's array, the first being the rows."""
    return AXES[kind] if kind in AXES else ("row", *(("region",) if len(row_shape) == 2 else ()), "feature")


def prepare_scan(data: bytes, scan: Scan, recipe: VolumeRecipe, *, mask: bytes = b"") -> Prepared:
    """Read, check and transform one file as its modality's kind asks.

    Args:
        data: the whole file.
        scan: whose it is.
        recipe: kinds, sizes and limits.
        mask: file of its brain mask, for volumes of a recipe that asks for one.

    Raises:
        ScanError: the file cannot be used.
        UsageError: an extra that reads this type of file is not installed.
    """
    kind = recipe.kind_of(scan.modality)
    file_type = require_type(data, scan.uri, kind, modality=scan.modality, name=scan.name)
    if kind == "volume":
        return prepare_volume(data, recipe, name=scan.name, mask=mask)
    if kind == "array":
        return _prepare_array(data, file_type == "table", scan, recipe)
    if kind == "image":
        pixels = read_picture(data, name=scan.name) if file_type == "picture" else _single(data, scan)
        unit_CHW = to_channels(to_unit(pixels, name=scan.name), recipe.image.channels)
        return Prepared(to_stored(fit(unit_CHW, recipe.image.size), recipe.dtype))
    aspect = 1.0
    if file_type == "video":
        frames, aspect = read_video(data, num_frames=recipe.clip.frames, name=scan.name)
    else:
        frames = _chosen(data, file_type == "numpy", scan, recipe.clip.frames)
    return Prepared(to_stored(_to_clip(frames, recipe, aspect, scan.name), recipe.dtype))


def _prepare_array(data: bytes, is_table: bool, scan: Scan, recipe: VolumeRecipe) -> Prepared:
    if not is_table:
        return Prepared(to_array(read_npy(data, name=scan.name), name=scan.name))
    read = read_csv if scan.uri.lower().endswith(".csv") else read_text
    values, columns = read(data, name=scan.name, leave_out=recipe.array.leave_out)
    return Prepared(to_array(values, name=scan.name, columns=columns), columns=columns)


def _single(data: bytes, scan: Scan) -> np.ndarray:
    """The only frame of a DICOM file."""
    pixels = read_dicom(data, name=scan.name)
    if len(pixels) != 1:
        remedy = f'export one of them, or set kinds.{scan.modality} = "clip" in the recipe, for a new store'
        raise ScanError(Finding("wrong_shape", f"{scan.name}: {len(pixels)} frames, expected one image; {remedy}"))
    image: np.ndarray = pixels[0]
    return image


def _chosen(data: bytes, is_numpy: bool, scan: Scan, num_frames: int) -> list[np.ndarray]:
    """Frames at equal steps over a clip that is one array."""
    pixels = read_npy(data, name=scan.name) if is_numpy else read_dicom(data, name=scan.name)
    # A last axis of 3 or 4 in a 3D array is the colours of one picture, and no clip that is so narrow.
    is_clip = (pixels.ndim == 3 and pixels.shape[-1] > 4) or (pixels.ndim == 4 and pixels.shape[-1] == 3)
    if not is_clip:
        message = f"{scan.name}: shape {pixels.shape}, expected (frames, height, width) or the same with 3 colours"
        raise ScanError(Finding("wrong_shape", f"{message}; save the clip so"))
    frames = [pixels[index] for index in pick_frames(len(pixels), num_frames, name=scan.name)]
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        num_bad = int(pixels.size - np.count_nonzero(np.isfinite(pixels)))
        message = f"{scan.name}: {num_bad} pixels are NaN or infinite; export the file again"
        raise ScanError(Finding("non_finite", message))
    return frames


def _to_clip(frames: Sequence[np.ndarray], recipe: VolumeRecipe, pixel_aspect: float, name: str) -> np.ndarray:
    """Frames (H, W) or (H, W, 3) as one clip in [0, 1], shape (T, 1, H, W); one brightness scale for all."""
    if len({frame.shape for frame in frames}) > 1:
        sizes = sorted({f"{frame.shape[1]} x {frame.shape[0]}" for frame in frames})
        message = f"{name}: frames of {' and '.join(sizes)} in one recording; export it in one size"
        raise ScanError(Finding("wrong_shape", message))
    unit = to_unit(np.stack(frames), name=name)
    grey = [to_channels(frame, 1) for frame in unit]
    return np.stack([fit(frame, recipe.clip.size, pixel_aspect=pixel_aspect) for frame in grey])
