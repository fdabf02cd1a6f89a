"""The planner: every scan one row, no row twice, whatever is found and whatever is stored."""

import gc
import hashlib
import json
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocess.errors import StoreError
from preprocess.index import IndexRecord
from preprocess.plan import SCANS_PER_TASK, Claim, Found, Plan, Reread, identity_of, make_plan
from preprocess.types import Finding, Scan


def scan(subject: str, session: str, day: float | None, modality: str = "T1w", size: int = 10) -> Found:
    name = f"{subject}/{subject}_{session}_{modality}.nii"
    return Scan(subject, session, modality, f"/raw/{name}", day=day), name, size


def in_cohort(cohort: str, found: Found) -> Found:
    return replace(found[0], cohort=cohort), *found[1:]


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
        cohort=found.cohort,
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


def changed(*records: IndexRecord) -> Reread:
    return Reread(changed=frozenset(map(identity_of, records)))


def test_a_stored_scan_that_changed_at_its_source_gets_a_new_row_and_its_old_one_is_marked() -> None:
    first = [scan("a", "s1", 0), scan("b", "s1", 0)]
    stored = stored_of(make_plan(first, [], "f"))
    plan = make_plan(first, stored, "f", reread=changed(stored[0]))
    assert rows_of(plan) == {"a_s1_T1w": 2}
    assert plan.num_rows == 3
    assert plan.superseded == (stored[0],)
    old, other = plan.kept
    assert (old.row, old.present, old.superseded_by) == (0, False, 2)
    assert [finding.code for finding in old.findings] == ["superseded"]
    assert replace(old, present=True, superseded_by=None, findings=()) == stored[0]
    assert other == stored[1]


def test_a_scan_may_change_again_and_each_row_leads_to_the_next() -> None:
    first = [scan("a", "s1", 0)]
    stored = stored_of(make_plan(first, [], "f"))
    for row in (1, 2):
        plan = make_plan(first, stored, "f", reread=changed(stored[-1]))
        assert rows_of(plan) == {"a_s1_T1w": row}
        stored = stored_of(plan)
    assert [(record.row, record.superseded_by) for record in stored] == [(0, 1), (1, 2), (2, None)]
    again = make_plan(first, stored, "f")
    assert again.tasks == ()
    assert list(again.kept) == stored
    assert again.num_rows == 3


def test_all_modalities_of_a_visit_move_to_the_new_row_together() -> None:
    first = [scan("a", "s1", 0), scan("a", "s1", 0, modality="T2w"), scan("a", "s2", 9)]
    stored = stored_of(make_plan(first, [], "f"))
    one = next(record for record in stored if record.modality == "T2w")
    plan = make_plan(first, stored, "f", reread=changed(one))
    assert [(claim.row, claim.scan.modality) for claim in claims_of(plan)] == [(2, "T1w"), (2, "T2w")]
    assert [(record.row, record.superseded_by) for record in plan.kept] == [(0, 2), (0, 2), (1, None)]


def test_a_changed_visit_that_is_not_whole_at_the_source_is_refused() -> None:
    first = [scan("a", "s1", 0), scan("a", "s1", 0, modality="T2w")]
    stored = stored_of(make_plan(first, [], "f"))
    with pytest.raises(
        StoreError, match=r"^a_s1_T2w: no longer at the source, while another scan .* put the file back"
    ):
        make_plan(first[:1], stored, "f", reread=changed(stored[0]))


def test_what_was_left_out_stays_in_its_row_when_another_visit_changes() -> None:
    first = [scan("a", "s1", 0), scan("a", "s2", 9)]
    stored = stored_of(make_plan(first, [], "f"), left_out=(1,))
    plan = make_plan(first, stored, "f", reread=changed(stored[0]))
    assert rows_of(plan) == {"a_s1_T1w": 2}
    assert plan.kept[1] == stored[1]


