"""Vectors and matrices as numpy and csv write them; every file that is not whole, plain or finite is one finding."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.arrays import read_csv, read_npy, read_text, to_array
from preprocess.errors import ScanError
from tests.support.clips import npy

MATRIX = np.random.default_rng(0).normal(size=(6, 5))


def finding(call: object, *arguments: object, **options: object) -> tuple[str, str]:
    with pytest.raises(ScanError, match=r"^anna_SC: ") as caught:
        call(*arguments, name="anna_SC", **options)  # type: ignore[operator]
    assert "\n" not in str(caught.value)
    return caught.value.finding.code, str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "float64", ">f4", "float16", "int16", "uint8", "bool"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_come_out_as_numpy_saved_them(dtype: str, order: str) -> None:
    values = np.asarray(MATRIX.astype(dtype), order=order)
    found = read_npy(npy(values), name="x")
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)
    stored = to_array(found, name="x")
    assert (stored.dtype, stored.flags.c_contiguous) == (np.float32, True)
    np.testing.assert_array_equal(stored, values.astype(np.float32))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (npy(MATRIX)[:-1], "truncated"),
        (npy(MATRIX) + b"\0", "trailing_bytes"),
        (npy(MATRIX)[:20], "unreadable"),
        (npy(MATRIX)[:6] + b"\x07\x00" + npy(MATRIX)[8:], "unreadable"),
        (npy(MATRIX).replace(b"'fortran_order'", b"'fortran-order'"), "unreadable"),
        (npy(np.array([{"a": 1}, None], dtype=object)), "wrong_dtype"),
        (npy(MATRIX.astype(complex)), "wrong_dtype"),
        (npy(np.array(["1", "2"])), "wrong_dtype"),
        (npy(np.zeros((0, 4))), "empty"),
        (npy(MATRIX).replace(b"(6, 5)", b"(6, 5000000000)"), "too_large"),
        (b"\x93NUMPY", "unreadable"),
    ],
)
def test_a_numpy_file_that_cannot_be_trusted_is_one_finding(data: bytes, code: str) -> None:
    assert finding(read_npy, data)[0] == code


@given(st.integers(0, 140), st.integers(0, 255))
@settings(max_examples=400, deadline=None)
def test_no_changed_byte_of_a_header_raises_anything_but_a_finding(position: int, value: int) -> None:
    data = bytearray(npy(MATRIX))
    data[position] = value
    try:
        read_npy(bytes(data), name="x")
    except ScanError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message


def written(rows: list[list[object]]) -> bytes:
    sink = io.StringIO()
    csv.writer(sink).writerows(rows)
    return sink.getvalue().encode()


def test_one_line_is_a_vector_and_several_are_a_matrix() -> None:
    header = ["mmse", "age, years", "x"]
    vector, columns = read_csv(written([header, [27, 71.5, -4]]), name="x")
    assert columns == tuple(header)
    np.testing.assert_array_equal(vector, [27, 71.5, -4])  # -4 is a value here
    matrix, _ = read_csv(b"\xef\xbb\xbf" + written([header, [1, 2, 3], [], [4, 5, "6e3"]]), name="x")
    np.testing.assert_array_equal(matrix, [[1, 2, 3], [4, 5, 6000]])


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        (b"", "empty", "0 lines"),
        (b"a,b\n\n", "empty", "1 lines"),
        (b"1,2\n3,4\n", "no_header", "put one line of headings above it"),
        (b"a,b\n1\n", "wrong_shape", "line 2 has 1 cells, its headings are 2"),
        (b"a,sex\n1,female\n", "not_a_number", "line 2, column 'sex': 'female' is no number"),
        (b"a;b\n1;2\n", "not_a_number", "'1;2' is no number"),
        (b"a\xff\n1\n", "unreadable", "UTF-8"),
    ],
)
def test_a_table_that_is_not_numbers_below_headings_is_one_finding(text: bytes, code: str, part: str) -> None:
    found, message = finding(read_csv, text)
    assert found == code
    assert part in message


@pytest.mark.parametrize("cell", ["", "n/a", "NaN", "inf", "1e39", "."])
def test_a_missing_or_infinite_value_is_named_by_its_column(cell: str) -> None:
    values, columns = read_csv(f"a,b\n1,{cell}\n".encode(), name="x")
    code, message = finding(to_array, values, columns=columns)
    assert code == "non_finite"
    assert "1 values are missing, NaN or infinite in float32, the first at column 'b'" in message


def test_a_value_beyond_float32_is_named_by_its_index() -> None:
    values = MATRIX.copy()
    values[3, 2] = 1e300
    code, message = finding(to_array, values)
    assert code == "non_finite"
    assert "the first at index (3, 2); fill them in" in message


@pytest.mark.parametrize("shape", [(), (2, 3, 4)])
def test_what_is_neither_vector_nor_matrix_is_refused(shape: tuple[int, ...]) -> None:
    assert finding(to_array, np.zeros(shape))[0] == "wrong_shape"


@pytest.mark.parametrize("delimiter", [" ", "\t", ",", ";"])
@pytest.mark.parametrize("header", ["", "a b c d e"])
def test_text_that_numpy_writes_is_read_with_and_without_remarks(delimiter: str, header: str) -> None:
    sink = io.StringIO()
    np.savetxt(sink, MATRIX, delimiter=delimiter, header=header)  # its header is a remark
    values, columns = read_text(sink.getvalue().encode(), name="x")
    np.testing.assert_allclose(values, MATRIX, rtol=0, atol=1e-15)
    assert columns == ()


@pytest.mark.parametrize("delimiter", [" ", "\t", ",", ";"])
def test_text_below_headings_is_named_by_them(delimiter: str) -> None:
    sink = io.StringIO()
    np.savetxt(sink, MATRIX[:, :2], delimiter=delimiter, header=f"ct{delimiter}area", comments="")
    values, columns = read_text(sink.getvalue().encode(), name="x")
    np.testing.assert_allclose(values, MATRIX[:, :2], rtol=0, atol=1e-15)
    assert columns == ("ct", "area")


def test_one_line_or_one_column_of_text_is_a_vector() -> None:
    np.testing.assert_array_equal(read_text(b"1 2 3\n", name="x")[0], [1, 2, 3])
    np.testing.assert_array_equal(read_text(b"1\n2\n3\n", name="x")[0], [1, 2, 3])
    np.testing.assert_array_equal(read_text(b"  1   2\r\n\r\n  3   4\r\n", name="x")[0], [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        (b"", "empty", "no line of numbers"),
        (b"# a\n", "empty", "no line of numbers"),
        (b"a b\n", "empty", "headings and no numbers"),
        (b"1 2\n3\n", "wrong_shape", "line 2 has 1 cells, the first line 2"),
        (b"1 x\n3 4\n", "not_a_number", "line 1, column 2: 'x' is no number; write numbers only, or delete the column"),
        (b"27,5 28,1\n1,2 3,4\n", "not_a_number", "'5 28' is no number"),
        (b"1 2\n0 7\n7 0\n", "no_header", "its first line counts to 2 above 2 lines of 2 numbers; delete it"),
        (b"0 1\n0 7\n7 0\n", "no_header", "delete it if it numbers the columns"),
        (b"1 \xff\n", "unreadable", "UTF-8"),
    ],
)
def test_text_that_is_no_table_of_numbers_is_one_finding(text: bytes, code: str, part: str) -> None:
    found, message = finding(read_text, text)
    assert found == code
    assert part in message


def test_a_column_of_labels_is_named_with_the_setting_that_leaves_it_out() -> None:
    tables = {read_csv: b"roi,ct,n\nV1,2.5,\nV2,3,\n", read_text: b"roi\tct\tn\nV1\t2.5\tn/a\nV2\t3\tn/a\n"}
    for read, data in tables.items():
        message = finding(read, data)[1]
        assert "line 2, column 'roi': 'V1' is no number; write numbers only, or leave the column out" in message
        assert 'with array.leave_out = ["roi"] in the recipe, for a new store' in message
        values, columns = read(data, name="x", leave_out=("roi",))
        assert (
            'or leave the column out with array.leave_out = ["n"] in' in finding(to_array, values, columns=columns)[1]
        )
        values, columns = read(data, name="x", leave_out=("n", "roi", "absent"))
        assert columns == ("ct",)
        np.testing.assert_array_equal(values, [[2.5], [3]])
        assert "names every column" in finding(read, data, leave_out=("roi", "ct", "n"))[1]


def test_a_remark_above_a_csv_table_is_none_of_its_lines() -> None:
    remark = b"# command_history: tck2connectome in.tck nodes.mif out.csv (version=3.0.4)\n"
    assert "let it end in .txt" in finding(read_csv, remark + b"0,7\n7,0\n")[1]
    np.testing.assert_array_equal(read_text(remark + b"0,7\n7,0\n", name="x")[0], [[0, 7], [7, 0]])
    assert read_csv(b"#id,ct\n1,2\n", name="x")[1] == ("#id", "ct")
