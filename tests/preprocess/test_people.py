"""One id is one person within a cohort: other people under it are refused, the same people go on, however they come."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from preprocess.engine import plan_run, run_plan
from preprocess.errors import UsageError
from preprocess.people import alike_ids
from preprocess.plan import Plan
from preprocess.sources import Listing, list_scans
from preprocess.storage import Location
from preprocess.store import Store
from preprocess.types import Scan
from tests.support.images import RECIPE, head_file, tree, write_bids


def listed(raw: Path, cohort: str = "", *, given: bool = False, modality: str = "T1w") -> Listing:
    """The folder as a source that gives it this name; all its files are known."""
    listing = list_scans(str(raw), (modality,))
    listing.scans = [(replace(scan, cohort=cohort), name, size) for scan, name, size in listing.scans]
    listing.cohort, listing.cohort_given = cohort, given
    listing.names = frozenset(tree(raw))
    return listing


def enter(listing: Listing, store: Path, *, modality: str = "T1w") -> Plan:
    recipe = RECIPE.model_copy(update={"modalities": (modality,)})
    plan = plan_run(listing, Location(store), recipe)
    run_plan(plan, listing, Location(store), recipe, workers=0)
    return plan


def cohort_at(raw: Path, seed: int, subjects: int = 3, sessions: tuple[str, ...] = ("01", "02")) -> Path:
    people = {
        f"{number:02d}": {
            session: head_file(0.95 - 0.02 * int(session), seed=100 * seed + 10 * number + int(session))
            for session in sessions
        }
        for number in range(subjects)
    }
    return write_bids(raw, people, {session: 100.0 * int(session) for session in sessions})


def test_another_cohort_with_the_same_ids_is_refused_with_both_remedies(tmp_path: Path) -> None:
    enter(listed(cohort_at(tmp_path / "a", 1, sessions=("01",))), tmp_path / "s")
    before = tree(tmp_path / "s")
    others = listed(cohort_at(tmp_path / "b", 2, sessions=("02",)))
    with pytest.raises(UsageError) as caught:
        enter(others, tmp_path / "s")
    assert str(caught.value) == (
        f"{tmp_path}/b: 3 subjects have ids that the store has from scans that are not here: sub-00, sub-01, sub-02; "
        "if they are other people, name their cohort with --cohort NAME; if they are the same people, say so with "
        "--cohort ''"
    )
    assert tree(tmp_path / "s") == before


def test_another_cohort_with_the_same_file_names_is_refused_too(tmp_path: Path) -> None:
    enter(listed(cohort_at(tmp_path / "a", 1)), tmp_path / "s")
    with pytest.raises(UsageError, match=r"3 subjects have ids that the store has from scans that are not here"):
        enter(listed(cohort_at(tmp_path / "b", 2)), tmp_path / "s")


def test_with_a_name_they_are_other_people(tmp_path: Path) -> None:
    enter(listed(cohort_at(tmp_path / "a", 1)), tmp_path / "s")
    enter(listed(cohort_at(tmp_path / "b", 2), "south", given=True), tmp_path / "s")
    records = Store.open(tmp_path / "s").records
    assert len({record.person for record in records}) == 6
    assert [record.row for record in records] == list(range(12))
    # Again, both change nothing.
    before = tree(tmp_path / "s")
    enter(listed(tmp_path / "a"), tmp_path / "s")
    enter(listed(tmp_path / "b", "south"), tmp_path / "s")
    assert tree(tmp_path / "s") == before


def test_new_visits_in_a_second_folder_enter_when_the_user_says_whose_they_are(tmp_path: Path) -> None:
    enter(listed(cohort_at(tmp_path / "a", 1, sessions=("01",)), "north"), tmp_path / "s")
    later = cohort_at(tmp_path / "b", 1, sessions=("02",))
    with pytest.raises(UsageError, match="say so with --cohort 'north'"):
        enter(listed(later, "north"), tmp_path / "s")
    plan = enter(listed(later, "north", given=True), tmp_path / "s")
    people = Store.open(tmp_path / "s").records
    assert sorted(record.session_id for record in people if record.person == "north/sub-01") == ["ses-01", "ses-02"]
    assert plan.notes == ()  # a part of a cohort: what it lacks is not gone


def test_a_grown_and_a_moved_cohort_and_one_with_fewer_visits_are_the_same_people(tmp_path: Path) -> None:
    raw = cohort_at(tmp_path / "a", 1)
    enter(listed(raw), tmp_path / "s")
    moved = shutil.copytree(raw, tmp_path / "b")
    cohort_at(moved, 1, subjects=4, sessions=("01", "02", "03"))
    shutil.rmtree(moved / "sub-01" / "ses-01")
    plan = enter(listed(moved), tmp_path / "s")
    assert plan.notes == (
        "1 stored scan is no longer in the source: sub-01_ses-01_T1w; it stays; to drop any, preprocess into a new "
        "store",
    )
    assert [record.full_name for record in plan.gone] == ["sub-01_ses-01_T1w"]
    assert len(Store.open(tmp_path / "s").records) == 12


def test_a_renamed_file_of_equal_content_tells_the_person(tmp_path: Path) -> None:
    raw = cohort_at(tmp_path / "a", 1, subjects=1, sessions=("01",))
    enter(listed(raw), tmp_path / "s")
    folder = raw / "sub-00" / "ses-01" / "anat"
    (folder / "sub-00_ses-01_T1w.nii.gz").rename(folder / "sub-00_ses-01_run-1_T1w.nii.gz")
    enter(listed(raw), tmp_path / "s")
    assert [record.run for record in Store.open(tmp_path / "s").records] == ["", "run-1"]


def test_a_second_modality_of_the_same_folder_enters_and_of_another_cohort_is_refused(tmp_path: Path) -> None:
    """Both folders have the same names: only the content of the T1w files tells them apart."""
    for name, seed in (("a", 1), ("b", 2)):
        raw = cohort_at(tmp_path / name, seed, sessions=("01",))
        for path in sorted(raw.glob("*/*/anat/*_T1w.nii.gz")):
            path.with_name(path.name.replace("T1w", "T2w")).write_bytes(head_file(0.7, seed=len(path.name) + seed))
    enter(listed(tmp_path / "a"), tmp_path / "s")
    with pytest.raises(UsageError, match="3 subjects have ids that the store has from scans that are not here"):
        enter(listed(tmp_path / "b", modality="T2w"), tmp_path / "s", modality="T2w")
    plan = enter(listed(tmp_path / "a", modality="T2w"), tmp_path / "s", modality="T2w")
    assert plan.notes == ()  # the T1w files are there
    assert len(Store.open(tmp_path / "s").records) == 6


@pytest.mark.parametrize(
    ("first", "second", "stored_as"),
    [
        ("", "north", "without the name of a cohort"),
        ("north", "south", "as cohort 'north'"),
        ("north", "", "as cohort"),
    ],
)
def test_the_same_files_under_another_name_are_refused(first: str, second: str, stored_as: str, tmp_path: Path) -> None:
    raw = cohort_at(tmp_path / "a", 1)
    enter(listed(raw, first), tmp_path / "s")
    with pytest.raises(
        UsageError, match=rf"sub-00_ses-01_T1w, .* and 3 more: in the store already, {stored_as}.*--cohort '{first}'"
    ):
        enter(listed(raw, second, given=True), tmp_path / "s")


def test_removed_subjects_are_named_and_a_part_of_a_cohort_is_one_line(tmp_path: Path) -> None:
    raw = cohort_at(tmp_path / "a", 1, subjects=4)
    enter(listed(raw), tmp_path / "s")
    shutil.rmtree(raw / "sub-03")
    assert enter(listed(raw), tmp_path / "s").notes == (
        "2 stored scans are no longer in the source: sub-03_ses-01_T1w, sub-03_ses-02_T1w; they stay; to drop any, "
        "preprocess into a new store",
    )
    for name in ("sub-01", "sub-02"):
        shutil.rmtree(raw / name)
    assert enter(listed(raw), tmp_path / "s").notes == (
        "the source has 2 of the 8 stored scans of its cohort; the others stay",
    )
    assert len(Store.open(tmp_path / "s").records) == 8


def test_ids_that_differ_in_case_or_zeros_are_named() -> None:
    def scans(*names: str) -> list[Scan]:
        return [Scan(name, "ses-1", "T1w", "") for name in names]

    (line,) = alike_ids(scans("sub-1", "sub-01", "sub-10", "sub-100", "sub-001"))
    assert line.startswith("sub-001, sub-01, sub-1: subjects whose ids differ only in case or zeros are kept apart")
    assert len(alike_ids(scans("sub-a", "sub-A"))) == 1
    assert alike_ids(scans("sub-1", "sub-11", "sub-101", "sub-110")) == []
    (line,) = alike_ids([Scan("s", "ses-1", "T1w", ""), Scan("s", "ses-01", "T1w", "")])
    assert line.startswith("ses-01, ses-1: visits of s whose ids differ only")