@pytest.mark.parametrize("why", ["changed", "mended"])
def test_a_left_out_scan_is_tried_again_in_its_row_once_it_is_replaced_or_would_be_kept(why: str) -> None:
    first = [scan("a", "s1", 0), scan("a", "s2", 9)]
    stored = stored_of(make_plan(first, [], "f"), left_out=(0,))
    assert make_plan(first, stored, "f").tasks == ()
    plan = make_plan(first, stored, "f", reread=Reread(**{why: frozenset({identity_of(stored[0])})}))
    assert rows_of(plan) == {"a_s1_T1w": 0}
    assert [record.row for record in plan.kept] == [1]
    assert plan.num_rows == 2


def test_a_left_out_scan_carries_what_is_wrong_with_it_today() -> None:
    first = [scan("a", "s1", 0)]
    stored = stored_of(make_plan(first, [], "f"), left_out=(0,))
    today = (Finding("too_coarse", "a_s1_T1w: 9 mm is coarser than 8 mm"),)
    plan = make_plan(first, stored, "f", reread=Reread(findings={identity_of(stored[0]): today}))
    assert plan.tasks == ()
    assert plan.kept == (replace(stored[0], findings=today),)


def test_equal_ids_of_two_cohorts_are_two_people_with_rows_of_their_own() -> None:
    first = [in_cohort("north", scan("a", "s1", 0)), in_cohort("north", scan("b", "s1", 0))]
    stored = stored_of(make_plan(first, [], "f"))
    plan = make_plan([in_cohort("south", scan("a", "s1", 0)), in_cohort("south", scan("a", "s2", 9))], stored, "f")
    assert list(plan.kept) == stored
    assert [(claim.row, claim.scan.cohort, claim.scan.session_id) for claim in claims_of(plan)] == [
        (2, "south", "s1"),
        (3, "south", "s2"),
    ]
    people = {record.person for record in stored_of(plan)}
    assert people == {"north/a", "north/b", "south/a"}


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
        (replace(found, cohort="north"), name, size),
        (found, name, size + 1),
        (found, "b.nii", size),
    ]
    digests = {plain, digest(other), digest((found, name, size), other, fingerprint="g")}
    digests |= {digest(change, other) for change in changes}
    assert len(digests) == 3 + len(changes)


Names = tuple[str, str, str, str]
"""Cohort, subject, session and modality."""
_VISITS = st.dictionaries(
    st.tuples(st.sampled_from(["", "north"]), st.sampled_from("abc"), st.sampled_from("12"), st.sampled_from("XY")),
    st.none() | st.integers(0, 500),
    max_size=24,
)


def _found(visits: dict[Names, int | None]) -> list[Found]:
    return [
        in_cohort(cohort, scan(subject, session, day, modality))
        for (cohort, subject, session, modality), day in visits.items()
    ]


@given(first=_VISITS, second=_VISITS)
@settings(max_examples=200, deadline=None)
def test_over_any_two_runs_every_scan_has_one_row_and_no_row_is_taken_twice(
    first: dict[Names, int | None], second: dict[Names, int | None]
) -> None:
    stored = stored_of(make_plan(_found(first), [], "f"))
    plan = make_plan(_found(second), stored, "f")
    after = stored_of(plan)

    def names_of(record: IndexRecord) -> Names:
        return (record.cohort, record.subject_id, record.session_id, record.modality)

    held = [names_of(record) for record in after]
    assert sorted(held) == sorted({*first, *second})  # each once
    by_row: dict[int, set[tuple[str, ...]]] = {}
    for record in after:
        by_row.setdefault(record.row, set()).add(names_of(record)[:3])
    assert all(len(visits) == 1 for visits in by_row.values())
    assert sorted(by_row) == list(range(plan.num_rows))
    before = {names_of(record): record.row for record in stored}
    assert all(before.get(name, record.row) == record.row for name, record in zip(held, after, strict=True))
    assert all(0 < len(task) <= SCANS_PER_TASK for task in plan.tasks)


