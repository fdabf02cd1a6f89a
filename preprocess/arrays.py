"""Vectors and matrices: NumPy files and tables in, float32 out; what is not whole or not finite is a finding.

A NumPy file is checked before it is loaded: its header may promise any size, and pickled objects may do anything.
"""

import csv
import io
import json
import tokenize
from collections.abc import Collection, Iterable, Sequence

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


def read_csv(data: bytes, *, name: str, leave_out: Collection[str] = ()) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode a CSV table of numbers below one line of headings.

    Args:
        data: the whole file.
        name: what messages call the scan.
        leave_out: headings of columns to leave out, such as labels; those that are not there do not matter.

    Returns:
        The values, float64, shape (F,) for one line and (R, F) for R lines, and the F headings. Missing cells are NaN.

    Raises:
        ScanError: `unreadable`, `no_header`, `empty`, `wrong_shape` or `not_a_number`.
    """
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""))
        lines = _without_blanks((reader.line_num, cells) for cells in reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise _refusal("unreadable", f"{name}: not CSV text in UTF-8; save the table as CSV again") from error
    if lines and _is_comment(lines[0][1]):
        lines = [line for line in lines if not line[1][0].startswith("#")]
    if len(lines) < 2:
        raise _refusal("empty", f"{name}: {len(lines)} lines; write one line of headings and one or more of numbers")
    (_, header), *rows = lines
    if all(_is_number(cell) for cell in header):
        message = "its first line is numbers; put one line of headings above it, or, if it is data, let it end in .txt"
        raise _refusal("no_header", f"{name}: {message}")
    return _numbers(rows, header, leave_out, name)


def read_text(data: bytes, *, name: str, leave_out: Collection[str] = ()) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode a table in plain text (.txt, .tsv), with or without a line of headings; lines that begin with # are none.

    Cells are parted by tabs where the first line holds one, else by semicolons, else by commas, else by blanks.

    Args:
        data: the whole file.
        name: what messages call the scan.
        leave_out: headings of columns to leave out.

    Returns:
        As `read_csv`; without headings, one column is a vector too, as numpy.savetxt writes one.

    Raises:
        ScanError: `unreadable`, `no_header`, `empty`, `wrong_shape` or `not_a_number`.
    """
    try:
        texts = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise _refusal("unreadable", f"{name}: not text in UTF-8; save the table as text again") from error
    numbered = [(line, text) for line, text in enumerate(texts, 1) if text.strip() and not text.startswith("#")]
    if not numbered:
        raise _refusal("empty", f"{name}: no line of numbers; export it again")
    separator = next((one for one in "\t;," if one in numbered[0][1].strip()), None)
    lines = _without_blanks((line, text.strip(" ").split(separator)) for line, text in numbered)
    first = lines[0][1]
    has_header = not any(_is_number(cell) for cell in first if cell.lower() not in _MISSING)
    if not has_header:
        if len(lines) == len(first) + 1 and first in _counts(len(first)):
            message = f"its first line counts to {first[-1]} above {len(first)} lines of {len(first)} numbers"
            raise _refusal("no_header", f"{name}: {message}; delete it if it numbers the columns")
        values, _ = _numbers(lines, [], (), name)
        return (values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values), ()
    if len(lines) < 2:
        raise _refusal("empty", f"{name}: headings and no numbers; export it again")
    return _numbers(lines[1:], first, leave_out, name)


def _numbers(
    rows: Sequence[tuple[int, list[str]]], header: list[str], leave_out: Collection[str], name: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Rows of cells, each with its line, as float64; without a header the first row says how many cells there are."""
    num_columns = len(header) or len(rows[0][1])
    kept = [column for column in range(num_columns) if not header or header[column] not in leave_out]
    if not kept:
        raise _refusal("empty", f"{name}: array.leave_out names every column; leave one in")
    values = np.empty((len(rows), len(kept)))
    for row, (line, cells) in enumerate(rows):
        if len(cells) != num_columns:
            said = f"its headings are {num_columns}" if header else f"the first line {num_columns}"
            message = f"{name}: line {line} has {len(cells)} cells, {said}; correct the table"
            raise _refusal("wrong_shape", message)
        for at, column in enumerate(kept):
            values[row, at] = _number(cells[column], name, line, column, header)
    return (values[0] if len(rows) == 1 else values), tuple(header[column] for column in kept) if header else ()


def to_array(values: np.ndarray, *, name: str, columns: tuple[str, ...] = ()) -> FloatArray:
    """A vector or matrix as it will be stored.

    Args:
        values: the numbers as read, of any plain type.
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
        where = f"column {columns[bad[0][-1]]!r}" if columns else f"index {tuple(int(edge) for edge in bad[0])}"
        message = f"{name}: {len(bad)} values are missing, NaN or infinite in float32, the first at {where}"
        if columns:
            named = list(dict.fromkeys(columns[index[-1]] for index in bad))
            remedy = f"fill them in, or {_leaving_out(named)}"
        else:
            remedy = "fill them in (numpy.nan_to_num writes 0), or leave the file out"
        raise _refusal("non_finite", f"{message}; {remedy}")
    return array


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_comment(cells: Sequence[str]) -> bool:
    """Whether the first line of a CSV table is a remark, as MRtrix writes one, and no heading such as `#id`."""
    return cells[0].startswith("#") and (" " in cells[0] or len(cells) == 1)


def _counts(num: int) -> tuple[list[str], list[str]]:
    """The numbers of columns as a heading would write them, from 0 and from 1."""
    return [str(column) for column in range(num)], [str(column) for column in range(1, num + 1)]


def _without_blanks(lines: Iterable[tuple[int, list[str]]]) -> list[tuple[int, list[str]]]:
    return [(line, [cell.strip() for cell in cells]) for line, cells in lines if any(map(str.strip, cells))]


def _number(cell: str, name: str, line: int, column: int, header: Sequence[str]) -> float:
    if cell.lower() in _MISSING:
        return float("nan")
    try:
        return float(cell)
    except ValueError as error:
        where = f"column {header[column]!r}" if header else f"column {column + 1}"
        remedy = _leaving_out([header[column]]) if header else "delete the column, or give all columns headings"
        message = f"{name}: line {line}, {where}: {cell[:40]!r} is no number; write numbers only, or {remedy}"
        raise _refusal("not_a_number", message) from error


def _leaving_out(columns: Sequence[str]) -> str:
    """The setting that stores a table without these columns; of many, the first few."""
    named = json.dumps(list(columns[:5]), ensure_ascii=False)
    return f"leave the column out with array.leave_out = {named} in the recipe, for a new store"


def _refusal(code: str, message: str) -> ScanError:
    return ScanError(Finding(code, " ".join(message.split())))
