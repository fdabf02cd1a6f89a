"""Equal scans are found by content alone, each names the others, and nobody else is touched."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.equal_content import (
    EQUAL_CONTENT,
    MIN_VALUES,
    equal_lines,
    equal_scans,
    persons_together,
    summary,
    with_findings,
)
from preprocess.index import IndexRecord
from preprocess.types import Finding
from tests.support.stores import record, volumes

SHAPES = {"T1w": (99, 1, 6, 5, 4), "T2w": (99, 1, 6, 5, 4), "clinical": (99, 4)}


def of(
    person: str, session: str, content: str, *, row: int = 0, modality: str = "T1w", cohort: str = ""
) -> IndexRecord:
    return replace(
        record(row, volumes(1)[0], modality=modality),
        **{"subject_id": person, "session_id": session, "cohort": cohort},
        **{"content_sha256": content, "source_sha256": f"file of {person} {session} {modality} {cohort}"},
    )


def rows(*records: IndexRecord) -> list[IndexRecord]:
    return [replace(one, row=row) for row, one in enumerate(records)]


def warnings(records: list[IndexRecord]) -> list[list[str]]:
    return [[one.message for one in held.findings if one.code == EQUAL_CONTENT] for held in records]


def test_a_copy_under_a_new_id_is_named_at_both_and_nobody_is_left_out() -> None:
    found = with_findings(rows(of("a", "1", "x"), of("b", "1", "x"), of("c", "1", "y")), SHAPES)
    end = "used once in training; delete or correct the copies"
    assert warnings(found) == [
        [f"a_1_T1w: equal content with b_1_T1w; {end}"],
        [f"b_1_T1w: equal content with a_1_T1w; {end}"],
        [],
    ]
    assert not any(one.leaves_out for held in found for one in held.findings)


@pytest.mark.parametrize(
    "second",
    [
        of("b", "1", "x"),
        of("a", "2", "x"),  # a pair without change
        of("a", "1", "x", modality="T2w"),
        of("a", "1", "x", cohort="north"),
        replace(of("b", "1", "y"), source_sha256=of("a", "1", "x").source_sha256),  # one file, two recipes of a kind
    ],
)
def test_persons_sessions_modalities_cohorts_and_files_are_all_compared(second: IndexRecord) -> None:
    assert [len(group) for group in equal_scans(rows(of("a", "1", "x"), second), SHAPES)] == [2]


def test_scans_that_were_left_out_and_short_vectors_are_no_copies() -> None:
    broken = [replace(of(name, "1", ""), present=False, source_sha256="page") for name in "ab"]
    scores = [of(name, "1", "x", modality="clinical") for name in "cd"]
    assert equal_scans(rows(*broken, *scores), SHAPES) == []
    assert len(equal_scans(rows(*scores), {"clinical": (2, MIN_VALUES)})) == 1


def test_a_store_of_several_cohorts_names_them() -> None:
    found = with_findings(rows(of("a", "1", "x", cohort="north"), of("a", "1", "x", cohort="south")), SHAPES)
    assert warnings(found)[0][0].startswith("north/a_1_T1w: equal content with south/a_1_T1w;")


def test_persons_who_share_through_others_are_one_group() -> None:
    groups = equal_scans(
        rows(of("a", "1", "x"), of("b", "1", "x"), of("b", "2", "y"), of("c", "1", "y"), of("d", "1", "z")), SHAPES
    )
    assert persons_together(groups) == (frozenset("abc"),)
    alone = equal_scans(rows(of("a", "1", "x"), of("a", "2", "x")), SHAPES)
    assert persons_together(alone) == ()


def test_lines_are_bounded_and_count_all() -> None:
    groups = equal_scans(
        rows(*(of(f"{who}{number}", "1", f"{number}") for number in range(30) for who in "ab")), SHAPES
    )
    lines = equal_lines(groups)
    assert lines[0] == "equal content: a0_1_T1w, b0_1_T1w"
    assert lines[-2:] == [
        "and 10 more groups of equal content",
        "60 scans of 60 persons have equal content (30 different)",
    ]
    assert len(lines) == 22
    assert (equal_lines([]), summary([])) == ([], "")


_STORE = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from("uvwxyz"), st.sampled_from("12"), st.booleans()), max_size=12
)


@given(_STORE)
@settings(max_examples=200, deadline=None)
def test_findings_agree_with_a_comparison_of_every_two_and_may_be_made_again(
    drawn: list[tuple[str, str, str, bool]],
) -> None:
    other = Finding("no_orientation", "a remark", leaves_out=False)
    records = [
        replace(of(person, str(row), content, row=row), source_sha256=source, present=present, findings=(other,))
        for row, (person, content, source, present) in enumerate(drawn)
    ]
    records = [replace(one, source_sha256=one.source_sha256 + one.content_sha256) for one in records]
    found = with_findings(records, SHAPES)
    has_equal = [
        one.present and any(o is not one and o.present and o.content_sha256 == one.content_sha256 for o in records)
        for one in records
    ]
    assert [len(messages) for messages in warnings(found)] == [int(there) for there in has_equal]
    assert [held.findings[0] for held in found] == [other] * len(records)
    assert with_findings(found, SHAPES) == found
    linked = {frozenset((a.person, b.person)) for a, b in itertools.combinations(records, 2)
              if a.present and b.present and a.content_sha256 == b.content_sha256 and a.person != b.person}  # fmt: skip
    groups = persons_together(equal_scans(records, SHAPES))
    assert all(any(pair <= group for group in groups) for pair in linked)
    names = sorted({name for pair in linked for name in pair})
    assert sorted(itertools.chain(*groups)) == names
    # As many groups as the graph of links has connected parts, by the rank of its Laplacian.
    index_of = {name: number for number, name in enumerate(names)}
    laplacian = np.zeros((len(names), len(names)))
    for first, second in map(sorted, linked):
        step = np.zeros(len(names))
        step[index_of[first]], step[index_of[second]] = 1, -1
        laplacian += np.outer(step, step)
    assert len(groups) == len(names) - (np.linalg.matrix_rank(laplacian) if len(names) else 0)
