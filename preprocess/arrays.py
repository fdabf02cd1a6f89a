"""Vectors and matrices: NumPy files and CSV tables in, float32 out; what is not whole or not finite is a finding.

A NumPy file is checked before it is loaded: its header may promise any size, and pickled objects may do anything.
"""

import csv
import io
import tokenize

import numpy as np

from preprocess.errors import ScanError
from preprocess.types import Finding, FloatArray

_MAX_VALUES = 2**28
"""As for volumes: a header that asks for more is a bad or hostile file."""
_MISSING = {"", "n/a", "na", "none", "null", ".", "-"}
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
"""By version of the format; version 3 differs in the names of fields only, and an array of numbers has none."""


def read_npy(data: bytes, *, name: str) -> np.ndarray:
    """Decode a NumPy file of numbers.

    Args:
        data: the whole file.
        name: what messages call the scan.

    Returns:
        The array in its own type and shape.

    Raises:
        ScanError: `unreadable`, `wrong_dtype`, `empty`, `too_large`, `truncated` or `trailing_bytes`.
    """
    stream = io.BytesIO(data)
    try:
        shape, _, dtype = _HEADERS[np.lib.format.read_magic(stream)](stream)
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, MemoryError, tokenize.TokenError) as error:
        # KeyError: a version of the format without numbers. The others: what a damaged header does to its parser.
        raise _refusal("unreadable", f"{name}: its NumPy header is damaged; copy the file again") from error
    if dtype.kind not in "biuf":
        raise _refusal("wrong_dtype", f"{name}: values of type {dtype} are no plain numbers; save them as float32")
    if min(shape, default=1) < 1:
        raise _refusal("empty", f"{name}: shape {shape} holds no values; export the file again")
    num_values = float(np.prod(shape, dtype=np.float64))
    if num_values > _MAX_VALUES:
        raise _refusal("too_large", f"{name}: shape {shape} is more than {_MAX_VALUES} values; crop it or leave it out")
    end = stream.tell() + int(num_values) * dtype.itemsize
    if len(data) < end:
        raise _refusal("truncated", f"{name}: truncated: {len(data)} of {end} bytes; copy the file again")
    if len(data) > end:
        raise _refusal("trailing_bytes", f"{name}: {len(data) - end} bytes behind the last value; export it again")
    return np.asarray(np.load(io.BytesIO(data), allow_pickle=False))


def read_csv(data: bytes, *, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode a CSV table of numbers below one line of headings.

    Args:
        data: the whole file.
        name: what messages call the scan.

    Returns:
        The values, float64, shape (F,) for one line and (R, F) for R lines, and the F headings. Missing cells are NaN.

    Raises:
        ScanError: `unreadable`, `no_header`, `empty`, `wrong_shape` or `not_a_number`.
    """
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        lines = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise _refusal("unreadable", f"{name}: not CSV text in UTF-8; save the table as CSV again") from error
    if len(lines) < 2:
        raise _refusal("empty", f"{name}: {len(lines)} lines; write one line of headings and one or more of numbers")
    (_, header), *rows = lines
    if all(_is_number(cell) for cell in header):
        raise _refusal("no_header", f"{name}: its first line is numbers; put one line of headings above it")
    values = np.empty((len(rows), len(header)))
    for place, (line, cells) in enumerate(rows):
        if len(cells) != len(header):
            message = f"{name}: line {line} has {len(cells)} cells, its headings are {len(header)}; correct the table"
            raise _refusal("wrong_shape", message)
        for column, cell in enumerate(cells):
            values[place, column] = _number(cell, f"{name}: line {line}, column {header[column]!r}")
    return (values[0] if len(rows) == 1 else values), tuple(header)


def to_array(values: np.ndarray, *, name: str, columns: tuple[str, ...] = ()) -> FloatArray:
    """A vector or matrix as it will be stored.

    Args:
        values: of any plain type.
        name: what messages call the scan.
        columns: headings, to name a bad value by.

    Returns:
        float32, shape (F,) or (R, F), C order.

    Raises:
        ScanError: `wrong_shape` when it is neither, `non_finite` when a value is none in float32.
    """
    if values.ndim not in (1, 2):
        message = f"{name}: shape {values.shape}, expected a vector (F,) or a matrix (R, F); save one of these"
        raise _refusal("wrong_shape", message)
    with np.errstate(over="ignore"):
        array: FloatArray = np.ascontiguousarray(values, dtype=np.float32)
    bad = np.argwhere(~np.isfinite(array))
    if len(bad):
        place = f"column {columns[bad[0][-1]]!r}" if columns else f"index {tuple(int(edge) for edge in bad[0])}"
        message = f"{name}: {len(bad)} values are missing, NaN or infinite in float32, the first at {place}"
        raise _refusal("non_finite", f"{message}; fill them in, or leave the file out")
    return array


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: str, where: str) -> float:
    if cell.lower() in _MISSING:
        return float("nan")
    try:
        return float(cell)
    except ValueError as error:
        raise _refusal("not_a_number", f"{where}: {cell[:40]!r} is no number; write numbers only") from error


def _refusal(code: str, message: str) -> ScanError:
    return ScanError(Finding(code, " ".join(message.split())))
