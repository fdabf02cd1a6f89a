"""From folders to splits and pairs: two cohorts with equal ids, and people who were copied under new ones."""

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from preprocess.cli import verify
from preprocess.engine import plan_run, run_plan
from preprocess.manifest import OutcomeSpec
from preprocess.sources import list_scans
from preprocess.storage import Location
from preprocess.store import Store
from tests.support.images import RECIPE, gz, head, head_file, nifti, tree, write_bids
from trainer.data.cohort import Cohort, read_cohort
from trainer.data.pairs import rescan_pairs, visit_pairs
from trainer.data.sampling import plan_epoch
from trainer.data.splits import SPLITS, split_subjects

MMSE = OutcomeSpec(name="mmse", higher_is_better=True, threshold=2.0)
DAYS = {"01": 0.0, "02": 0.0, "03": 365.0}
"""The second session is a rescan of the first."""


def write_people(raw: Path, ids: range, seed: int) -> Path:
    return write_bids(
        raw,
        {
            f"{n:02d}": {s: head_file(0.98 - 0.02 * int(s), seed=1000 * seed + 10 * n + int(s)) for s in DAYS}
            for n in ids
        },
        DAYS,
    )


def enter(raw: Path, store: Path, cohort: str) -> None:
    listing = list_scans(str(raw), ("T1w",))
    listing.scans = [(replace(scan, cohort=cohort), name, size) for scan, name, size in listing.scans]
    listing.cohort, listing.names = cohort, frozenset(tree(raw))
    location = Location(store)
    run_plan(plan_run(listing, location, RECIPE), listing, location, RECIPE, workers=0)


def cohort_in(store: Path) -> Cohort:
    return read_cohort(Store.open(store), "T1w", "mmse")


def test_two_cohorts_with_equal_ids_are_twice_as_many_people_and_no_pair_joins_them(tmp_path: Path) -> None:
    for seed, name in enumerate(("north", "south")):
        enter(write_people(tmp_path / name, range(4), seed), tmp_path / "s", name)
    cohort = cohort_in(tmp_path / "s")
    assert cohort.note == ""
    records = {record.row: record for record in Store.open(tmp_path / "s").records}
    split = split_subjects(cohort.subject_ids, validation=0.25, test=0.25, seed=0, together=cohort.together)
    assert sorted(split.train + split.validation + split.test) == sorted(
        f"{name}/sub-{n:02d}" for name in ("north", "south") for n in range(4)
    )
    for pairs, per_person in ((visit_pairs(cohort, MMSE, which="all"), 1), (rescan_pairs(cohort, MMSE), 1)):
        assert len(pairs) == 8 * per_person
        for earlier, later in zip(pairs.earlier_P, pairs.later_P, strict=True):
            one, other = (records[int(cohort.rows_N[index])] for index in (earlier, later))
            assert (one.cohort, one.subject_id) == (other.cohort, other.subject_id)


def test_people_copied_under_new_ids_are_never_on_two_sides_nor_strangers_in_a_batch(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reported of a data set: ten copies, and the models were tested on what they had learned."""
    raw = write_people(tmp_path / "raw", range(20), 1)
    for n in range(10):
        for session in DAYS:
            names = [
                f"sub-{n + shift:02d}/ses-{session}/anat/sub-{n + shift:02d}_ses-{session}_T1w.nii.gz"
                for shift in (0, 10)
            ]
            if session != "03":  # the last visit is of their own: so they stay two people
                shutil.copyfile(raw / names[0], raw / names[1])
    enter(raw, tmp_path / "s", "")
    store = Store.open(tmp_path / "s")
    warned = [record for record in store.records if any(one.code == "equal_content" for one in record.findings)]
    assert len(warned) == 40
    assert store.manifest.num_kept == 60
    assert verify(str(tmp_path / "s")) == 0
    assert "40 scans of 20 persons have equal content (20 different)" in capsys.readouterr().out
    cohort = cohort_in(tmp_path / "s")
    assert len(cohort) == 40
    content = {record.row: record.content_sha256 for record in store.records}
    digests = [content[int(row)] for row in cohort.rows_N]
    assert len(set(digests)) == len(digests)
    for seed in range(30):
        split = split_subjects(cohort.subject_ids, validation=0.2, test=0.2, seed=seed, together=cohort.together)
        side = {person: name for name in SPLITS for person in split.of(name)}
        assert len(side) == 20
        assert all(side[f"sub-{n:02d}"] == side[f"sub-{n + 10:02d}"] for n in range(10))
        for batch in plan_epoch(cohort, sampling="scans", batch_size=4, subjects_per_epoch=1.0, seed=seed, epoch=0):
            numbers = [int(cohort.subject_ids[index][-2:]) % 10 for index in batch[:, 0]]
            assert len(set(numbers)) == len(numbers)


def test_a_rescan_that_is_a_copy_makes_no_noise_floor_and_a_visit_that_is_one_no_pair(tmp_path: Path) -> None:
    one, other = head(), head(0.9, seed=3)
    sessions = {"01": gz(nifti(one)), "02": nifti(one), "03": nifti(other), "04": gz(nifti(other))}
    days = {"01": 0.0, "02": 0.0, "03": 365.0, "04": 730.0}
    raw = write_bids(tmp_path / "raw", {"01": sessions}, days)  # packed or not, the voxels are equal
    for path in raw.glob("*/*/anat/*.nii.gz"):
        if path.read_bytes()[:2] != b"\x1f\x8b":
            path.rename(path.with_suffix(""))
    enter(raw, tmp_path / "s", "")
    cohort = cohort_in(tmp_path / "s")
    assert cohort.sessions == ("ses-01", "ses-03")
    assert len(rescan_pairs(cohort, MMSE)) == 0
    visits = visit_pairs(cohort, MMSE, which="all")
    np.testing.assert_array_equal(visits.gap_days_P, [365.0])


def test_a_cohort_appended_later_warns_at_the_old_rows_too_and_a_rerun_writes_the_same(tmp_path: Path) -> None:
    enter(write_people(tmp_path / "a", range(2), 1), tmp_path / "s", "north")
    first = tree(tmp_path / "s")
    other = write_people(tmp_path / "b", range(2), 2)
    copied = "sub-00/ses-03/anat/sub-00_ses-03_T1w.nii.gz"
    shutil.copyfile(tmp_path / "a" / copied, other / copied)
    enter(other, tmp_path / "s", "south")
    both = tree(tmp_path / "s")
    found = {
        record.full_name: [one.message for one in record.findings] for record in Store.open(tmp_path / "s").records
    }
    assert "equal content with south/sub-00_ses-03_T1w;" in found["north/sub-00_ses-03_T1w"][0]
    assert sum(map(len, found.values())) == 2
    for raw, cohort in (("a", "north"), ("b", "south")):
        enter(tmp_path / raw, tmp_path / "s", cohort)
        assert tree(tmp_path / "s") == both
    assert {name: both[name] for name in first if "/c/" in name} == {n: d for n, d in first.items() if "/c/" in n}
    rows = [record.row for record in Store.open(tmp_path / "s").records]
    assert all(later == earlier + 1 for earlier, later in pairwise(rows))
