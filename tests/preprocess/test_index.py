"""The index: what goes into the Parquet file comes out again, and pyarrow alone can read it."""

import io
import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.index import (
    IndexRecord,
    from_bytes,
    from_table,
    listed,
    naming,
    person_of,
    subject_of,
    to_bytes,
    to_table,
)
from preprocess.schema import INDEX_COLUMNS, TISSUE_COLUMN
from preprocess.types import Finding, TissueFit
from tests.support.stores import record, volumes

_TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
_NUMBER = st.floats(allow_nan=False)
RECORDS = st.builds(
    IndexRecord,
    row=st.integers(0, 99),
    modality=st.sampled_from(["T1w", "T2w"]),
    subject_id=_TEXT,
    session_id=_TEXT,
    run=_TEXT,
    day=st.none() | _NUMBER,
    present=st.booleans(),
    site=_TEXT,
    scanner=_TEXT,
    spacing_mm=st.tuples(_NUMBER, _NUMBER, _NUMBER) | st.just(()),
    affine=st.lists(_NUMBER, max_size=16).map(tuple),
    source_uri=_TEXT,
    source_sha256=_TEXT,
    source_bytes=st.integers(0, 2**40),
    content_sha256=_TEXT,
    findings=st.lists(st.builds(Finding, code=_TEXT, message=_TEXT, leaves_out=st.booleans()), max_size=2).map(tuple),
    outcomes=st.dictionaries(_TEXT, _NUMBER, max_size=3),
    cohort=_TEXT,
    tissue=st.none()
    | st.builds(
        TissueFit,
        means=st.tuples(_NUMBER, _NUMBER, _NUMBER),
        fractions=st.tuples(_NUMBER, _NUMBER, _NUMBER),
        contrast=_NUMBER,
        bias=_NUMBER,
        depth=_NUMBER,
        field=st.lists(_NUMBER, max_size=10).map(tuple),
    ),
)


@given(st.lists(RECORDS, max_size=5, unique_by=lambda found: (found.row, found.modality)))
@settings(max_examples=50, deadline=None)
def test_any_records_survive_the_file_and_json(records: list[IndexRecord]) -> None:
    ordered = sorted(records, key=lambda found: (found.row, found.modality))
    assert from_table(from_bytes(to_bytes(to_table(records)))) == ordered
    assert [IndexRecord.from_dict(json.loads(json.dumps(found.to_dict()))) for found in records] == records


def test_equal_records_in_any_order_give_equal_bytes() -> None:
    records = [record(row, volumes(4)[row]) for row in range(4)]
    assert to_bytes(to_table(records)) == to_bytes(to_table(records[::-1]))


def test_the_file_has_the_columns_of_the_schema_and_one_for_each_score() -> None:
    records = [record(row, volumes(2)[row]) for row in range(2)]
    table = pq.read_table(io.BytesIO(to_bytes(to_table(records))))
    assert table.column_names == [name for name, _ in INDEX_COLUMNS] + ["outcome.mmse"]
    for name, kind in INDEX_COLUMNS:
        assert str(table.schema.field(name).type).replace("element", "item") == str(kind).replace("element", "item")
    assert table.column("outcome.mmse").to_pylist() == [None, 26.0]
    assert table.column("row").to_pylist() == [0, 1]


def test_a_fit_adds_one_column_and_its_absence_leaves_the_bytes_as_they_were() -> None:
    records = [record(row, volumes(2)[row]) for row in range(2)]
    plain = to_bytes(to_table(records))
    assert TISSUE_COLUMN not in from_bytes(plain).column_names
    fit = TissueFit((0.3, 0.7, 0.9), (0.1, 0.4, 0.5), 6.0, 1.2, 0.03, (0.0,) * 10)
    fitted = from_bytes(to_bytes(to_table([replace(records[0], tissue=fit), records[1]])))
    assert fitted.column(TISSUE_COLUMN)[0].as_py()["means"] == [0.3, 0.7, 0.9]
    assert fitted.column(TISSUE_COLUMN)[1].as_py() is None
    assert to_bytes(fitted.drop_columns([TISSUE_COLUMN])) == plain


def test_a_record_is_called_by_its_ids() -> None:
    assert record(3, None).name == "sub-01_ses-01_T1w"


def test_an_index_of_the_time_before_cohorts_had_names_reads_as_one_without() -> None:
    records = [record(row, volumes(2)[row]) for row in range(2)]
    old = to_bytes(to_table(records).drop_columns(["cohort"]))
    assert from_table(from_bytes(old)) == records
    assert from_bytes(old)["cohort"].to_pylist() == ["", ""]


_ID = st.text("ab/%2F", min_size=1, max_size=4)


@given(st.tuples(st.just("") | _ID, _ID), st.tuples(st.just("") | _ID, _ID))
def test_no_two_people_have_one_name(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (person_of(*one) == person_of(*other)) == (one == other)
    assert subject_of(person_of(*one)) == one[1]


def test_a_person_is_called_by_cohort_and_subject_or_by_the_subject_alone() -> None:
    assert person_of("IXI", "sub-01") == "IXI/sub-01"
    assert person_of("", "sub-01") == "sub-01"


def test_a_scan_is_called_with_its_cohort_where_there_are_several() -> None:
    mine = replace(record(0, None), cohort="IXI")
    assert naming([mine])(mine) == "sub-00_ses-00_T1w"
    assert naming([mine, record(1, None)])(mine) == "IXI/sub-00_ses-00_T1w"
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcde")) == "a, b, c and 2 more"


def test_what_is_no_parquet_file_is_an_arrow_error() -> None:
    with pytest.raises(pa.ArrowInvalid):
        from_bytes(b"PAR1 and nothing more")
