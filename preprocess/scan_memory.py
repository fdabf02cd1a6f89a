"""How much memory a worker takes for one scan, told from the first bytes of its file, before anything is unpacked.

Of NIfTI files it is a bound: the header says how many voxels of which type there are, and each step below says how many
copies of them it makes. Of DICOM series and pictures it is one as far as the first file's header speaks for all. Of
tables and videos it is an estimate by the size of the file. Measured against `ru_maxrss` in the tests.
"""

import io
import math
import warnings
import zlib
from typing import Any

import numpy as np
from nibabel.spatialimages import HeaderDataError

from preprocess.dicom import PYDICOM_ERRORS, require_pydicom
from preprocess.dicom_zip import ZIP_MAGIC
from preprocess.errors import ScanError, UsageError
from preprocess.file_types import file_type
from preprocess.readers import KEPT_TYPES, MAX_GZIP_RATIO, is_packed, read_header
from preprocess.recipe import VolumeRecipe
from preprocess.types import MAX_VOXELS, Finding, Scan

WORKER_BYTES = 400 * 2**20
"""A worker that does nothing: Python with PyTorch, Zarr and all readers. 388 MiB resident, half of it shared with the
other workers (`python -c` with `preprocess.tasks` imported, PyTorch 2.13 for CPUs)."""
START_BYTES = 2**16
"""First bytes of a file that are looked at; enough for every header that is looked for, packed or not."""
_OTHERWISE_BYTES = 48 * 2**20
"""The head's outline, planes on their way, encoding and what the allocator keeps."""
_PER_GRID_VOXEL = 40
"""Places to interpolate at (28 of an oblique scan), the values, and the tissue fit."""
_LEVELS_PER_VOXEL = 2
"""Grey values of every second voxel along each axis in ascending order and their numbers, of floats only."""
_BOX_PER_VOXEL = 13
"""Places of all bright ones among them in 64 bits, as indices, millimetres and for percentiles, if all are bright."""
_ESTIMATING_BYTES = 160 * 2**20
"""SimpleITK, and copies of the head at 3 mm with what is estimated of them."""
_MASKING = 10
"""A mask of the scan's size: as read in float32, as true and false, and the scan again with what lies outside black."""
_FILE_COPIES = 2.5
"""A series is there so often, at most: its files, the archive of them, and the files again."""
_PER_CELL_BYTE = 60
"""A table takes so much for each byte of its file: text as Python's strings, then numbers."""
_VIDEO_PIXELS = 1280 * 720
"""A frame of a recording, whose size only its decoder knows."""
_PER_PIXEL = 48
"""A picture takes so much for each pixel: as read, in float64 and float32, with three colours each."""


def memory_of(start: bytes, num_bytes: int, scan: Scan, recipe: VolumeRecipe) -> int:
    """Bytes that a worker takes for a scan at most, beyond what it has when it does nothing.

    Args:
        start: the file, or at least its first `START_BYTES`; of a scan of several files those of one of them, or the
            archive that `dicom_zip.pack` makes of all.
        num_bytes: size of the whole file, or of all files together.
        scan: its name says what a table is, and its parts how many files there are.
        recipe: kinds and sizes.
    """
    kind = recipe.kind_of(scan.modality)
    if kind == "volume":
        is_series = bool(scan.parts) or start.startswith(ZIP_MAGIC) or start[128:132] == b"DICM"
        return (_of_series if is_series else _of_nifti)(start, num_bytes, scan, recipe)
    found = file_type(start, scan.uri)
    if kind == "array":
        return _OTHERWISE_BYTES + num_bytes * (_PER_CELL_BYTE if found == "table" else 8)
    if found == "picture":
        return _OTHERWISE_BYTES + num_bytes + _PER_PIXEL * _pixels_of(start)
    kept = recipe.clip.frames if kind == "clip" else 1
    if found == "video":
        return _OTHERWISE_BYTES + num_bytes + kept * _VIDEO_PIXELS * _PER_PIXEL
    values, width = _dicom_values(start) if found == "dicom" else (0, 1)
    values = values or num_bytes
    return _OTHERWISE_BYTES + 2 * num_bytes + values * (3 * width + 8)


def require_memory(needed: int, there: int, *, name: str) -> None:
    """Refuse a scan that would take more memory than there is.

    Args:
        needed: bytes, from `memory_of`.
        there: bytes that one scan may take.
        name: what the message calls the scan.

    Raises:
        ScanError: `too_much_memory`.
    """
    if needed > there:
        message = f"{name}: reading it takes up to {gigabytes(needed)} of memory, {gigabytes(there)} are there for it"
        remedy = "run again on a machine with more, or resample or crop the scan"
        raise ScanError(Finding("too_much_memory", f"{message}; {remedy}"))


def gigabytes(num_bytes: float) -> str:
    """As messages say it: `1.9 GB`."""
    return f"{max(0.0, num_bytes) / 1e9:.1f} GB"