@given(_VISITS, st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_plan_does_not_depend_on_the_order_of_listing(visits: dict[Names, int | None], random: object) -> None:
    found = _found(visits)
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert make_plan(found, [], "f") == make_plan(shuffled, [], "f")


def test_the_digest_is_that_of_the_whole_work_as_json() -> None:
    """Records of a run that an earlier version began are found again under the same name."""
    found = [scan("b", "s1", 3.0), scan("a", "s2", None), scan("a", "s1", 0.0)]
    plan = make_plan(found, (), "0123456789abcdef")

    sizes = {name: size for _, name, size in found}
    work = [
        [
            claim.row, claim.source_name, sizes[claim.source_name],
            [claim.scan.cohort, claim.scan.name, claim.scan.day, claim.scan.site, claim.scan.scanner, []],
        ]
        for claim in claims_of(plan)
    ]  # fmt: skip
    whole = json.dumps(["0123456789abcdef", 3, 0, work]).encode()
    assert plan.digest == hashlib.sha256(whole).hexdigest()[:16]
    assert make_plan([], (), "f").digest == hashlib.sha256(json.dumps(["f", 0, 0, []]).encode()).hexdigest()[:16]


def test_people_that_are_registered_as_a_whole_lie_in_one_task_each() -> None:
    found = [scan(subject, f"s{visit}", visit) for subject in "abc" for visit in range(3)]
    found += [scan("d", f"s{visit:02d}", visit) for visit in range(SCANS_PER_TASK + 2)]
    plan = make_plan(found, [], "f", is_by_person=True)
    assert [[claim.scan.subject_id for claim in task] for task in plan.tasks] == [
        ["a"] * 3 + ["b"] * 3, ["c"] * 3, ["d"] * (SCANS_PER_TASK + 2),
    ]  # fmt: skip


def test_a_new_visit_gives_all_visits_of_its_person_new_rows_and_nobody_else() -> None:
    found = [scan(subject, f"s{visit}", visit) for subject in "ab" for visit in (0, 1)]
    stored = stored_of(make_plan(found, [], "f", is_by_person=True))
    again = make_plan([*found, scan("a", "s2", 2)], stored, "f", is_by_person=True)
    assert rows_of(again) == {"a_s0_T1w": 4, "a_s1_T1w": 5, "a_s2_T1w": 6}
    assert {one.row: one.superseded_by for one in again.kept} == {0: 4, 1: 5, 2: None, 3: None}
    assert not make_plan(found, stored, "f", is_by_person=True).tasks


def test_a_visit_that_was_left_out_before_is_no_reason_for_new_rows() -> None:
    found = [scan("a", f"s{visit}", visit) for visit in (0, 1, 2)]
    stored = stored_of(make_plan(found, [], "f", is_by_person=True), left_out=(1,))
    assert not make_plan(found, stored, "f", is_by_person=True).tasks
    mended = Reread(mended=frozenset({identity_of(found[1][0])}))
    assert set(rows_of(make_plan(found, stored, "f", reread=mended, is_by_person=True))) == {
        "a_s0_T1w", "a_s1_T1w", "a_s2_T1w",
    }  # fmt: skip


@given(_VISITS)
@settings(max_examples=200, deadline=None)
def test_rows_are_those_of_all_visits_sorted_at_once(visits: dict[Names, int | None]) -> None:
    """Brute force: also where two scans of one visit are given different days."""
    order = sorted(
        (cohort, subject, float("inf") if day is None else day, session)
        for (cohort, subject, session, _), day in visits.items()
    )
    rows: dict[tuple[str, str, str], int] = {}
    for cohort, subject, _, session in order:
        rows.setdefault((cohort, subject, session), len(rows))
    claims = claims_of(make_plan(_found(visits), [], "f"))
    assert {(c.scan.cohort, c.scan.subject_id, c.scan.session_id): c.row for c in claims} == rows
    assert [(c.row, c.scan.modality) for c in claims] == sorted((c.row, c.scan.modality) for c in claims)


def test_a_plan_takes_no_more_than_150_bytes_a_scan_beyond_the_listing() -> None:
    """A claim, its row and its places in lists; with a key and an entry for each it took 233."""
    found = [scan(f"sub-{n // 4:05d}", f"ses-{n % 4}", 90.0 * (n % 4)) for n in range(40_000)]
    make_plan(found[:100], [], "f")
    gc.collect()
    tracemalloc.start()
    try:
        plan = make_plan(found, [], "f")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert plan.num_rows == 40_000
    assert peak / 40_000 < 150
