"""The planner: every scan one row, no row twice, whatever is found and whatever is stored."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.errors import StoreError
from preprocess.index import IndexRecord
from preprocess.plan import SCANS_PER_TASK, Claim, Plan, make_plan
from preprocess.types import Scan

Found = tuple[Scan, str, int]


def scan(subject: str, session: str, day: float | None, modality: str = "T1w", size: int = 10) -> Found:
    name = f"{subject}/{subject}_{session}_{modality}.nii"
    return Scan(subject, session, modality, f"/raw/{name}", day=day), name, size


def stored_of(plan: Plan, *, left_out: tuple[int, ...] = ()) -> list[IndexRecord]:
    """The index after the plan was run; sizes as `scan` gives them unless a claim says otherwise."""
    new = [_record(claim, present=claim.row not in left_out) for claim in claims_of(plan)]
    return sorted([*plan.kept, *new], key=lambda record: (record.row, record.modality))


def _record(claim: Claim, *, present: bool) -> IndexRecord:
    found = claim.scan
    return IndexRecord(
        **{"row": claim.row, "modality": found.modality, "subject_id": found.subject_id},
        **{"session_id": found.session_id, "run": found.run, "day": found.day, "present": present},
        **{"site": found.site, "scanner": found.scanner, "spacing_mm": (), "affine": ()},
        **{"source_uri": claim.source_name, "source_sha256": "", "source_bytes": 10, "content_sha256": "x" * present},
        outcomes=dict(found.outcomes),
    )


def claims_of(plan: Plan) -> list[Claim]:
    return [claim for task in plan.tasks for claim in task]


def rows_of(plan: Plan) -> dict[str, int]:
    return {claim.scan.name: claim.row for claim in claims_of(plan)}


def test_visits_of_a_subject_lie_side_by_side_ordered_by_day_and_not_by_name() -> None:
    found = [scan("b", "s1", 400), scan("a", "s2", 0), scan("b", "s2", 30), scan("a", "s1", 90), scan("b", "s0", None)]
    assert rows_of(make_plan(found, [], "f")) == {
        "a_s2_T1w": 0,
        "a_s1_T1w": 1,
        "b_s2_T1w": 2,
        "b_s1_T1w": 3,
        "b_s0_T1w": 4,
    }


def test_modalities_of_a_visit_share_a_row() -> None:
    found = [scan("a", "s1", 0), scan("a", "s1", 0, "T2w"), scan("a", "s2", 9, "T2w")]
    plan = make_plan(found, [], "f")
    assert rows_of(plan) == {"a_s1_T1w": 0, "a_s1_T2w": 0, "a_s2_T2w": 1}
    assert plan.num_rows == 2


def test_appending_keeps_old_rows_and_puts_new_ones_behind() -> None:
    first = [scan("b", "s1", 0), scan("b", "s2", 9)]
    stored = stored_of(make_plan(first, [], "f"))
    plan = make_plan([scan("a", "s1", 0), *first, scan("b", "s0", -5)], stored, "f")
    assert rows_of(plan) == {"a_s1_T1w": 2, "b_s0_T1w": 3}
    assert list(plan.kept) == stored
    assert plan.num_rows == 4


def test_a_scan_that_left_the_source_stays_in_the_store() -> None:
    stored = stored_of(make_plan([scan("a", "s1", 0), scan("b", "s1", 0)], [], "f"))
    plan = make_plan([scan("b", "s1", 0)], stored, "f")
    assert (list(plan.kept), plan.tasks, plan.num_rows) == (stored, (), 2)


def test_corrected_tables_change_labels_and_do_no_work() -> None:
    found, name, size = scan("a", "s1", 0)
    stored = stored_of(make_plan([(found, name, size)], [], "f"))
    corrected = replace(found, day=3.0, site="south", scanner="B", outcomes={"mmse": 20.0})
    plan = make_plan([(corrected, name, size)], stored, "f")
    assert plan.tasks == ()
    (kept,) = plan.kept
    assert (kept.day, kept.site, kept.scanner, kept.outcomes) == (3.0, "south", "B", {"mmse": 20.0})
    assert replace(kept, day=0, site="", scanner="", outcomes={}) == stored[0]


def test_a_stored_scan_that_changed_at_its_source_is_refused() -> None:
    stored = stored_of(make_plan([scan("a", "s1", 0)], [], "f"))
    with pytest.raises(StoreError, match="a_s1_T1w: the source has 11 bytes, 10 when it was stored; preprocess the"):
        make_plan([scan("a", "s1", 0, size=11)], stored, "f")


def test_a_left_out_scan_is_tried_again_in_its_row_once_it_is_replaced() -> None:
    first = [scan("a", "s1", 0), scan("a", "s2", 9)]
    stored = stored_of(make_plan(first, [], "f"), left_out=(0,))
    assert make_plan(first, stored, "f").tasks == ()
    plan = make_plan([scan("a", "s1", 0, size=11), first[1]], stored, "f")
    assert rows_of(plan) == {"a_s1_T1w": 0}
    assert [record.row for record in plan.kept] == [1]
    assert plan.num_rows == 2


def test_left_out_scans_are_tried_again_when_the_limits_changed() -> None:
    found = [scan("a", "s1", 0), scan("a", "s2", 9)]
    stored = stored_of(make_plan(found, [], "f"), left_out=(0,))
    plan = make_plan(found, stored, "f", retry_left_out=True)
    assert rows_of(plan) == {"a_s1_T1w": 0}
    assert [record.row for record in plan.kept] == [1]


def test_the_digest_names_all_that_a_record_of_the_run_would_hold() -> None:
    found, name, size = scan("a", "s1", 0)
    other = scan("a", "s2", 9)

    def digest(*scans: Found, fingerprint: str = "f") -> str:
        return make_plan(scans, [], fingerprint).digest

    plain = digest((found, name, size), other)
    assert digest(other, (found, name, size)) == plain  # the order of listing is no part of the plan
    assert digest((replace(found, uri="/moved"), name, size), other) == plain  # nor is where the source lies
    changes = [
        (replace(found, day=99.0), name, size),  # swaps the rows
        (replace(found, day=1.0), name, size),
        (replace(found, outcomes={"mmse": 1.0}), name, size),
        (replace(found, site="x"), name, size),
        (found, name, size + 1),
        (found, "b.nii", size),
    ]
    digests = {plain, digest(other), digest((found, name, size), other, fingerprint="g")}
    digests |= {digest(change, other) for change in changes}
    assert len(digests) == 3 + len(changes)


_VISITS = st.dictionaries(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(["s1", "s2", "s3"]), st.sampled_from(["T1w", "T2w"])),
    st.none() | st.integers(0, 500),
    max_size=24,
)


def _found(visits: dict[tuple[str, str, str], int | None]) -> list[Found]:
    return [scan(subject, session, day, modality) for (subject, session, modality), day in visits.items()]


@given(first=_VISITS, second=_VISITS)
@settings(max_examples=200, deadline=None)
def test_over_any_two_runs_every_scan_has_one_row_and_no_row_is_taken_twice(
    first: dict[tuple[str, str, str], int | None], second: dict[tuple[str, str, str], int | None]
) -> None:
    stored = stored_of(make_plan(_found(first), [], "f"))
    plan = make_plan(_found(second), stored, "f")
    after = stored_of(plan)
    held = [(record.subject_id, record.session_id, record.modality) for record in after]
    assert sorted(held) == sorted({*first, *second})  # each once
    by_row: dict[int, set[tuple[str, str]]] = {}
    for record in after:
        by_row.setdefault(record.row, set()).add((record.subject_id, record.session_id))
    assert all(len(visits) == 1 for visits in by_row.values())
    assert sorted(by_row) == list(range(plan.num_rows))
    before = {(record.subject_id, record.session_id, record.modality): record.row for record in stored}
    assert all(before.get(name, record.row) == record.row for name, record in zip(held, after, strict=True))
    assert all(0 < len(task) <= SCANS_PER_TASK for task in plan.tasks)


@given(_VISITS, st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_plan_does_not_depend_on_the_order_of_listing(
    visits: dict[tuple[str, str, str], int | None], random: object
) -> None:
    found = _found(visits)
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert make_plan(found, [], "f") == make_plan(shuffled, [], "f")