def _of_nifti(start: bytes, num_bytes: int, scan: Scan, recipe: VolumeRecipe) -> int:
    try:
        header = read_header(start, name=scan.name)
        num_voxels = math.prod(int(edge) for edge in header.get_data_shape())
        dtype = np.dtype(header.get_data_dtype())
        offset = int(header["vox_offset"])
        scale = (float(header["scl_slope"]), float(header["scl_inter"]))
    except (ScanError, KeyError, ValueError, OverflowError, HeaderDataError):
        return num_bytes  # refused before anything is unpacked
    is_gzip, is_kept = is_packed(start), dtype.name in KEPT_TYPES
    end = offset + num_voxels * dtype.itemsize
    if not 0 < num_voxels <= MAX_VOXELS or offset < 0 or (is_gzip and end > num_bytes * MAX_GZIP_RATIO):
        return num_bytes  # likewise
    if not is_gzip:  # a file that ends early fills no more than it holds
        num_voxels = min(num_voxels, num_bytes // dtype.itemsize)
    # What lies packed is joined from its parts, another byte order is copied, a slope makes it float32.
    unpacked = min(end, offset + num_voxels * dtype.itemsize) if is_gzip else 0
    turned = num_voxels * dtype.itemsize if is_kept and not dtype.isnative else 0
    is_scaled = scale[0] != 0 and scale != (1.0, 0.0)
    if is_kept:
        scaled = 4 * num_voxels if is_scaled else 0
        reading = max(2 * unpacked, unpacked + turned + scaled)
        held = scaled or turned or unpacked
    else:
        reading = held = 4 * num_voxels
    is_float = is_scaled or not is_kept
    making = held + _of_transform(_shape3(header.get_data_shape()), num_voxels, recipe, is_float=is_float)
    return _OTHERWISE_BYTES + num_bytes + max(reading, making)


def _of_transform(shape: tuple[int, int, int], num_voxels: int, recipe: VolumeRecipe, *, is_float: bool) -> int:
    """From a whole image to a volume; `resample` and `foreground_box` take most, one after the other."""
    longest, second, _ = sorted(shape, reverse=True)
    edge = max(recipe.grid)
    # Along the grid's axes: first planes of the scan as wide as a sample reaches, then one axis after the other. An
    # oblique scan is smoothed as it stands, and two such copies are there at once.
    first = 4 * longest * second * edge
    aligned = first + max(4 * num_voxels, 4 * longest * edge * edge)
    oblique = 8 * num_voxels
    levels = _LEVELS_PER_VOXEL * num_voxels if is_float else 0
    steps = max(_BOX_PER_VOXEL * num_voxels, aligned, oblique)
    is_estimated = recipe.bias_field != "none" or recipe.registration != "none"
    prepared = (_ESTIMATING_BYTES if is_estimated else 0) + (
        _MASKING * num_voxels if recipe.brain_mask != "none" else 0
    )
    return levels + steps + prepared + _PER_GRID_VOXEL * math.prod(recipe.grid)


def _of_series(start: bytes, num_bytes: int, scan: Scan, recipe: VolumeRecipe) -> int:
    first, num_files = start, max(1, len(scan.parts))
    if start.startswith(ZIP_MAGIC):
        first, packed_bytes = _first_entry(start)
        if not scan.parts and packed_bytes:
            num_files = max(1, round(num_bytes / packed_bytes))
    values, width = _dicom_values(first)
    num_voxels = values * num_files or num_bytes
    files = int(_FILE_COPIES * num_bytes)
    if num_voxels > MAX_VOXELS:
        return files  # refused before a pixel is decoded
    plane = max(1, math.isqrt(max(1, values)))
    shape = (plane, plane, num_files)
    making = 4 * num_voxels + _of_transform(shape, num_voxels, recipe, is_float=True)
    return _OTHERWISE_BYTES + files + max((2 * width + 4) * num_voxels, making)


def _first_entry(start: bytes) -> tuple[bytes, int]:
    """What the first file of an archive begins with, and how many bytes it has there (APPNOTE.TXT, 4.3.7)."""
    method, packed_bytes = int.from_bytes(start[8:10], "little"), int.from_bytes(start[18:22], "little")
    at = 30 + int.from_bytes(start[26:28], "little") + int.from_bytes(start[28:30], "little")
    content = start[at : at + START_BYTES]
    if method == 0:
        return content, packed_bytes
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, START_BYTES), packed_bytes
    except zlib.error:
        return b"", packed_bytes


def _dicom_values(start: bytes) -> tuple[int, int]:
    """Pixels of a DICOM file with all frames and colours, and bytes of one; no pixels where its header is not read."""
    try:
        pydicom, _ = require_pydicom("")
    except UsageError:
        return 0, 1
    keys = ("NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "BitsAllocated")
    errors = (*PYDICOM_ERRORS, EOFError, pydicom.errors.BytesLengthException, pydicom.errors.InvalidDicomError)
    try:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")
            header: Any = pydicom.dcmread(io.BytesIO(start), stop_before_pixels=True, specific_tags=list(keys))
            if "Rows" not in header:
                return 0, 1
            frames, rows, columns, samples, bits = (int(header.get(key) or 1) for key in keys)
    except errors:
        return 0, 1
    return max(0, frames * rows * columns * samples), max(1, bits // 8)


def _pixels_of(start: bytes) -> int:
    """Width times height by a picture's header; 0 where it cannot be read."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(start)) as picture:
                return int(math.prod(picture.size))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0


def _shape3(shape: Any) -> tuple[int, int, int]:
    edges = sorted((int(edge) for edge in shape), reverse=True)[:3]
    x, y, z = (*edges, 1, 1, 1)[:3]
    return x, y, z
